"""The table of rules: what may follow from an edit, each rule a pure function in its own file.

To add a rule, write `rule(page, hunk) -> drafts` in a file here and add a row to RULES, then fit
its weights (`score.py`). A rule reads the page and one hunk, of this or another document, and
yields drafts for lines of the page. It decides only what may follow; the score and the model judge
whether it does.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice
from typing import TypedDict

from fim_server.edits.history import Hunk
from fim_server.edits.rules.blocks import indentation
from fim_server.edits.rules.call_arguments import call_arguments
from fim_server.edits.rules.call_sites import call_sites
from fim_server.edits.rules.code_tokens import tokens
from fim_server.edits.rules.docstrings import docstrings
from fim_server.edits.rules.drafts import Candidate, Draft, LineEdit, applied
from fim_server.edits.rules.identical_blocks import identical_blocks
from fim_server.edits.rules.inserted_lines import inserted_lines
from fim_server.edits.rules.like_blocks import like_blocks
from fim_server.edits.rules.missing_imports import missing_imports
from fim_server.edits.rules.moved_lines import moved_lines
from fim_server.edits.rules.needless_imports import needless_imports
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.renames import renames
from fim_server.edits.rules.replacements import replacements
from fim_server.edits.rules.score import Circumstances, features_of, odds
from fim_server.edits.rules.similar_lines import similar_lines
from fim_server.edits.rules.typos import typos

MAX_PLACES = 200
"""Places of one rule after one hunk; more are a word of the language, not an edit to repeat."""


_MAX_EQUAL = 40
"""Equal lines that are looked at to find one that was not just edited."""

_TEST = re.compile(r"(?:^|[/_.-])(?:tests?|specs?|__tests__)(?:[/_.-]|$)")
"""In the path of a test."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table. repairs: drafts change the edited lines themselves; those of other rules
    leave them alone."""

    drafts: Callable[[Page, Hunk], Iterable[Draft]]
    repairs: bool = False


RULES = (
    Rule(identical_blocks),
    Rule(inserted_lines),
    Rule(like_blocks),
    Rule(moved_lines),
    Rule(renames),
    Rule(replacements),
    Rule(call_arguments),
    Rule(call_sites),
    Rule(docstrings),
    Rule(similar_lines),
    Rule(missing_imports),
    Rule(needless_imports),
    Rule(typos, repairs=True),
)


@dataclass(slots=True)
class _Found:
    """The same edits, drafted by a rule after one or more hunks, the latest first. `text` is what
    the lines become."""

    name: str
    edits: tuple[LineEdit, ...]
    text: str
    draft: Draft
    hunks: list[tuple[int, Hunk]]

    @property
    def first(self) -> int:
        return self.edits[0].line

    @property
    def end(self) -> int:
        return self.edits[-1].line + 1


def candidates(page: Page) -> list[Candidate]:
    """What all rules draft after the hunks of a page, place by place."""
    found: dict[tuple[str, tuple[LineEdit, ...]], _Found] = {}
    for age, hunk in enumerate(reversed(page.hunks)):
        for rule in RULES:
            places = (
                (draft, edits)
                for draft in rule.drafts(page, hunk)
                for edits in _split(draft)
                if rule.repairs or not any(edit.line in page.edited_lines for edit in edits)
            )
            drafted = list(islice(places, MAX_PLACES + 1))
            if len(drafted) > MAX_PLACES:
                continue
            for draft, edits in drafted:
                name = rule.drafts.__name__
                name = f"{name}.{draft.signs.kind}" if draft.signs.kind else name
                known = found.get((name, edits))
                if known is None:
                    lines = [page.line(at) for at in range(edits[0].line, edits[-1].line + 1)]
                    text = applied(lines, edits[0].line, edits)
                    found[name, edits] = _Found(name, edits, text, draft, [(age, hunk)])
                elif (age, hunk) not in known.hunks:
                    known.hunks.append((age, hunk))
    return _candidates(page, list(found.values()))


def _split(draft: Draft) -> Iterator[tuple[LineEdit, ...]]:
    """The edits of a draft that are made together: all of a whole one, else those of a line."""
    edits = sorted(set(draft.edits))
    if draft.whole:
        yield from [tuple(edits)] if edits else []
        return
    for _, same in groupby(edits, key=lambda edit: edit.line):
        yield tuple(same)


def _candidates(page: Page, found: Sequence[_Found]) -> list[Candidate]:
    groups: dict[tuple[str, Hunk], list[_Found]] = defaultdict(list)
    texts: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for each in found:
        groups[each.name, each.hunks[0][1]].append(each)
        texts[each.first, each.end][each.text] += 1
    made = []
    in_tests = _TEST.search(page.snapshot.uri) is not None
    for (name, _), group in groups.items():
        at = page.own_hunks[-1].first if page.own_hunks else page.cursor
        skipped = any(_is_passed(page, each) for each in group)
        below = min((each.first for each in group if each.first > at), default=None)
        above = sum(each.first < at for each in group) / len(group)
        scope = page.scope_of_cursor
        for each in group:
            here = texts[each.first, each.end]
            around = Circumstances(
                repeats=len(each.hunks),
                age=each.hunks[0][0],
                places=len({other.first for other in group}),
                others_above=above,
                skipped=skipped,
                next=each.first == below,
                distance=abs(each.first - at),
                in_scope=scope is not None and scope[0] <= each.first < scope[1],
                above=each.first < at,
                passed=_is_passed(page, each),
                lines=each.end - each.first,
                agreeing=here[each.text] - 1,
                rivals=len(here) - 1,
                hunks=max(len(page.hunks), 1),
                mechanical=page.mechanical,
                elsewhere=not any(page.has(hunk) for _, hunk in each.hunks),
                in_tests=in_tests,
                **_compared(page, each),
            )
            features = features_of(each.draft.signs, around)
            made.append(
                Candidate(
                    each.first,
                    each.end,
                    each.edits,
                    each.draft.reason,
                    name,
                    odds(name, features),
                    each.draft.about,
                    features,
                )
            )
    return made


class _Compared(TypedDict):
    changed: float
    same_change: float
    indented_alike: bool
    known: bool


def _compared(page: Page, found: _Found) -> _Compared:
    """What the change of a draft is like, beside that of the latest hunk that it follows from."""
    hunk = found.hunks[0][1]
    old = [page.line(at) for at in range(found.first, found.end)]
    new = found.text.split("\n")
    gone, come = _token_change("\n".join(old), found.text)
    hunk_gone, hunk_come = _token_change("\n".join(hunk.old), "\n".join(hunk.new))
    union = len(gone | hunk_gone) + len(come | hunk_come)
    shared = len(gone & hunk_gone) + len(come & hunk_come)
    whole = len(_tokens("\n".join(old)) | _tokens(found.text))
    beside = {line.strip() for line in old}
    added = {line.strip() for line in new} - beside - {""}
    return {
        "changed": (len(gone) + len(come)) / whole if whole else 1.0,
        "same_change": shared / union if union else 1.0,
        "indented_alike": page.has(hunk)
        and indentation(old[0]) == indentation(next(iter(hunk.new or hunk.old), "")),
        "known": any(
            number not in page.edited_lines
            for line in added
            for number in islice(page.by_text.get(line, ()), _MAX_EQUAL)
        ),
    }


def _token_change(old: str, new: str) -> tuple[frozenset[str], frozenset[str]]:
    before, after = _tokens(old), _tokens(new)
    return before - after, after - before


@lru_cache(maxsize=1 << 12)
def _tokens(text: str) -> frozenset[str]:
    return tokens([text])


def _is_passed(page: Page, found: _Found) -> bool:
    """Whether a place is below one of the hunks that it follows from and above another."""
    own = [hunk.first for _, hunk in found.hunks if page.has(hunk)]
    return any(first < found.first for first in own) and any(first > found.first for first in own)
