"""The curve that native infilling compares lengths by: measured, kept, loaded, used."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fim_model.decoding import reference
from fim_model.decoding.auto import ModeChoice
from fim_model.decoding.modes import ModeOptions
from fim_model.decoding.native import LENGTHS, NATIVE_LENGTHS, LengthCalibration
from fim_model.errors import CheckpointError
from fim_model.infiller import Infiller
from fim_model.loading.checkpoint import save_checkpoint
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import AUTO, NATIVE, CompletionRequest
from fim_training.evaluation.heldout_holes import Document
from fim_training.shipping.native_lengths import (
    Place,
    draw_places,
    first_confidences,
    main,
    measure,
)

PLACE = Place("def f(x):\n    return ", "\n\n\nprint(f(3))\n", 3)


@pytest.fixture(scope="module")
def infiller(tiny: Any, tiny_tokenizer: CodeTokenizer) -> Infiller:
    special = tiny_tokenizer.special
    model = tiny.model(
        5, vocab_size=tiny_tokenizer.vocab_size, mask_token_id=special.mask, block_size=8
    )
    return Infiller(model, tiny_tokenizer)


@pytest.fixture(scope="module")
def documents(tiny: Any) -> list[Document]:
    return [Document(file.path.split("/")[0], file.path, file.text) for file in tiny.files]


def test_a_confidence_is_that_of_the_first_forward(infiller: Infiller) -> None:
    """Against the plain reference, for the lengths that fit a block beside the suffix head."""
    found = first_confidences(infiller, PLACE)
    assert set(found) == set(LENGTHS)
    prompt = infiller.prompt(CompletionRequest(PLACE.prefix, PLACE.suffix, mode=NATIVE))
    head = infiller.tokenizer.encode(PLACE.suffix)[:2]
    for length in (1, 2, 6):
        block = [infiller.model.config.mask_id] * length + head
        rows = reference.block_logits(infiller.model, prompt, block)[:length]
        assert found[length] == pytest.approx(float(rows.softmax(-1).amax(-1).mean()), rel=1e-3)


def test_the_curve_is_the_mean_over_the_places(infiller: Infiller) -> None:
    other = Place("import re\n", "x = 1\n", 5)
    told: list[int] = []
    curve = measure(infiller, [PLACE, other], told.append)
    one, two = first_confidences(infiller, PLACE), first_confidences(infiller, other)
    assert curve.mean == pytest.approx({size: (one[size] + two[size]) / 2 for size in LENGTHS})
    assert told == [1, 2]


def test_places_are_of_real_text_and_of_all_lengths(
    documents: list[Document], tiny_tokenizer: CodeTokenizer
) -> None:
    places = draw_places(documents, tiny_tokenizer, 33, seed=2)
    assert places == draw_places(documents, tiny_tokenizer, 33, seed=2)
    assert places != draw_places(documents, tiny_tokenizer, 33, seed=3)
    assert sorted(place.length for place in places) == sorted(LENGTHS * 3)
    for place in places:
        text = next(one.text for one in documents if place.prefix and place.prefix in one.text)
        assert place.suffix in text


@pytest.mark.parametrize(
    ("count", "texts", "message"),
    [
        (0, ["x = 1\n" * 99], "0 places: at least one is needed"),
        (5, [], "only 0 of 5 places found; use more documents"),
        (5, ["", "x"], "of 5 places found; use more documents"),
    ],
)
def test_too_little_text_is_named(
    tiny_tokenizer: CodeTokenizer, count: int, texts: list[str], message: str
) -> None:
    few = [Document("p", "a.py", text) for text in texts]
    with pytest.raises(ValueError, match=message):
        draw_places(few, tiny_tokenizer, count, seed=0)


def test_a_causal_model_has_no_curve(tiny: Any, infiller: Infiller) -> None:
    causal = Infiller(infiller.model, infiller.tokenizer)
    causal.model = tiny.model(0, mask_token_id=None)
    with pytest.raises(ValueError, match="denoises no blocks"):
        measure(causal, [PLACE])


@pytest.fixture
def checkpoint(infiller: Infiller, tiny_tokenizer_file: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    save_checkpoint(infiller.model, folder)
    shutil.copy(tiny_tokenizer_file, folder / "tokenizer.json")
    return folder


def test_the_command_measures_what_loading_then_uses(
    checkpoint: Path,
    documents: list[Document],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "heldout.jsonl.gz"
    lines = [{"project": one.project, "path": one.path, "text": one.text} for one in documents]
    data.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    asked = ["--data", str(data), "--model", str(checkpoint), "--places", "3"]
    assert main(asked) == 0
    assert not (checkpoint / NATIVE_LENGTHS).exists()
    assert main([*asked, "--write"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    loaded = Infiller.load(checkpoint, device="cpu")
    assert {str(size): phi for size, phi in loaded.options.lengths.mean.items()} == printed["mean"]
    assert set(loaded.options.lengths.mean) == set(LENGTHS)


@pytest.mark.parametrize("mode", [NATIVE, AUTO])
def test_the_loaded_curve_decides(checkpoint: Path, mode: str) -> None:
    """A curve that makes one length look a hundred times better than expected."""
    for length in (2, 6):
        curve = LengthCalibration({size: 0.01 if size == length else 1.0 for size in LENGTHS})
        curve.write(checkpoint)
        infiller = Infiller.load(checkpoint, device="cpu", auto=ModeChoice(mode=NATIVE))
        result = infiller.infill(CompletionRequest(PLACE.prefix, PLACE.suffix, mode=mode))
        assert result.stats.mode == NATIVE
        assert result.stats.tokens == length


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"mean": 3}', '{"mean": {"x": 0.5}}', '{"mean": {"3": 0}}',
             '{"mean": {"0": 0.5}}', '{"mean": {"3": 1.5}}', '{"mean": {"3": NaN}}'],
)  # fmt: skip
def test_a_broken_file_is_named_before_weights_are_read(checkpoint: Path, text: str) -> None:
    (checkpoint / NATIVE_LENGTHS).write_text(text)
    with pytest.raises(CheckpointError, match=r"native_lengths.json is no curve .* or delete it"):
        Infiller.load(checkpoint, device="cpu")


def test_without_a_file_nothing_is_corrected(checkpoint: Path) -> None:
    assert Infiller.load(checkpoint, device="cpu").options == ModeOptions()


def test_bad_input_is_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path / "none.gz"), "--model", str(checkpoint)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
