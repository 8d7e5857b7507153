"""Adopting a base: weights are kept, the vocabulary is pruned, our special tokens are added."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fim_model.errors import CheckpointError, ConfigError
from fim_model.families.fim_layouts import JOINED
from fim_model.loading.attribution import PROVENANCE
from fim_model.loading.checkpoint import load_model
from fim_model.network.attention_mask import Attention
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.prompt.window import fim_prompt
from fim_training.base.adopt import (
    EMBEDDINGS,
    Base,
    adopt,
    count_tokens,
    main,
    prune_vocabulary,
    read_base,
    write_base,
)
from fim_training.base.train_tokenizer import SPECIAL_TOKENS
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

pytest.importorskip("gguf", reason="the package gguf is not installed")

from checkpoints import sentence_piece
from fim_model.loading.gguf_export import export_gguf
from gguf_files import TEXT, llama, smollm_tokenizer, write_gguf

TEXTS = [TEXT, "def moved(x, y):\n    return Point(x + 1, y - 2)\n"]
SIZE = 16 + 256 + 10


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("base") / "tiny.gguf", smollm_tokenizer())


@pytest.fixture(scope="module")
def base(file: Path) -> Base:
    return read_base(str(file))


@pytest.fixture(scope="module")
def pruned(base: Base) -> Base:
    """The base, adopted with ten of its merges."""
    return adopt(base, prune_vocabulary(base.tokenizer, count_tokens(base.tokenizer, TEXTS), SIZE))


@torch.inference_mode()
def logits(base: Base, ids: list[int]) -> torch.Tensor:
    model = TriModeTransformer(base.config)
    model.load_state_dict(base.weights | {"lm_head.weight": base.weights[EMBEDDINGS]})
    model.eval()
    positions = torch.arange(len(ids))[None]
    return model.logits(model(torch.tensor([ids]), positions, Attention.CAUSAL))[0]


def encoder(base: Base, *, own: bool = False) -> CodeTokenizer:
    tokenizer = Tokenizer.from_str(json.dumps(base.tokenizer))
    return CodeTokenizer(tokenizer) if own else CodeTokenizer(tokenizer, None)


def texts_of(base: Base) -> list[str]:
    """Each id's token."""
    vocab: dict[str, int] = base.tokenizer["model"]["vocab"]
    return sorted(vocab, key=vocab.__getitem__)


def kept_ids(base: Base, adopted: Base) -> list[tuple[int, int]]:
    """(id in the base, id after adoption) of every common token, except special tokens."""
    vocab: dict[str, int] = base.tokenizer["model"]["vocab"]
    pairs = enumerate(texts_of(adopted))
    return [(vocab[text], i) for i, text in pairs if text in vocab and text not in SPECIAL_TOKENS]


# Reading.


def test_a_gguf_base_gives_the_logits_of_transformers(base: Base, file: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    ids = encoder(base).encode(TEXT)
    with torch.inference_mode():
        wanted = theirs.eval()(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(logits(base, ids), wanted, rtol=1e-4, atol=1e-4)


def test_a_folder_gives_the_same_model_as_its_gguf_file(base: Base, tmp_path: Path) -> None:
    """Up to the error of the file's quantisation."""
    llama(smollm_tokenizer()).save_pretrained(tmp_path)
    smollm_tokenizer().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "LICENSE").write_text("Apache")
    folder = read_base(str(tmp_path))
    assert folder.licences == (tmp_path / "LICENSE",)
    assert folder.provenance["name"] == tmp_path.name
    assert folder.weights.keys() == base.weights.keys()
    for name, weight in base.weights.items():
        assert (folder.weights[name] - weight).abs().max() < 0.02 * weight.abs().max()


def test_a_base_shipped_in_a_package(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the package's name, without importing the package."""
    package = tmp_path / "some_base"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "model.gguf").write_bytes(file.read_bytes())
    metadata = tmp_path / "some_base-1.2.dist-info"
    (metadata / "licenses").mkdir(parents=True)
    (metadata / "METADATA").write_text("Name: some-base\nVersion: 1.2\n")
    (metadata / "top_level.txt").write_text("some_base\n")
    (metadata / "licenses" / "LICENSE").write_text("Apache License 2.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = read_base("some_base")
    assert found.provenance == {
        "name": "tiny", "licence": "apache-2.0", "file": "model.gguf", "package": "some-base 1.2",
    }  # fmt: skip
    assert found.licences == (metadata / "licenses" / "LICENSE",)


# Pruning.


def test_adopting_every_token_changes_no_logit(base: Base) -> None:
    """Without pruning: rows move to their new ids, everything else is unchanged."""
    control = {token["content"] for token in base.tokenizer["added_tokens"]}
    adopted = adopt(base, [text for text in texts_of(base) if text not in control])
    ids, new_ids = encoder(base).encode(TEXT), encoder(adopted, own=True).encode(TEXT)
    assert [texts_of(base)[i] for i in ids] == [texts_of(adopted)[i] for i in new_ids]
    old, new = zip(*kept_ids(base, adopted), strict=True)
    assert len(old) == len(texts_of(base)) - len(control)
    ours, theirs = logits(adopted, new_ids), logits(base, ids)
    torch.testing.assert_close(ours[:, list(new)], theirs[:, list(old)], rtol=1e-5, atol=1e-5)


def test_pruning_changes_no_logits_for_texts_of_kept_tokens(base: Base, pruned: Base) -> None:
    assert len(texts_of(pruned)) == SIZE < len(texts_of(base))
    kept = dict(kept_ids(base, pruned))
    tried = 0
    for text in ("def", "return", "self", "    return", " dx", "x, y", ")\n", TEXT, "12 + 7", "é"):
        ids = encoder(base).encode(text)
        if any(token_id not in kept for token_id in ids):
            continue
        tried += 1
        new_ids = encoder(pruned, own=True).encode(text)
        assert new_ids == [kept[token_id] for token_id in ids]
        old, new = list(kept), list(kept.values())
        ours, theirs = logits(pruned, new_ids)[:, new], logits(base, ids)[:, old]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert tried >= 4


@given(text=st.text("def mov(x,y)\n rtuPnse+-12", max_size=30))
def test_kept_tokens_are_closed_under_merges(base: Base, pruned: Base, text: str) -> None:
    kept = dict(kept_ids(base, pruned))
    ids = encoder(base).encode(text)
    if all(token_id in kept for token_id in ids):
        assert encoder(pruned, own=True).encode(text) == [kept[token_id] for token_id in ids]


def test_the_most_frequent_tokens_are_kept(base: Base) -> None:
    counts = count_tokens(base.tokenizer, TEXTS)
    tokens = prune_vocabulary(base.tokenizer, counts, SIZE)
    long_ones = {text for text in tokens if len(text) > 1}
    most = next(texts_of(base)[i] for i, _ in counts.most_common() if len(texts_of(base)[i]) > 1)
    assert 0 < len(long_ones) <= 10
    assert most in long_ones
    vocab = base.tokenizer["model"]["vocab"]
    assert [vocab[text] for text in tokens] == sorted(vocab[text] for text in tokens)


@given(data=st.binary(max_size=40))
def test_any_text_round_trips(pruned: Base, data: bytes) -> None:
    """Every byte has a token, so any UTF-8 text round-trips, as does each single byte."""
    tokenizer = encoder(pruned, own=True)
    text = data.decode("utf-8", "replace")
    assert tokenizer.decode_bytes(tokenizer.encode(text)) == text.encode()
    single = {tokenizer.token_bytes(i): i for i in range(tokenizer.vocab_size)}
    assert tokenizer.decode_bytes([single[bytes([byte])] for byte in data]) == data


def test_bytes_that_the_base_lacks_are_added() -> None:
    raw = json.loads(smollm_tokenizer().to_str())
    byte = "Ā"  # 0x00
    tokens = [text for text in raw["model"]["vocab"] if text != byte]
    raw["model"]["vocab"] = {text: i for i, text in enumerate(tokens)}
    raw["model"]["merges"] = [pair for pair in raw["model"]["merges"] if byte not in "".join(pair)]
    assert prune_vocabulary(raw, Counter(), SIZE)[-1] == byte


def test_merges_may_be_stored_as_strings(base: Base) -> None:
    counts = count_tokens(base.tokenizer, TEXTS)
    model = base.tokenizer["model"]
    older = model | {"merges": [" ".join(pair) for pair in model["merges"]]}
    tokens = prune_vocabulary(base.tokenizer | {"model": older}, counts, SIZE)
    assert tokens == prune_vocabulary(base.tokenizer, counts, SIZE)


# Roles.


def test_special_tokens_have_ids_0_to_15(pruned: Base) -> None:
    assert texts_of(pruned)[:16] == list(SPECIAL_TOKENS)
    assert len(SPECIAL_TOKENS) == 16
    tokenizer = encoder(pruned, own=True)
    assert tokenizer.special.mask == pruned.config.mask_token_id
    assert all(tokenizer.token_bytes(i) == b"" for i in range(16))
    assert fim_prompt(pruned.config, tokenizer).layout is JOINED


def test_new_rows_are_initialised_as_specified(base: Base, pruned: Base) -> None:
    """From a token of similar purpose or from the mean, with a little noise to make them
    distinct.
    """
    old, rows = base.weights[EMBEDDINGS], pruned.weights[EMBEDDINGS]
    vocab, spread = base.tokenizer["model"]["vocab"], base.weights[EMBEDDINGS].std()
    ids = {text: i for i, text in enumerate(SPECIAL_TOKENS)}
    for role, source in (
        ("<|eom|>", old[vocab["<|endoftext|>"]]),
        ("<|fim_suffix|>", old[vocab["<file_sep>"]]),
        ("<|file|>", old[vocab["<filename>"]]),
        ("<|mask|>", old.mean(dim=0)),
    ):
        distance = rows[ids[role]] - source
        assert 0 < distance.std() < 0.05 * spread
    assert not torch.equal(rows[ids["<|eom|>"]], rows[ids["<|eot|>"]])
    for before, after in kept_ids(base, pruned):
        assert torch.equal(rows[after], old[before])


def test_the_seed_determines_the_noise(base: Base) -> None:
    tokens = prune_vocabulary(base.tokenizer, Counter(), SIZE)
    rows = [adopt(base, tokens, seed).weights[EMBEDDINGS] for seed in (0, 0, 1)]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


# Writing.


def test_licence_and_provenance_are_written(pruned: Base, tmp_path: Path) -> None:
    for name in ("LICENSE.txt", "NOTICE"):
        (tmp_path / name).write_text(f"the base's {name}")
    licences = (tmp_path / "LICENSE.txt", tmp_path / "NOTICE")
    out = tmp_path / "out"
    write_base(replace(pruned, licences=licences), out)
    assert (out / "LICENSE.base.txt").read_text() == "the base's LICENSE.txt"
    assert (out / "NOTICE.base").read_text() == "the base's NOTICE"
    about = json.loads((out / PROVENANCE).read_text())
    assert about == {"name": "tiny", "licence": "apache-2.0", "file": "tiny.gguf"}


def corpus(folder: Path) -> Path:
    folder.mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    (folder / "train.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return folder


def test_the_command_writes_a_checkpoint_to_train_on(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--base", str(file), "--corpus", str(corpus(tmp_path / "corpus"))]
    arguments += ["--vocab-size", str(SIZE), "--window", "96", "--out", str(out)]
    assert main([*arguments, "--every", "1"]) == 0
    assert f"{SIZE} tokens, which cover" in capsys.readouterr().err
    tokenizer, model = CodeTokenizer.from_file(out / "tokenizer.json"), load_model(out)
    assert model.config.max_position_embeddings == 96
    assert fim_prompt(model.config, tokenizer).layout is JOINED
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    assert {"self_speculation", "ar"} <= set(model.config.modes)


# Errors.


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err


def test_an_unsupported_architecture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_gguf(tmp_path / "m.gguf", smollm_tokenizer(), architecture="gemma")
    arguments = ["--base", str(file), "--corpus", str(corpus(tmp_path / "corpus"))]
    told = refused([*arguments, "--vocab-size", "300", "--out", str(tmp_path / "out")], capsys)
    assert "the architecture is 'gemma'" in told
    assert not (tmp_path / "out").exists()


def test_no_corpus(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--base", str(file), "--corpus", str(tmp_path / "none"), "--vocab-size", "300"]
    assert "train.jsonl.gz; build it" in refused([*arguments, "--out", str(tmp_path)], capsys)


def test_no_such_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--base", "no_such_base", "--corpus", str(corpus(tmp_path / "corpus"))]
    told = refused([*arguments, "--vocab-size", "300", "--out", str(tmp_path / "out")], capsys)
    assert "no_such_base: there is no such file" in told


def test_an_untied_head_is_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", smollm_tokenizer(), tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match="tied embeddings and without biases"):
        read_base(str(file))


def test_biases_are_refused(tmp_path: Path) -> None:
    llama(smollm_tokenizer(), attention_bias=True).save_pretrained(tmp_path)
    smollm_tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="tied embeddings and without biases"):
        read_base(str(tmp_path))


def test_a_sentence_piece_tokenizer_is_refused(tmp_path: Path) -> None:
    """Though the network is of the right shape: its tokens would be read as other text."""
    for number, tokenizer in enumerate((sentence_piece(), sentence_piece(metaspace=True))):
        folder = tmp_path / str(number)
        llama(tokenizer).save_pretrained(folder)
        tokenizer.save(str(folder / "tokenizer.json"))
        with pytest.raises(CheckpointError, match="only models with a byte-level BPE tokenizer"):
            read_base(str(folder))
    gguf = export_gguf(folder, tmp_path / "m.gguf").path
    with pytest.raises(CheckpointError, match="only models with a byte-level BPE tokenizer"):
        read_base(str(gguf))


def test_an_empty_corpus_is_refused(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "corpus"
    empty.mkdir()
    (empty / "train.jsonl.gz").write_bytes(gzip.compress(b""))
    arguments = ["--base", str(file), "--corpus", str(empty), "--vocab-size", "300"]
    told = refused([*arguments, "--out", str(tmp_path / "out")], capsys)
    assert told == f"error: {empty}: its training texts are empty; build it again\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 16 + 255])
def test_a_vocabulary_too_small_for_special_tokens_and_bytes(base: Base, size: int) -> None:
    with pytest.raises(ConfigError, match=f"of {size} is too small; at least 272"):
        prune_vocabulary(base.tokenizer, Counter(), size)


def test_the_smallest_vocabulary_is_special_tokens_and_bytes(base: Base) -> None:
    tokens = prune_vocabulary(base.tokenizer, count_tokens(base.tokenizer, TEXTS), 16 + 256)
    assert len(tokens) == 256
    assert all(len(text) == 1 for text in tokens)
