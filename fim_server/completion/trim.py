"""Trims from an answer the text that is already around the cursor.

Pure functions of text with `\\n` line ends. `before` and `after` are the two sides of the cursor.
"""

from __future__ import annotations

import re

_BLANK_START = re.compile(r"\A(?:[^\S\n]*\n)+")
_CLOSES_ONLY = re.compile(r"\s*[)\]}]+")
_CLOSES = {"(": ")", "[": "]", "{": "}"}


def without_overlap(text: str, line_before: str, line_after: str) -> str:
    """The text without an end that the rest of the line begins with: `x)` before `)` gives `x`.

    The overlap must not begin inside a word, and must not unbalance brackets: in `f(g|)` the answer
    `()` keeps its bracket, because without it the line would have more brackets without a partner.
    """
    for rest in (line_after.rstrip(), line_after.strip()):
        for size in range(min(len(text), len(rest)), 0, -1):
            if not text.endswith(rest[:size]):
                continue
            kept = text[:-size]
            splits_word = kept and is_word(kept[-1]) and is_word(rest[0])
            balance_with = unmatched_brackets(line_before + text + line_after)
            if not splits_word and (
                unmatched_brackets(line_before + kept + line_after) <= balance_with
            ):
                return kept
    return text


def without_repeated_lines(text: str, following: str) -> str:
    """The text without last lines that repeat the next lines of the document.

    The first line always stays: it continues the cursor's own. A last line of closing brackets is
    repeated by a line that begins with them.
    """
    lines = _stripped_lines(text.rstrip())
    next_lines = _stripped_lines(_without_blank_start(following))
    closes = bool(_CLOSES_ONLY.fullmatch(lines[-1]))
    for count in range(min(len(lines) - 1, len(next_lines)), 0, -1):
        *others, last = next_lines[:count]
        repeats = last == lines[-1] or (closes and last.startswith(lines[-1]))
        if repeats and lines[-count:-1] == others:
            return "\n".join(lines[:-count])
    return text


def repeats_next_lines(completed: str, following: str) -> bool:
    """Whether the completed lines only repeat the next ones.

    Lines of brackets alone must agree in indentation too: closing one level more is no repetition.
    """
    ours = _stripped_lines(completed)
    theirs = _stripped_lines(_without_blank_start(following))[: len(ours)]
    if any(is_word(character) for character in completed):
        ours, theirs = [line.strip() for line in ours], [line.strip() for line in theirs]
    return ours == theirs


def repeats_previous_lines(completed: str, preceding: str) -> bool:
    """Whether the completed lines repeat those right before them, indentation included.

    Lines of brackets alone never count: good code repeats them.
    """
    ours = [line for line in _stripped_lines(completed) if line]
    theirs = [line for line in _stripped_lines(preceding) if line][-len(ours) :]
    return ours == theirs and any(map(is_word, completed))


def repeats_itself(text: str) -> bool:
    """Whether the text has a line of letters, or two in turn, three times in a row: a stuck model.

    Rows of digits or brackets alone do not count: good code repeats them.
    """
    lines = [line for line in _stripped_lines(text) if line]
    for size in (1, 2):
        for at in range(len(lines) - 3 * size + 1):
            first, second, third = (lines[at + n * size : at + (n + 1) * size] for n in range(3))
            if first == second == third and any(map(str.isalpha, "".join(first))):
                return True
    return False


def unmatched_brackets(line: str) -> int:
    """The number of brackets without a partner in the line. Brackets in strings count as well."""
    expected: list[str] = []
    strays = 0
    for character in line:
        if character in _CLOSES:
            expected.append(_CLOSES[character])
        elif character in _CLOSES.values():
            if expected and expected[-1] == character:
                expected.pop()
            else:
                strays += 1
    return strays + len(expected)


def _stripped_lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.split("\n")]


def _without_blank_start(text: str) -> str:
    return _BLANK_START.sub("", text)


def is_word(character: str) -> bool:
    """Whether a character can be part of a name; "" cannot."""
    return character.isalnum() or character == "_"
