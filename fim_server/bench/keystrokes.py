"""Keystrokes of the typing benchmark: real lines, with typos and cursor jumps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from fim_server.bench.samples import FILES, source_text

TYPO_EVERY, JUMP_EVERY = 24, 60
"""Mean number of characters between two typos, and between two cursor jumps."""


@dataclass(frozen=True, slots=True)
class Key:
    """A change at the cursor: typed text, or one character deleted (`back`)."""

    text: str = ""
    back: bool = False


@dataclass(frozen=True, slots=True)
class Jump:
    """A brief move of the cursor: a completion is requested at the end of `line`."""

    line: int


@dataclass(frozen=True, slots=True)
class TypingTask:
    """A file, `before` + `after`, and the text typed between them."""

    path: str
    before: str
    typed: str
    after: str


def typing_tasks(count: int, characters: int, seed: int) -> list[TypingTask]:
    """`count` places in the bundled files, with about `characters` to type at each."""
    rng = random.Random(seed)
    tasks = []
    for number in range(count):
        path = FILES[number % len(FILES)]
        lines = source_text(path).splitlines(keepends=True)
        first = rng.randrange(len(lines) // 8, len(lines) - 20)
        last, size = first, 0
        while size < characters and last < len(lines):
            size += len(lines[last])
            last += 1
        typed = "".join(lines[first:last])[:characters]
        tasks.append(TypingTask(path, "".join(lines[:first]), typed, "".join(lines[last:])))
    return tasks


def keys_of(task: TypingTask, seed: int) -> Iterator[Key | Jump]:
    """The task's characters in order, with corrected typos and cursor jumps in between."""
    rng = random.Random(seed)
    for character in task.typed:
        if character.isalpha() and rng.random() < 1 / TYPO_EVERY:
            yield Key(rng.choice("etaoinshr"))
            yield Key(back=True)
        if rng.random() < 1 / JUMP_EVERY:
            yield Jump(rng.randrange(max(1, task.before.count("\n"))))
        yield Key(character)
