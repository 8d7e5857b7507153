"""Growing the vocabulary of a trained model keeps its old tokens and their rows."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from fim_model.families.fim_layouts import OWN
from fim_model.loading.checkpoint import load_model, save_checkpoint
from fim_model.network.config import ModelConfig
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.prompt.window import fim_prompt
from fim_training.base.grow_vocabulary import grow, grow_model, main
from fim_training.base.train_tokenizer import train
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

PYTHON = "def moved(self, dx, dy):\n    return Point(self.x + dx, self.y + dy)\n" * 4
SCRIPT = (
    "export const answer = (value) => {\n  return value === undefined ? null : value;\n};\n" * 8
)
OLD, NEW = 290, 320


@pytest.fixture(scope="module")
def old() -> Tokenizer:
    return train([PYTHON], OLD)


@pytest.fixture(scope="module")
def grown(old: Tokenizer) -> tuple[Tokenizer, list[tuple[int, ...]]]:
    return grow(old, [SCRIPT, PYTHON], NEW)


def tiny(tokenizer: Tokenizer, *, tied: bool = True) -> TriModeTransformer:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, intermediate_size=32,
        mask_token_id=1, block_size=4, tie_word_embeddings=tied,
    )  # fmt: skip
    return TriModeTransformer(config).eval()


def test_old_tokens_keep_their_ids_and_new_ones_merge_them(old, grown) -> None:
    tokenizer, pieces = grown
    assert tokenizer.get_vocab_size() == NEW
    assert len(pieces) == NEW - OLD
    assert all(
        tokenizer.id_to_token(token_id) == old.id_to_token(token_id) for token_id in range(OLD)
    )
    for token, made_of in enumerate(pieces, OLD):
        spelled = "".join(old.id_to_token(token_id) for token_id in made_of)
        assert tokenizer.id_to_token(token) == spelled
        assert all(token_id < OLD for token_id in made_of)


def test_the_new_language_takes_fewer_tokens(old, grown) -> None:
    count = [len(tokenizer.encode(SCRIPT).ids) for tokenizer in (old, grown[0])]
    assert count[1] < 0.7 * count[0]


@given(text=st.one_of(st.text(), st.sampled_from([PYTHON, SCRIPT, "valuevalue", "undefinedx"])))
def test_text_round_trips_and_new_tokens_expand_to_the_old_ones(old, grown, text: str) -> None:
    tokenizer, pieces = grown
    ids = CodeTokenizer(tokenizer).encode(text)
    assert CodeTokenizer(tokenizer).decode_bytes(ids) == text.encode()
    unfolded = [
        piece for token in ids for piece in (pieces[token - OLD] if token >= OLD else [token])
    ]
    assert unfolded == CodeTokenizer(old).encode(text)


@pytest.mark.parametrize("tied", [True, False])
def test_a_new_token_is_initialised_to_the_mean_of_its_pieces(old, grown, tied: bool) -> None:
    tokenizer, pieces = grown
    model = tiny(old, tied=tied)
    larger = grow_model(model, pieces)
    assert larger.config.vocab_size == tokenizer.get_vocab_size()
    rows = larger.model.embed_tokens.weight
    assert torch.equal(rows[:OLD], model.model.embed_tokens.weight)
    for token, made_of in enumerate(pieces, OLD):
        torch.testing.assert_close(rows[token], rows[list(made_of)].mean(dim=0))
    assert (larger.lm_head.weight is rows) is tied
    assert torch.equal(larger.lm_head.weight[:OLD], model.lm_head.weight)


def corpus(folder: Path, *texts: str) -> Path:
    folder.mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "train.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return folder


def test_the_command_writes_a_checkpoint_to_train_on(old, tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_checkpoint(tiny(old), base, dtype=torch.float32)
    old.save(str(base / "tokenizer.json"))
    given_corpus = corpus(tmp_path / "corpus", SCRIPT, PYTHON)
    out = tmp_path / "out"
    arguments = ["--base", str(base), "--corpus", str(given_corpus), "--out", str(out)]
    assert main([*arguments, "--vocab-size", str(NEW)]) == 0
    tokenizer = CodeTokenizer.from_file(out / "tokenizer.json")
    assert tokenizer.vocab_size == load_model(out).config.vocab_size == NEW
    assert fim_prompt(load_model(out).config, tokenizer).layout is OWN


@pytest.mark.parametrize(
    ("size", "told"), [(OLD, "has 290 entries already"), (60_000, "gives only")]
)
def test_an_impossible_size_is_refused(old, tmp_path: Path, capsys, size, told) -> None:
    base = tmp_path / "base"
    save_checkpoint(tiny(old), base)
    old.save(str(base / "tokenizer.json"))
    given_corpus = corpus(tmp_path / "corpus", SCRIPT)
    out = tmp_path / "out"
    arguments = ["--base", str(base), "--corpus", str(given_corpus), "--out", str(out)]
    assert main([*arguments, "--vocab-size", str(size)]) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()
