"""Drafts of rules for a page after edits, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fim_server.documents.documents import Encoding, Snapshot, split_lines, without_end
from fim_server.edits.history import Hunk
from fim_server.edits.regions import regions_of
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.score import FEATURES
from fim_server.edits.rules.table import candidates
from fim_server.syntax.languages import language_of

URI = "file:///project/a.py"

DOCUMENTED = '''\
def pay(who, {new}):
    """Pay.

    :param who: gets it
    :param int amount: how much
        of it

    Args:
        amount (int): how much
        who: gets it

    Parameters
    ----------
    amount : int
        How much.
    """
    the.amount = who
'''
"""A function whose parameter `amount` is documented in three styles; `new` is its name now."""


def drafts(page: Page, *rules: str) -> dict[int, list[str]]:
    """The drafts of rules for each region of a page, by its first line: all drafts are taken to be
    likely, so that those that agree are applied together."""
    rank = FEATURES.index("rank")
    found = [
        replace(candidate, odds=1.0 - candidate.features[rank])
        for candidate in candidates(page)
        if candidate.rule.partition(".")[0] in rules
    ]
    regions = sorted(regions_of(page, found), key=lambda region: region.first)
    return {region.first: [draft.text for draft in region.drafts] for region in regions}


def expected(
    text: str, *edits: tuple[int, str], rules: tuple[str, ...], cursor: int | None = None,
    language: str = "python", neighbours: tuple[str, ...] = (),
) -> dict[int, list[str]]:  # fmt: skip
    """The drafts of rules after the edits (line now, text before)."""
    lines = split_lines(text)
    snapshot = Snapshot(URI, language, 1, 1, Encoding.UTF32, lines)
    hunks = [
        Hunk(URI, line, (old,) if old else (), (without_end(lines[line]),), 0.0)
        for line, old in edits
    ]
    at = hunks[-1].first if cursor is None else cursor
    return drafts(Page(snapshot, at, language_of(language), hunks, neighbours), *rules)


def after(
    text: str,
    first: int,
    old: Sequence[str],
    new: Sequence[str],
    *,
    rules: tuple[str, ...],
    language: str = "python",
) -> dict[int, list[str]]:
    """The same after one hunk: `old` became `new`, beginning at line `first`."""
    snapshot = Snapshot(URI, language, 1, 1, Encoding.UTF32, split_lines(text))
    assert [without_end(line) for line in snapshot.lines[first : first + len(new)]] == [*new]
    hunk = Hunk(URI, first, tuple(old), tuple(new), 0.0)
    return drafts(Page(snapshot, first, language_of(language), [hunk]), *rules)
