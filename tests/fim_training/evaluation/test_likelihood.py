"""How likely a model finds what stood in a hole."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fim_model.decoding.reference import causal_logits
from fim_model.infiller import Infiller
from fim_model.loading.checkpoint import load_model
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.requests import CompletionRequest
from fim_training.evaluation import likelihood
from fim_training.evaluation.heldout_holes import Document, HeldoutHole, Window, draw_holes
from fim_training.evaluation.likelihood import HoleNats, gain, hole_nats, main, summary
from small_models import likely
from tiny_checkpoint import write_tiny_checkpoint

SOURCE = Path(likelihood.__file__).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def holes() -> list[HeldoutHole]:
    return draw_holes([Document("p", "a.py", SOURCE)], "mid_word", 3, seed=1)


def test_every_token_and_the_end_count(checkpoint: Path, holes: list[HeldoutHole]) -> None:
    """For a model to which all tokens are equal."""
    tokenizer = read_tokenizer(checkpoint)
    model = likely(load_model(checkpoint).config, 0, 0.0)
    for hole, found in zip(holes, hole_nats(model, tokenizer, holes), strict=True):
        assert found.tokens >= 2
        assert found.nats == pytest.approx(found.tokens * math.log(tokenizer.vocab_size), rel=1e-5)
        assert found.end == pytest.approx(math.log(tokenizer.vocab_size), rel=1e-5)
        assert found.kind == hole.kind


def test_a_hole_stands_behind_the_servers_prompt(
    checkpoint: Path, holes: list[HeldoutHole]
) -> None:
    """Equals the plain model's probabilities of what is typed of the word, the answer, the end."""
    model, tokenizer = load_model(checkpoint), read_tokenizer(checkpoint)
    infiller = Infiller.load(checkpoint)
    for hole, found in zip(holes, hole_nats(model, tokenizer, holes), strict=True):
        seen = hole.hole(Window())
        request = CompletionRequest(seen.prefix, seen.suffix, seen.path, mode="ar")
        prompt, typed = infiller.prompt(request), infiller.fim.split(seen.prefix)[1]
        middle = [*tokenizer.encode(typed + hole.answer), infiller.fim.eom]
        logits = causal_logits(model, [*prompt, *middle])[len(prompt) - 1 : -1]
        nats = F.cross_entropy(logits, torch.tensor(middle), reduction="none")
        assert found.tokens == len(middle)
        assert found.nats == pytest.approx(float(nats.sum()), rel=1e-4)
        assert found.end == pytest.approx(float(nats[-1]), rel=1e-4)


def test_differences_are_between_the_same_holes() -> None:
    worse = [HoleNats("line", 2, nats, 0.5) for nats in (4.0, 6.0, 10.0)]
    better = [replace(hole, nats=hole.nats - 1.0) for hole in worse]
    assert gain(better, worse) == (1.0, 0.0)
    assert gain(worse, better)[0] == -1.0
    assert asdict(summary(worse)) == {
        "n": 3, "a_token": pytest.approx(20 / 6), "a_hole": pytest.approx(20 / 3), "end": 0.5
    }  # fmt: skip


def test_the_command(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "heldout.jsonl.gz"
    with gzip.open(data, "wt") as file:
        file.write(json.dumps({"project": "p", "path": "a.py", "text": SOURCE}) + "\n")
    command = ["--data", str(data), "--model", str(checkpoint), "--per-kind", "2", "--threads", "1"]
    beside = ["--beside", str(write_tiny_checkpoint(tmp_path / "same"))]
    assert main([*command, *beside, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[str(checkpoint)]["all"]["n"] == 10
    assert found[str(tmp_path / "same")]["gain_of_first"] == [0.0, 0.0]
    assert main([*command, *beside]) == 0
    assert "saves 0.00 ± 0.00 nats a hole" in capsys.readouterr().out
    assert main([*command[:3], str(tmp_path), *command[4:]]) == 2
    assert "error" in capsys.readouterr().err
