"""The table of rules: pure functions, one per file."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from pathlib import Path

import pytest

from fim_server.documents.documents import Encoding, Snapshot, split_lines
from fim_server.edits.history import Hunk
from fim_server.edits.rules import table
from fim_server.edits.rules.drafts import Draft, LineEdit
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.score import FEATURES, WEIGHTS
from fim_server.edits.rules.table import RULES, Rule, candidates
from fim_server.syntax.languages import language_of

URI = "file:///project/a.py"
TEXT = """\
import os
from ways import Way


def pay(who, amount):
    \"\"\"Pay.

    :param who: whom
    \"\"\"
    log("paid", amount)
    return who + aomunt


pay(me)
log("paid", me)
"""


def page() -> Page:
    snapshot = Snapshot(URI, "python", 1, 1, Encoding.UTF32, split_lines(TEXT))
    hunks = [
        Hunk("file:///project/b.py", 0, ("old = os.sep",), ("new = 2",), 0.0),
        Hunk(URI, 4, ("def pay(who):",), ("def pay(who, amount):",), 1.0),
        Hunk(URI, 10, ("    return whom + Way",), ("    return who + aomunt",), 2.0),
    ]
    return Page(snapshot, 0, language_of("python"), hunks, ("import re",))


def test_each_rule_has_a_file_of_its_name() -> None:
    for name, count in Counter(rule.drafts.__name__ for rule in RULES).items():
        assert count == 1
        [rule] = [rule for rule in RULES if rule.drafts.__name__ == name]
        assert Path(inspect.getfile(rule.drafts)).stem == name
        assert list(inspect.signature(rule.drafts).parameters) == ["page", "hunk"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.drafts.__name__)
def test_a_rule_is_a_pure_function(rule: Rule) -> None:
    """Gives the same drafts on every call, for any order of hunks, and beside other rules."""
    shared = page()
    first = [list(rule.drafts(shared, hunk)) for hunk in shared.hunks]
    for other in RULES:
        for hunk in reversed(shared.hunks):
            list(other.drafts(shared, hunk))
    assert [list(rule.drafts(shared, hunk)) for hunk in shared.hunks] == first
    fresh = page()
    assert [list(rule.drafts(fresh, hunk)) for hunk in fresh.hunks] == first


def test_a_row_is_enough_to_add_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edited lines only get repairs, equal drafts are one candidate, and how often and how long ago
    they followed is known."""

    def rule(page: Page, hunk: Hunk) -> list[Draft]:
        there, edited = LineEdit(12, 0, 0, hunk.new[0]), LineEdit(10, 0, 0, "x")
        return [Draft((there, edited), "why"), Draft((LineEdit(13, 0, 0, "y"),), "why")]

    monkeypatch.setattr(table, "RULES", (Rule(rule),))
    found = {candidate.edits: candidate for candidate in candidates(page())}
    news = [hunk.new[0] for hunk in page().hunks]
    repeated, last = (LineEdit(13, 0, 0, "y"),), (LineEdit(12, 0, 0, news[-1]),)
    assert {*found} == {repeated, *((LineEdit(12, 0, 0, new),) for new in news)}
    repeats, age = FEATURES.index("repeats"), FEATURES.index("age")
    assert found[repeated].features[repeats] > found[last].features[repeats] == 0
    assert found[last].features[age] == 0 < found[LineEdit(12, 0, 0, news[0]),].features[age]
    monkeypatch.setattr(table, "RULES", (Rule(rule, repairs=True),))
    assert (LineEdit(10, 0, 0, "x"),) in {candidate.edits for candidate in candidates(page())}


def test_a_rule_that_drafts_everywhere_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_PLACES", 1)
    assert all(candidate.features[0] == 1.0 for candidate in candidates(page()))

    def rule(page: Page, hunk: Hunk) -> list[Draft]:
        return [Draft((LineEdit(12, 0, 0, "x"), LineEdit(13, 0, 0, "y")), "why")]

    monkeypatch.setattr(table, "RULES", (Rule(rule),))
    assert candidates(page()) == []


def test_every_weight_belongs_to_a_feature_and_a_rule() -> None:
    raw = json.loads(WEIGHTS.read_text())
    assert {*raw["shared"]} <= {*FEATURES}
    names = {rule.drafts.__name__ for rule in RULES}
    for name, own in raw["rules"].items():
        assert name.partition(".")[0] in names
        assert {*own} <= {*FEATURES}
