"""This project's checkpoints written as plain Llamas: the same logits in transformers' own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fim_model.errors import CheckpointError
from fim_model.loading.checkpoint import load_model, save_int8
from fim_model.loading.headers import read_config
from fim_model.loading.llama_export import LlamaPrecision, export_llama
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.network.attention_mask import Attention
from gguf_files import write_own_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

IDS = torch.tensor([[15, 40, 7, 200, 99, 99, 260, 12, 230, 31]])


@pytest.fixture(params=["float", "int8"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = write_own_checkpoint(tmp_path / "own")
    if request.param == "int8":
        save_int8(load_model(folder), folder)
    return folder


@torch.inference_mode()
def test_transformers_llama_has_the_same_logits(folder: Path, tmp_path: Path) -> None:
    written = export_llama(folder, tmp_path / "llama")
    ours = load_model(folder)
    theirs = AutoModelForCausalLM.from_pretrained(written.path, attn_implementation="eager")
    assert type(theirs).__name__ == "LlamaForCausalLM"
    assert theirs.dtype == torch.float32
    positions = torch.arange(IDS.shape[1])[None]
    expected = ours.logits(ours(IDS, positions, Attention.CAUSAL))
    assert torch.allclose(theirs(IDS).logits, expected, atol=1e-4)
    assert written.bytes == (written.path / "model.safetensors").stat().st_size


def test_the_end_of_a_middle_ends_a_text_and_markers_are_one_token(
    folder: Path, tmp_path: Path
) -> None:
    written = export_llama(folder, tmp_path / "llama")
    tokenizer = read_tokenizer(folder)
    assert tokenizer.special.eom in read_config(written.path).eos_token_ids
    theirs = AutoTokenizer.from_pretrained(written.path)
    text = "<|fim_suffix|>\n  x = 1\n<|fim_prefix|>def f():\n    "
    special = tokenizer.special
    suffix, prefix = tokenizer.encode("\n  x = 1\n"), tokenizer.encode("def f():\n    ")
    assert theirs.encode(text) == [special.suffix, *suffix, special.prefix, *prefix]


@pytest.mark.parametrize(("precision", "size"), [("bf16", 2), ("f16", 2), ("f32", 4)])
def test_precisions(precision: LlamaPrecision, size: int, tmp_path: Path) -> None:
    folder = write_own_checkpoint(tmp_path / "own")
    written = export_llama(folder, tmp_path / "llama", precision)
    weights = sum(p.numel() for p in load_model(folder).parameters())
    assert 0 <= written.bytes - weights * size < 10_000


def test_the_bases_licence_goes_with_the_weights(tmp_path: Path) -> None:
    folder = write_own_checkpoint(tmp_path / "own")
    (folder / "LICENSE.base").write_text("Apache License 2.0")
    (folder / "provenance.json").write_text("{}")
    out = export_llama(folder, tmp_path / "llama").path
    assert (out / "LICENSE.base").read_text() == "Apache License 2.0"
    assert (out / "provenance.json").is_file()


def test_other_families_are_served_as_published(folder: Path, tmp_path: Path) -> None:
    export_llama(folder, tmp_path / "llama")
    with pytest.raises(CheckpointError, match="served as it was published"):
        export_llama(tmp_path / "llama", tmp_path / "again")
