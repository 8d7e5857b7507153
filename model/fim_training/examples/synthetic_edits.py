"""Synthetic edits: recent changes by a user, and the change elsewhere that follows from them.

Cases are made from correct code. A repeated name, literal or call is replaced in some lines (the
recent edits), and the model continues the replacement; a name is misspelt or swapped for another,
and the model repairs it; an import is removed whose use was just written. In a third of the cases
the region needs no change, and the model repeats it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from fim_training.examples.grammars import PYTHON, Grammar

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}")
LITERAL = re.compile(r"(?<![\w.])\d+(?:\.\d+|\d)(?![\w.])|\"[^\"\n\\]{1,24}\"|'[^'\n\\]{1,24}'")
CALL = re.compile(r"(?<!def )(?<!function )\b([A-Za-z_]\w{2,})\((?!\))")

REACH = 40
"""Lines on each side of the region that an edit may have changed."""


@dataclass(frozen=True, slots=True)
class EditCase:
    """A file after `edits`, with one region of whole lines that becomes `new`.

    prefix + old + suffix is the file; the region has no newline at its end. edits: what recent
    changes replaced, and by what, oldest first.
    """

    kind: str
    prefix: str
    old: str
    new: str
    suffix: str
    edits: Sequence[tuple[str, str]] = ()


Draw = Callable[[list[str], int, Random, Grammar], EditCase | None]
"""Draws a case around one line of a file; None where the lines offer none."""


def repeated_change(
    lines: list[str], at: int, rng: Random, grammar: Grammar = PYTHON
) -> EditCase | None:
    """A name, literal or call of line `at` was changed in other lines; this line follows."""
    kind, pattern, change = rng.choices(REPEATED, (5, 2, 2))[0]
    found = [
        match
        for match in pattern.finditer(lines[at])
        if not grammar.keywords.intersection((match[0], match[0].rstrip("(")))
    ]
    if not found:
        return None
    chosen = rng.choice(found)
    site = re.compile(rf"(?<![\w]){re.escape(chosen[0])}(?![\w])" if kind == "rename" else
                      re.escape(chosen[0]))  # fmt: skip
    near = [i for i in _near(lines, at) if i != at and site.search(lines[i])]
    changed = change(chosen[0], lines, rng, grammar)
    if not near or not changed or changed == chosen[0]:
        return None
    done = rng.sample(near, rng.randint(1, len(near)))
    first, end = _region(lines, at, rng)
    done = [i for i in done if not first <= i < end]
    if not done:
        return None
    after = list(lines)
    for i in done:
        after[i] = site.sub(lambda _: changed, lines[i])
    history = [(lines[i].strip(), after[i].strip()) for i in done[: rng.randint(1, 3)]]
    new = [site.sub(lambda _: changed, line) for line in after[first:end]]
    return case_of_region(kind, after, first, end, new, history)


def misspelling(
    lines: list[str], at: int, rng: Random, grammar: Grammar = PYTHON
) -> EditCase | None:
    """A name that also occurs nearby was misspelled, or replaced by another."""
    near = " ".join(lines[i] for i in _near(lines, at) if i != at)
    names = (m for m in NAME.finditer(lines[at]) if m[0] not in grammar.keywords)
    found = [m for m in names if m[0] in near]
    if not found:
        return None
    chosen = rng.choice(found)
    wrong = _other_name(near, rng, grammar) if rng.random() < 0.25 else _typo(chosen[0], rng)
    if wrong == chosen[0]:
        return None
    first, end = _region(lines, at, rng)
    after = list(lines)
    after[at] = lines[at][: chosen.start()] + wrong + lines[at][chosen.end() :]
    history = [("", after[at].strip())] if rng.random() < 0.5 else []
    return case_of_region("typo", after, first, end, lines[first:end], history)


def missing_import(
    lines: list[str], at: int, rng: Random, grammar: Grammar = PYTHON
) -> EditCase | None:
    """A name was just used whose import is missing."""
    top = [(i, name) for i, line in enumerate(lines) if (name := grammar.imported(line))]
    if len(top) < 2:
        return None
    gone, name = rng.choice(top)
    uses = [i for i, line in enumerate(lines) if i != gone and re.search(rf"\b{name}\b", line)]
    first = max(gone - rng.randint(0, 2), 0)
    end = min(gone + rng.randint(1, 3), len(lines))
    if not uses or end - first < 2 or any(first <= use < end for use in uses):
        return None
    old = [line for i, line in enumerate(lines[first:end], first) if i != gone]
    after = [*lines[:first], *old, *lines[end:]]
    use = lines[rng.choice(uses)].strip()
    return case_of_region("import", after, first, first + len(old), lines[first:end], [("", use)])


def nothing_to_do(
    lines: list[str], at: int, rng: Random, grammar: Grammar = PYTHON
) -> EditCase | None:
    """A region that needs no change: the edit is complete, elsewhere, or there is none."""
    if rng.random() < 0.3:
        first, end = _region(lines, at, rng)
        return case_of_region("none", lines, first, end, lines[first:end], [])
    kind = repeated_change if rng.random() < 0.7 else missing_import
    if (case := kind(lines, at, rng, grammar)) is None:
        return None
    after = f"{case.prefix}{case.new}{case.suffix}".split("\n")
    elsewhere = min(max(at + rng.randint(-12, 12), 0), len(after) - 1)
    first, end = _region(after, elsewhere, rng)
    return case_of_region("none", after, first, end, after[first:end], case.edits)


EDIT_KINDS: Sequence[tuple[Draw, float]] = (
    (repeated_change, 0.45),
    (misspelling, 0.14),
    (missing_import, 0.06),
    (nothing_to_do, 0.35),
)


def draw_edit(
    text: str, rng: Random, tries: int = 6, *, grammar: Grammar = PYTHON
) -> EditCase | None:
    """A case from a stretch of a text, None where nothing in it repeats."""
    lines = text.split("\n")
    kinds, weights = zip(*EDIT_KINDS, strict=True)
    for _ in range(tries):
        kind = rng.choices(kinds, weights)[0]
        middle = 0 if kind is missing_import else rng.randrange(len(lines))
        stretch = lines[max(middle - 2 * REACH, 0) : middle + 2 * REACH]
        at = rng.randrange(len(stretch))
        case: EditCase | None = kind(stretch, at, rng, grammar) if stretch[at].strip() else None
        if case is not None:
            return case
    return None


def _near(lines: list[str], at: int) -> range:
    return range(max(at - REACH, 0), min(at + REACH, len(lines)))


def _region(lines: list[str], at: int, rng: Random) -> tuple[int, int]:
    """One to four lines with line `at` among them."""
    first = max(at - rng.choice((0, 0, 0, 1, 2)), 0)
    return first, min(at + rng.choice((1, 1, 1, 2)), len(lines))


def case_of_region(
    kind: str,
    lines: list[str],
    first: int,
    end: int,
    new: Sequence[str],
    edits: Sequence[tuple[str, str]],
) -> EditCase:
    """Lines `[first, end)` become `new`; of kind "none" if that changes nothing."""
    prefix = "".join(f"{line}\n" for line in lines[:first])
    suffix = "".join(f"\n{line}" for line in lines[end:])
    case = EditCase(kind, prefix, "\n".join(lines[first:end]), "\n".join(new), suffix, edits)
    return replace(case, kind="none") if case.old == case.new else case


def _renamed(name: str, lines: list[str], rng: Random, grammar: Grammar) -> str:
    """A plausible new name: a word added, a word removed, or another name."""
    other = _other_name(" ".join(lines), rng, grammar)
    words = name.split("_")
    shape = rng.randrange(4)
    if shape == 0:
        return f"{name}_{other.split('_')[0].lower()}"
    if shape == 1:
        return f"{other.split('_')[-1].lower()}_{name}"
    if shape == 2 and len(words) > 1:
        words.pop(rng.randrange(len(words)))
        return "_".join(words)
    return other


def _changed_literal(literal: str, lines: list[str], rng: Random, grammar: Grammar) -> str:
    if literal[0] in "\"'":
        return f"{literal[0]}{_renamed(literal[1:-1], lines, rng, grammar)}{literal[0]}"
    return str(rng.choice((int(float(literal)) * 2, int(float(literal)) + 1, rng.randrange(1000))))


def _more_arguments(call: str, lines: list[str], rng: Random, grammar: Grammar) -> str:
    """`call(` with a first argument."""
    name = _other_name(" ".join(lines), rng, grammar)
    return f"{call}{name}, " if rng.random() < 0.6 else f"{call}{name}={rng.randrange(10)}, "


Change = Callable[[str, list[str], Random, Grammar], str]
"""Returns the replacement of a text, given the lines around it."""

REPEATED: Sequence[tuple[str, re.Pattern[str], Change]] = (
    ("rename", NAME, _renamed),
    ("literal", LITERAL, _changed_literal),
    ("argument", CALL, _more_arguments),
)


def _other_name(text: str, rng: Random, grammar: Grammar) -> str:
    names = grammar.names(NAME.findall(text))
    return rng.choice(names) if names else "value"


def _typo(name: str, rng: Random) -> str:
    """A name with one typo: a letter missing, doubled, swapped with the next, or replaced."""
    at = rng.randrange(len(name) - 1)
    slips = (
        name[:at] + name[at + 1 :],
        name[:at] + name[at] + name[at:],
        name[:at] + name[at + 1] + name[at] + name[at + 2 :],
        name[:at] + rng.choice("abcdefghijklmnopqrstuvwxyz") + name[at + 1 :],
    )
    return rng.choice(slips)
