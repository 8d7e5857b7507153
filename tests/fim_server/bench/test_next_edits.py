"""Evaluation of next edits: an oracle is always right, a silent model never."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from fim_model.requests import Rewrite, RewriteRequest
from fim_training.evaluation.edit_sessions import KINDS, draw_sessions, line_changes
from fim_training.evaluation.heldout_holes import Document
from tiny_checkpoint import write_tiny_checkpoint

from fim_server.bench.next_edits import evaluate_edits, reported
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
        return Rewrite(
            changed, gain, 0.9, "rewrite", 2, 5, 0, 10.0, drafts, draft_weight=1.0, own_prior=0.0
        )


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
    assert figures["finished"] < 50.0, "where no rule drafts anything the model is not asked"
    assert figures["at_rest"] == 100.0
    silent = evaluate_edits(DOCUMENTS, Oracle(eager=True).ask, min_gain=99.0, per_kind=3)
    assert silent["at_rest"] == silent["finished"] == silent["overall"]["recall"] == 0.0


def test_every_second_project_is_reported() -> None:
    documents = [Document(name, "a.py", CODE) for name in ("d", "b", "a", "c", "b")]
    assert {document.project for document in reported(documents)} == {"b", "d"}
    assert reported(DOCUMENTS) == DOCUMENTS


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
    for option, why in (("--fit", "needs --git"), ("--with-model", "needs --git")):
        assert main([*arguments, "--data", str(data), option]) == 2
        assert why in capsys.readouterr().err
    assert main([*arguments, "--data", str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err
