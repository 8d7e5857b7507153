"""Fits an answer to what stands right of the cursor: editors close brackets and quotes themselves.

An accepted answer leaves no bracket or quote of the cursor's line without a partner that has one
now, or had none before. It ends before the text that is there already, or takes its place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from fim_server.completion.hole import Hole
from fim_server.completion.trim import is_word, without_overlap, without_repeated_lines
from fim_server.syntax.brackets import (
    ANGLES,
    CLOSERS,
    LOOSE,
    PAIRS,
    Mark,
    balance,
    plain_balance,
    unmatched,
)

MAX_LINE_CHARS = 1000
"""Characters of a line that are read on each side of the cursor; minified files have long lines."""

MIN_WINDOW_CHARS = 200
"""Texts right of the cursor that agree so far are the same text, cut at different lines."""

MAX_CUTS = 128
"""Places in an answer at which a cut is tried."""

_CLOSING_OF = {**PAIRS, **ANGLES}
_CLOSING = frozenset([*_CLOSING_OF.values(), '"', "'", "`"])
_MARK = re.compile(r"[()\[\]{}\"'`<>]")
_PREFIX_OF_STRING = re.compile(r"(?<!\w)[bBfFrRuULtT]{1,2}8?\Z")
_QUOTES = frozenset(["'", '"', "`", "'''", '"""'])
_CLOSES_ONLY = re.compile(r"[)\]}][\s)\]}\"'`;,]*")
_TWINS = {"crystal": "|", "latex": "$", "markdown": "*_~$", "ruby": "|", "rust": "|", "tex": "$"}
"""Characters that close themselves, as quotes do, where they stand on both sides of the cursor."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A text to show.

    `over` is the number of characters right of the cursor, on its line, that the text replaces.
    `whole` is the answer before it was cut for what is right of the cursor: the type-through cache
    fits it again where an editor has closed a bracket.
    """

    text: str
    over: int = 0
    whole: str = ""


def fitted(text: str, hole: Hole, *, replaces: bool = False) -> Fit:
    """The answer fitted to the hole; its text is blank if nothing of it fits.

    `replaces`: whether the client shows an item that takes the place of the rest of the line.
    """
    line_before = hole.before.rpartition("\n")[2]
    line_after, _, following = hole.after.partition("\n")
    if not line_after.strip():
        kept = without_repeated_lines(text, following)
        return Fit(_without_stray_closers(kept, line_before, hole).rstrip(), 0, text)
    line = _line_at(line_before, line_after, hole.language)
    if block := _block(text, line):
        return Fit(block, 0, text)
    first = text.partition("\n")[0]
    kept = _longest(first, line)
    if replaces and (whole := _in_place_of_rest(first, kept, line)):
        return Fit(whole, len(line_after.rstrip()), text)
    return Fit(kept if is_word(line_after[:1]) else kept.rstrip(), 0, text)


@dataclass(frozen=True, slots=True)
class _Line:
    """The cursor's line, with its brackets and quotes that have no partner now.

    `plain` is the same with quotes left out, for a line in which a quote has none: what is a string
    there is a guess. `angles` is true if the rest of the line closes a `<`.
    """

    before: str
    after: str
    language: str
    angles: bool
    now: Counter[str]
    plain: Counter[str] | None

    def takes(self, text: str, after: str | None = None) -> bool:
        """Whether with `text` nothing more is without a partner than now."""
        line = self.before + text + (self.after if after is None else after)
        if balance(line, self.language, angles=self.angles) - self.now:
            return False
        return self.plain is None or not plain_balance(line) - self.plain


def _line_at(before: str, after: str, language: str) -> _Line:
    before, after = before[-MAX_LINE_CHARS:], after[:MAX_LINE_CHARS]
    opened = balance(before, language, angles=True)
    angles = after.lstrip().startswith(">") and opened["<"] > 0
    now = balance(before + after, language, angles=angles)
    guessed = not _QUOTES.isdisjoint(now)
    plain = plain_balance(before + after) if guessed else None
    return _Line(before, after, language, angles, now, plain)


def _longest(text: str, line: _Line) -> str:
    """The longest start of a one-line answer that fits before the rest of the line."""
    text = _before_twin(text, line)
    kept = without_overlap(text, line.before, line.after)
    if line.takes(kept):
        return kept
    if line.takes(text):
        return text
    rest = line.after.strip()
    places = [mark.start() for mark in _MARK.finditer(text)][:MAX_CUTS]
    for at in places:
        if text.startswith(rest, at) and line.takes(text[:at]):
            return text[:at]
    fitting = (text[:at] for at in reversed(places) if line.takes(text[:at]))
    kept = next(fitting, "")
    opens_string = text[len(kept) : len(kept) + 1] in _QUOTES and not _QUOTES & set(
        balance(line.before + kept, line.language)
    )
    return _PREFIX_OF_STRING.sub("", kept) if opens_string else kept


def _before_twin(text: str, line: _Line) -> str:
    """The answer before the end of a pair such as `||` that is empty around the cursor."""
    for twin in _TWINS.get(line.language, ""):
        left = len(line.before) - len(line.before.rstrip(twin))
        right = len(line.after) - len(line.after.lstrip(twin))
        if run := twin * min(left, right):
            return text.partition(run)[0]
    return text


def _in_place_of_rest(text: str, kept: str, line: _Line) -> str:
    """The answer that replaces the rest of the line, and says more than that; else "".

    Only brackets, quotes and punctuation are replaced, and the answer has all of them in order:
    editors show such an item as an insertion on both sides of them.
    """
    rest, new = line.after.strip(), text[len(kept) :]
    if any(map(is_word, rest)) or rest.startswith(new.strip()) or len(line.after) >= MAX_LINE_CHARS:
        return ""
    ends = [mark.start() for mark in _MARK.finditer(text, len(kept))][:MAX_CUTS]
    for end in (len(text), *reversed(ends)):
        said = text[len(kept) : end].strip()
        if said == rest or not _has_in_order(said, rest):
            return ""
        if line.takes(text[:end], after=""):
            return text[:end].rstrip()
    return ""


def _has_in_order(text: str, wanted: str) -> bool:
    characters = iter(text)
    return all(character in characters for character in wanted.replace(" ", ""))


def _block(text: str, line: _Line) -> str:
    """The lines of an answer that begins a new line inside brackets, or opens a block there.

    "" if the answer is of one line. An answer that goes on after its first line's bracket, as in
    `f(|)`, needs a rest of closing brackets; one that breaks the line in `{|} else {` does not.
    """
    first, _, others = text.partition("\n")
    opener = (first if first.strip() else line.before).rstrip()[-1:]
    rest = line.after.strip()
    if not others.strip() or opener not in PAIRS:
        return ""
    if first.strip() and not _CLOSES_ONLY.fullmatch(rest):
        return ""
    if not first.strip() and not rest.startswith(PAIRS[opener]):
        return ""
    marks = unmatched(text, line.language)
    closing = next((mark.at for mark in marks if mark.character in CLOSERS), len(text))
    kept = text[:closing].rstrip()
    while "\n" in kept and not line.takes(kept):
        kept = kept.rpartition("\n")[0].rstrip()
    if "\n" not in kept or not line.takes(kept):
        return ""
    indentation = line.before[: len(line.before) - len(line.before.lstrip())]
    return kept if first.strip() else f"{kept}\n{indentation}"


def _without_stray_closers(text: str, line_before: str, hole: Hole) -> str:
    """The text before the first bracket that closes nothing, or what is closed below already."""
    if hole.language in LOOSE:
        return text
    line_before = line_before[-MAX_LINE_CHARS:]
    strays = list(_closers(line_before + text, hole.language))
    head = hole.before[: len(hole.before) - len(hole.before.rpartition("\n")[2])]
    if not strays or hole.place.line != head.count("\n"):
        return text  # the brackets above the window are unknown
    opened = Counter(PAIRS.get(mark.character) for mark in unmatched(head, hole.language))
    free = opened - Counter(mark.character for mark in _closers(hole.after, hole.language))
    for mark in strays:
        if free[mark.character] > 0 or (mark.character == "}" and not opened["}"]):
            free[mark.character] -= 1
        elif mark.at >= len(line_before):
            return text[: mark.at - len(line_before)]
    return text


def _closers(text: str, language: str) -> Iterator[Mark]:
    return (mark for mark in unmatched(text, language) if mark.character in CLOSERS)


def closed_by_editor(typed: str, before: str, now: str, language: str = "") -> bool:
    """Whether the text right of the cursor, once `before`, is `now` because of pairs in `typed`.

    Editors close a bracket or quote that is typed, on the next line once Enter is pressed, and
    take away one that is typed over.
    """
    over = 0
    while over < len(before) and before[over] in _CLOSING and before[over] in typed:
        over += 1
    opened = unmatched(typed, language, angles=True)
    closers = "".join(_CLOSING_OF.get(mark.character, mark.character) for mark in reversed(opened))
    for start in range(over + 1):
        rest = before[start:]
        for count in range(len(closers) + 1):
            closed = re.match(r"\s*" + re.escape(closers[:count]), now) if count else None
            left = now[closed.end() :] if closed else now
            if (count or start) and (count == 0 or closed) and _agree(left, rest):
                return True
    return False


def _agree(one: str, other: str) -> bool:
    """Whether two windows begin the same text; their ends depend on their budget."""
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) >= MIN_WINDOW_CHARS and long.startswith(short))
