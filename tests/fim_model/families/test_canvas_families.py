"""Models that read both ways: published files to logits, token ids and prompts.

Oracles: transformers' Qwen2 and Llama without a causal mask, and transformers' Qwen2 tokenizer,
whose words Dream's tokenizer has.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from canvas_checkpoints import (
    DREAM_CONFIG,
    LLADA_CONFIG,
    MERGES,
    WORDS,
    Tiny,
    dream,
    llada,
    open_dcoder,
)
from fim_model.decoding.commit_rules import parse_rule
from fim_model.errors import CheckpointError, ConfigError
from fim_model.families.architectures import FAMILIES, UNLOADABLE
from fim_model.infiller import Infiller
from fim_model.loading.checkpoint import load_model
from fim_model.loading.gguf_export import export_gguf
from fim_model.loading.headers import parameter_count, read_config, weight_shapes
from fim_model.loading.hub import DESCRIPTIONS
from fim_model.loading.inspection import inspect_checkpoint
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.network.attention_mask import Attention
from fim_model.network.config import ModelConfig
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.fim_prompt import FimPrompt
from fim_model.requests import CompletionRequest
from hypothesis import given, settings
from hypothesis import strategies as st

MAKERS: dict[str, Callable[..., Tiny]] = {"Dream": dream, "qwen2": open_dcoder, "llada": llada}
PREFIX, SUFFIX = "def area(width, height):\n    return ", "\n\nprint(area(2, 3))\n"


@pytest.mark.parametrize("name", MAKERS)
def test_logits_equal_those_of_the_published_layout(tmp_path: Path, name: str) -> None:
    tiny = MAKERS[name](tmp_path)
    ours = load_model(tmp_path)
    ids = torch.randint(len(WORDS), (1, 90), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = ours.logits(ours(ids, torch.arange(90)[None], Attention.BLOCK))[0]
    wanted = tiny.logits(ids[0].tolist())
    assert wanted.std() > 0.5
    assert (found - wanted).abs().max() < 1e-4
    assert ours.config.modes == ("diffusion",)
    assert ours.config.mask_id == tiny.mask


@pytest.mark.parametrize("name", MAKERS)
def test_tensors_are_named_as_in_the_files_and_back(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path)
    config = read_config(tmp_path)
    with torch.device("meta"):
        local = set(TriModeTransformer(config).state_dict())
    local -= {"lm_head.weight"} if config.tie_word_embeddings else set()
    stored = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert local == set(weight_shapes(config))
    assert {config.family.stored_name(name) for name in local} == stored.keys()
    assert {config.family.local_name(name) for name in stored} == local


def test_no_file_of_a_checkpoint_is_run(tmp_path: Path) -> None:
    """Every Python file in these folders ends the process that imports it."""
    for maker in (dream, llada):
        folder = maker(tmp_path / maker.__name__).folder
        assert len(list(folder.glob("*.py"))) >= 2
        Infiller.load(folder).infill(CompletionRequest(PREFIX, SUFFIX, max_tokens=4))


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("def re\n  =1234'sé—\t", max_size=60))
def test_words_of_vocabulary_files_are_those_of_the_published_tokenizer(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    from transformers import Qwen2Tokenizer

    folder = tmp_path_factory.getbasetemp() / "words"
    if not folder.exists():
        dream(folder)
    ours = read_tokenizer(folder)
    theirs = Qwen2Tokenizer(vocab={word: i for i, word in enumerate(WORDS)}, merges=MERGES)
    theirs.backend_tokenizer.normalizer = None  # NFC, which code must not be put through
    text = text.encode("utf-8", "replace").decode()
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    assert ours.decode(ours.encode(text)) == text


def test_a_text_that_spells_a_control_token_stays_text(tmp_path: Path) -> None:
    tiny = dream(tmp_path)
    tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.token_id("<|mask|>") == tiny.mask
    assert tokenizer.token_id("<|expand|>") == tiny.expand
    assert tokenizer.decode(tokenizer.encode("<|mask|>")) == "<|mask|>"
    assert tiny.mask not in tokenizer.encode("<|mask|>")
    assert tokenizer.decode([tiny.mask]) == ""


PROMPTS: dict[str, tuple[Callable[..., Tiny], str, Callable[[Tiny], tuple[list[int], list[int]]]]]
PROMPTS = {
    "DreamOn": (dream, "DreamOn", lambda tiny: ([tiny.begin or 0], [tiny.eos])),
    "Dream-Coder": (
        lambda folder: dream(folder, expand=None),
        "Dream",
        lambda tiny: ([tiny.begin or 0], [tiny.eos]),
    ),
    "DiffuCoder": (
        lambda folder: dream(folder, expand="<|dlm_pad|>"),
        "Dream",
        lambda tiny: ([tiny.begin or 0], [tiny.eos]),
    ),
    "Open-dCoder": (open_dcoder, "Open-dCoder", lambda tiny: ([], [])),
    "LLaDA": (llada, "masks between prefix and suffix", lambda tiny: ([tiny.begin or 0], [])),
    "LLaDA without a begin": (
        lambda folder: llada(folder, begins=False),
        "masks between prefix and suffix",
        lambda tiny: ([], []),
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_both_sides_stand_around_the_hole(tmp_path: Path, name: str) -> None:
    make, layout, around = PROMPTS[name]
    tiny = make(tmp_path)
    infiller = Infiller.load(tmp_path)
    first, last = around(tiny)
    encode = infiller.tokenizer.encode
    wanted = [*first, *encode(PREFIX), *encode(SUFFIX), *last]
    assert infiller.prompt(CompletionRequest(PREFIX, SUFFIX)) == wanted
    assert infiller.fim.layout.name == layout
    assert infiller.fim.expand == tiny.expand
    assert infiller.fim.layout.verified == (tiny.shifted)
    # A hole in an empty document has something to stand behind.
    assert infiller.infill(CompletionRequest("", "", max_tokens=3)).items


def test_a_config_may_name_the_expand_token(tmp_path: Path) -> None:
    plain = dream(tmp_path / "plain", expand=None)
    named = dream(tmp_path / "named", expand=None, expand_token_id=plain.mask + 1)
    fim = FimPrompt.for_model(read_config(named.folder), read_tokenizer(named.folder))
    assert (fim.layout.name, fim.expand) == ("DreamOn", plain.mask + 1)


def test_a_prompt_stays_within_what_the_model_was_trained_on(tmp_path: Path) -> None:
    infiller = Infiller.load(dream(tmp_path).folder)
    assert read_config(tmp_path).max_position_embeddings == 2048
    request = CompletionRequest("x = 1\n" * 2000, "y = 2\n" * 2000, max_tokens=200)
    prompt = infiller.prompt(request)
    assert 1500 < len(prompt) <= 2048 - 200


@pytest.mark.parametrize("mask_token", ["[MASK]", {"content": "[MASK]"}])
def test_a_mask_token_of_the_tokenizer_makes_qwen2_read_both_ways(
    tmp_path: Path, mask_token: Any
) -> None:
    open_dcoder(tmp_path / "masked", mask_token=mask_token)
    open_dcoder(tmp_path / "plain", mask_token=None)
    assert read_config(tmp_path / "masked").family is FAMILIES["qwen2, masked diffusion"]
    assert read_config(tmp_path / "plain").family is FAMILIES["qwen2"]


def test_rows_are_complete() -> None:
    for family in FAMILIES.values():
        parse_rule(family.rule)
        assert family.masked in {"", *FAMILIES}
        if family.full_attention:
            assert family.modes == ("diffusion",)
            assert family.mask == "required"
            assert family.models
            assert not any(layout.joined for layout in family.layouts)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (LLADA_CONFIG | {"block_type": "sequential"}, "block_type 'sequential'"),
        (LLADA_CONFIG | {"activation_type": "swiglu"}, "activation_type 'swiglu'"),
        (LLADA_CONFIG | {"layer_norm_type": "default"}, "layer_norm_type 'default'"),
        ({k: v for k, v in LLADA_CONFIG.items() if k != "rope"}, "rope None"),
        (LLADA_CONFIG | {"alibi": True}, "alibi True"),
        (LLADA_CONFIG | {"include_bias": True}, "include_bias True"),
        (LLADA_CONFIG | {"mask_token_id": 900}, "mask_token_id 900 is outside"),
        (DREAM_CONFIG | {"use_sliding_window": True}, "use_sliding_window True"),
        (DREAM_CONFIG | {"use_mrope": True}, "use_mrope True"),
        (DREAM_CONFIG | {"expand_token_id": 400}, "expand_token_id 400 is outside"),
        (DREAM_CONFIG | {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        *(({"model_type": name}, f"model_type '{name}' is not supported: this family")
          for name in UNLOADABLE),
    ],
)  # fmt: skip
def test_what_is_not_done_here_is_refused_by_name(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_hf(raw)
    assert message in str(caught.value)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no merges": (lambda folder: (folder / "merges.txt").unlink(), "merges.txt: the file is mis"),
    "merges of three": (
        lambda folder: (folder / "merges.txt").write_text("a b c\n"),
        "'a b c' is not a merge",
    ),
    "an unknown merge": (
        lambda folder: (folder / "merges.txt").write_text("zz qq\n"),
        "vocab.json: its tokenizer cannot be used for code",
    ),
    "another tokenizer": (
        lambda folder: change(folder, "tokenizer_config.json", tokenizer_class="BertTokenizer"),
        "how 'BertTokenizer' cuts text into words is not known",
    ),
    "no description": (
        lambda folder: (folder / "tokenizer_config.json").unlink(),
        "tokenizer_config.json: the file is missing",
    ),
    "a clash of ids": (
        lambda folder: change(folder, "added_tokens.json", **{"<|other|>": 3}),
        "belongs to an added token as well",
    ),
    "a broken table": (
        lambda folder: change(folder, "tokenizer_config.json", added_tokens_decoder={"x": 1}),
        "added_tokens_decoder is not a table",
    ),
    "no mask within the vocabulary": (
        lambda folder: change(folder, "config.json", mask_token_id=9999),
        "mask_token_id 9999 is outside",
    ),
}


def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("name", BROKEN)
def test_unusable_files_are_named(tmp_path: Path, name: str) -> None:
    harm, message = BROKEN[name]
    dream(tmp_path)
    harm(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        Infiller.load(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_everything_that_is_read_is_downloaded(tmp_path: Path) -> None:
    files = {path.name for path in dream(tmp_path).folder.glob("*")}
    unread = {"special_tokens_map.json"}
    wanted = {name for name in files if name.endswith((".json", ".txt"))} - unread
    assert wanted <= {*DESCRIPTIONS}


SIZE_7B = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
}  # fmt: skip
SIZE_8B = {
    "d_model": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32, "mlp_hidden_size": 12288,
    "embedding_size": 126464, "vocab_size": 126464,
}  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "billions"), [(DREAM_CONFIG | SIZE_7B, 7.616), (LLADA_CONFIG | SIZE_8B, 8.016)]
)
def test_published_sizes_have_the_published_number_of_parameters(
    raw: dict[str, Any], billions: float
) -> None:
    assert round(parameter_count(ModelConfig.from_hf(raw)) / 1e9, 3) == billions


def test_such_a_model_is_not_exported_as_gguf(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="both ways"):
        export_gguf(dream(tmp_path).folder, tmp_path / "out.gguf")


def test_a_report_says_what_works_and_what_was_never_run(tmp_path: Path) -> None:
    report = inspect_checkpoint(str(dream(tmp_path).folder))
    assert (report.family, report.modes, report.commit_rule) == (
        "Dream", ("diffusion",), "entropy:0.1",
    )  # fmt: skip
    assert report.fim_layout.startswith("DreamOn: <|beginoftext|> prefix hole suffix <|endoftext|>")
    assert "Dream-org/DreamOn-v0-7B" in report.models
    assert "never run on published weights" in report.tested
    assert "holes whose length the model finds" in report.works
    assert {"next edits", "chat and instructions"} <= {*report.lacks}
    assert report.needed_bytes["bfloat16"] > report.weight_bytes["bfloat16"]
    fixed = inspect_checkpoint(str(dream(tmp_path / "fixed", expand=None).folder))
    assert "holes whose length the model finds" in fixed.lacks
