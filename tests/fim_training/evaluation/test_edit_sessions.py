"""Edit sessions are made from real code with correct scoping, and can all be completed."""

from __future__ import annotations

import ast
from random import Random

import pytest
from fim_training.evaluation.edit_baseline import search_and_replace
from fim_training.evaluation.edit_sessions import (
    KINDS,
    EditSession,
    draw_sessions,
    line_changes,
    parameter,
    scoped_rename,
)
from fim_training.evaluation.heldout_holes import Document

CODE = '''\
import json
import logging
import pathlib

logger = logging.getLogger("orders")


def load_orders(source, limit=50):
    """Read the orders of a source."""
    handle = pathlib.Path(source).open()
    orders = json.load(handle)
    handle.close()
    logger.info("loaded %d orders", len(orders))
    return orders[:50]


def total(orders, rate):
    amount = 0
    for order in orders:
        amount += order.amount * rate
        record(order, amount, "total")
    record(None, amount, "total")
    logger.info("amount %s", amount)
    return round(amount, 50)


def show(orders):
    amount = total(orders, rate=1.5)
    record(None, amount, "total")
    print("amount", amount)
'''
DOCUMENTS = [Document("orders", "src/orders.py", CODE)]


def applied(text: str, session: EditSession) -> str:
    lines = text.split("\n")
    for first, end, new in sorted(session.wanted, reverse=True):
        lines[first:end] = new
    return "\n".join(lines)


@pytest.mark.parametrize("kind", KINDS)
def test_the_wanted_edits_complete_a_session(kind: str) -> None:
    sessions = draw_sessions(DOCUMENTS, kind, 8, seed=1)
    assert sessions, "there is something of each kind in this code"
    for session in sessions:
        assert session.wanted
        assert applied(session.text, session) == session.done
        assert not session.finished.wanted
        lines = session.text.split("\n")
        for line, _, now in session.edits:
            assert lines[line] == now
    assert sessions == draw_sessions(DOCUMENTS, kind, 8, seed=1)
    assert sessions != draw_sessions(DOCUMENTS, kind, 8, seed=2)


def test_calls_follow_a_parameter() -> None:
    """Parameters are added, removed and renamed; the calls pass what the function needs."""
    seen = set()
    drawn = [parameter(DOCUMENTS[0], Random(seed)) for seed in range(60)]
    for session in (session for session in drawn if session is not None and session.wanted):
        [(_, before, now)] = session.edits
        counts = before.count(","), now.count(",")
        seen.add("came" if counts[1] > counts[0] else "went" if counts[1] < counts[0] else "name")
        tree = ast.parse(session.done)
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        given = {function.name: len(function.args.args) for function in functions}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id == "total":
                assert len(call.args) + len(call.keywords) == given["total"]
    assert seen == {"came", "went", "name"}


def test_a_rename_follows_pythons_scopes() -> None:
    for seed in range(40):
        session = scoped_rename(DOCUMENTS[0], Random(seed))
        if session is None:
            continue
        ast.parse(session.done)
        [(_, before, now)] = session.edits
        if "amount = 0" in before:
            assert "order.amount" in session.done, "an attribute is another thing"
            assert 'print("amount", amount)' in session.done, "another function's name as well"
            assert '"amount %s"' in session.done
            changed = {first for first, _, _ in session.wanted}
            assert changed == {19, 20, 21, 22, 23}
            return
        assert before != now
    raise AssertionError("the name was never drawn")


def test_keyword_arguments_are_not_renamed_away() -> None:
    names = {
        before
        for seed in range(60)
        if (session := scoped_rename(DOCUMENTS[0], Random(seed)))
        for _, before, now in session.edits
        if "rate" in before and "rate" not in now
    }
    assert names == set(), "show() passes rate= by its name"


def session_of(text: str, line: int, before: str) -> EditSession:
    lines = text.split("\n")
    return EditSession("rename", "a.py", text, text, ((line, before, lines[line]),))


def test_search_and_replace_is_limited_to_the_scope() -> None:
    text = "def f(x):\n    new = x.old\n    return old\n\n\ndef g(old):\n    return old"
    changes = search_and_replace(session_of(text, 1, "    old = x.old"))
    assert changes == {(1, 2, ("    new = x.new",)), (2, 3, ("    return new",))}
    at_top = search_and_replace(session_of("new = 1\nprint(old)", 0, "old = 1"))
    assert at_top == {(1, 2, ("print(new)",))}
    for before in ("new = 2", "new == 1", "", "old = other"):
        assert search_and_replace(session_of("new = 1\nprint(old)", 0, before)) == set()


def test_line_changes() -> None:
    assert line_changes("a\nb\nc", "a\nB\nc") == {(1, 2, ("B",))}
    assert line_changes("a\nc", "a\nb\nc") == {(1, 1, ("b",))}
    assert line_changes("a", "a") == set()
