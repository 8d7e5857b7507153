"""Evaluation of next edits: an oracle is always right, a silent model never."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from fim_model.calibration.edit_priors import EDIT_PRIORS, EditPriors
from fim_model.infiller import Infiller
from fim_model.requests import Rewrite, RewriteRequest
from fim_training.evaluation.edit_sessions import KINDS, draw_sessions, line_changes
from fim_training.evaluation.heldout_holes import Document
from tiny_checkpoint import write_tiny_checkpoint

from fim_server.bench.edit_priors_sweep import (
    DRAFT_PRIORS,
    OWN_PRIORS,
    JudgedSessions,
    JudgedText,
    best,
)
from fim_server.bench.next_edits import evaluate_edits, halves, judged
from fim_server.cli import main

CODE = """\
import json
import logging
import pathlib


def load(source, limit):
    handle = pathlib.Path(source).open()
    orders = json.load(handle)
    handle.close()
    logging.info("loaded %d orders", len(orders))
    return orders[:limit]


def total(orders, rate):
    amount = 0
    for order in orders:
        amount += order.price * rate
        record(order, amount, "total")
    record(None, amount, "total")
    return round(amount, 50)


def main(source, limit, rate):
    orders = load(source, limit)
    return total(orders, rate)
"""
DOCUMENTS = [Document("orders", "src/orders.py", CODE)]


class Oracle:
    """Writes the wanted edits of every session; if `eager`, also edits where none is wanted."""

    def __init__(self, *, eager: bool = False) -> None:
        self.sessions = {
            session.text: session
            for kind in (*KINDS, "lone")
            for session in draw_sessions(DOCUMENTS, kind, 3, 0)
        }
        self.eager = eager

    async def ask(self, request: RewriteRequest) -> Rewrite:
        text = request.prefix + request.old + request.suffix
        session = self.sessions.get(text)
        first = request.prefix.count("\n")
        lines = request.old.split("\n")
        end = first + len(lines)
        if session is None:
            lines = [f"{line} # better" for line in lines] if self.eager else lines
        else:
            for low, high, new in sorted(session.wanted, reverse=True):
                if first <= low and high <= end:
                    lines[low - first : high - first] = new
        changed = "\n".join(lines)
        gain = 0.0 if changed == request.old else 9.0
        drafts = tuple(gain if draft == changed else -99.0 for draft in request.drafts)
        return Rewrite(changed, gain, 0.9, "rewrite", 2, 5, 0, 10.0, drafts)


def test_an_oracle_is_always_right() -> None:
    figures = evaluate_edits(DOCUMENTS, Oracle().ask, min_gain=2.0, per_kind=3)
    assert set(figures) == {*KINDS, "overall", "finished", "lone", "at_rest"}
    overall = figures["overall"]
    assert overall["precision"] == overall["precision_first"] == 100.0
    assert overall["exact_first"] > 60, "the planner looks where something is to be done"
    assert overall["recall"] > 50
    assert figures["finished"] == figures["lone"] == figures["at_rest"] == 0.0
    assert overall["p50_ms"] >= 10
    assert overall["forwards_per_session"] >= 2
    assert figures["rename"]["search_and_replace"]["recall"] == 100.0
    assert figures["typo"]["search_and_replace"] == {"precision": 0.0, "recall": 0.0}


def test_changing_correct_code_is_counted() -> None:
    figures = evaluate_edits(DOCUMENTS, Oracle(eager=True).ask, min_gain=2.0, per_kind=3)
    assert figures["finished"] == 0.0, "no rule drafts anything, so the model is not asked"
    assert figures["at_rest"] == 100.0
    silent = evaluate_edits(DOCUMENTS, Oracle(eager=True).ask, min_gain=99.0, per_kind=3)
    assert silent["at_rest"] == silent["finished"] == silent["overall"]["recall"] == 0.0


def test_the_sweep_finds_the_threshold_that_separates_right_from_wrong() -> None:
    """The oracle's drafts gain 9 nats if right and lose 99 if wrong."""
    found = judged(DOCUMENTS, Oracle().ask, per_kind=3)
    curve = found.curve(2.0)
    assert len(curve) == len(DRAFT_PRIORS) * len(OWN_PRIORS)
    separation = found.separation(drafted=True)
    assert separation is not None
    assert separation > 0.9, "a draft of a part of what is wanted is right, and loses"
    top = best(curve, 50.0, 2.0)
    assert top is not None
    assert (top["precision"], top["lone"], top["at_rest"]) == (100.0, 0.0, 0.0)
    gate = evaluate_edits(DOCUMENTS, Oracle().ask, min_gain=2.0, per_kind=3)["overall"]
    same = found.figures(EditPriors(), 2.0)
    assert (same["precision"], same["recall"]) == (gate["precision"], gate["recall"])
    eager = judged(DOCUMENTS, Oracle(eager=True).ask, per_kind=3)
    quiet = best(eager.curve(2.0), 50.0, 2.0)
    assert quiet is not None
    assert quiet["own"] <= -10, "what it writes by itself at 9 nats is wrong"
    assert best(eager.curve(-99.0), 50.0, 2.0) is None, "none is quiet enough"


def test_equal_gains_of_right_and_wrong_drafts_separate_nothing() -> None:
    texts = [JudgedText(9.0, None, right, frozenset(), shown=True) for right in (True, False)]
    sessions = JudgedSessions([([texts], 1)], [], [], [])
    assert sessions.separation(drafted=False) == 0.5
    assert sessions.separation(drafted=True) is None


def test_the_sweeps_result_is_saved_and_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command writes the best priors, and the model uses them once loaded again."""
    folder = write_tiny_checkpoint(tmp_path / "model")
    arguments = ["eval", "edits", "--model", str(folder), "--threads", "1", "--per-kind", "1"]
    arguments += ["--data", str(_data(tmp_path)), "--sweep", "--write", "--json"]
    monkeypatch.setattr("fim_server.bench.edit_priors_sweep.best", lambda *given: None)
    assert main(arguments) == 2
    assert "nothing is written" in capsys.readouterr().err
    assert not (folder / EDIT_PRIORS).exists()
    assert Infiller.load(folder).rewriter.priors == EditPriors(15.0, 0.0)
    monkeypatch.setattr("fim_server.bench.edit_priors_sweep.best", lambda curve, *given: curve[-1])
    assert main(arguments) == 0
    priors = EditPriors(DRAFT_PRIORS[-1], OWN_PRIORS[-1])
    infiller = Infiller.load(folder)
    assert infiller.rewriter.priors == priors
    result = infiller.rewrite(RewriteRequest("", "x = 1", "\n", drafts=("x = 2",)))
    assert (result.draft_prior, result.own_prior) == (priors.draft, priors.own)
    (folder / EDIT_PRIORS).write_text('{"draft": "much"}')
    assert main(arguments) == 2
    assert "edit_priors.json has no priors" in capsys.readouterr().err


def test_half_of_the_projects_are_for_calibration() -> None:
    documents = [Document(name, "a.py", CODE) for name in ("d", "b", "a", "c", "b")]
    calibration, report = halves(documents)
    assert {session.project for session in calibration} == {"a", "c"}
    assert {session.project for session in report} == {"b", "d"}
    assert halves(DOCUMENTS) == (DOCUMENTS, DOCUMENTS)


def test_an_edit_without_consequences_is_finished() -> None:
    for session in draw_sessions(DOCUMENTS, "lone", 8, 1):
        assert session.text == session.done
        [(line, before, now)] = session.edits
        assert session.text.split("\n")[line] == now != before


def test_changes_are_counted_by_line() -> None:
    assert len(line_changes("a\nb", "A\nB")) == 2


def _data(folder: Path) -> Path:
    data = folder / "heldout.jsonl.gz"
    row = {"project": "orders", "path": "src/orders.py", "text": CODE}
    with gzip.open(data, "wt") as file:
        file.write(json.dumps(row) + "\n")
    return data


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _data(tmp_path)
    model = str(write_tiny_checkpoint(tmp_path / "model"))
    arguments = ["eval", "edits", "--model", model, "--threads", "1", "--per-kind", "1", "--json"]
    assert main([*arguments, "--data", str(data)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["way"] == "refill"
    assert figures["overall"]["n"] >= 3
    assert main([*arguments, "--data", str(data), "--sweep"]) == 0
    swept = json.loads(capsys.readouterr().out)
    assert len(swept["curve"]) == len(DRAFT_PRIORS) * len(OWN_PRIORS)
    assert main([*arguments, "--data", str(data), "--write"]) == 2
    assert "--sweep" in capsys.readouterr().err
    named = ["eval", "edits", "--model", "a/b", "--data", str(data), "--sweep", "--write"]
    assert main(named) == 2
    assert "needs a checkpoint folder" in capsys.readouterr().err
    assert main([*arguments, "--data", str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err
