"""A checkpoint's optional curve of confidence by hole length, for native infilling."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from fim_model.decoding.auto import ModeChoice
from fim_model.decoding.modes import ModeOptions
from fim_model.decoding.native import LENGTHS, NATIVE_LENGTHS, LengthCalibration
from fim_model.errors import CheckpointError
from fim_model.infiller import Infiller
from fim_model.loading.checkpoint import save_checkpoint
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import AUTO, NATIVE, CompletionRequest


@pytest.fixture
def checkpoint(
    tiny: Any, tiny_tokenizer: CodeTokenizer, tiny_tokenizer_file: Path, tmp_path: Path
) -> Path:
    mask = tiny_tokenizer.special.mask
    vocab_size = tiny_tokenizer.vocab_size
    folder = tmp_path / "checkpoint"
    save_checkpoint(tiny.model(5, vocab_size=vocab_size, mask_token_id=mask, block_size=8), folder)
    shutil.copy(tiny_tokenizer_file, folder / "tokenizer.json")
    return folder


@pytest.mark.parametrize("mode", [NATIVE, AUTO])
def test_the_loaded_curve_decides_the_length(checkpoint: Path, mode: str) -> None:
    """The curve makes one length look a hundred times better than expected."""
    for length in (2, 6):
        curve = LengthCalibration({size: 0.01 if size == length else 1.0 for size in LENGTHS})
        curve.write(checkpoint)
        infiller = Infiller.load(checkpoint, device="cpu", auto=ModeChoice(mode=NATIVE))
        request = CompletionRequest("def f(x):\n    return ", "\n\n\nprint(f(3))\n", mode=mode)
        result = infiller.infill(request)
        assert result.stats.mode == NATIVE
        assert result.stats.tokens == length


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"mean": 3}', '{"mean": {"x": 0.5}}', '{"mean": {"3": 0}}',
             '{"mean": {"0": 0.5}}', '{"mean": {"3": 1.5}}', '{"mean": {"3": NaN}}'],
)  # fmt: skip
def test_a_broken_file_is_named_before_weights_are_read(checkpoint: Path, text: str) -> None:
    (checkpoint / NATIVE_LENGTHS).write_text(text)
    with pytest.raises(CheckpointError, match=r"native_lengths.json is no curve .*; delete it"):
        Infiller.load(checkpoint, device="cpu")


def test_without_a_file_nothing_is_corrected(checkpoint: Path) -> None:
    assert Infiller.load(checkpoint, device="cpu").options == ModeOptions()
