"""What is typed in the typing benchmark: real lines, with typing errors and second looks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from fim_server.bench.samples import FILES, source_text

TYPO_EVERY, JUMP_EVERY = 24, 60
"""Characters between two corrections, and between two looks at another place (means)."""


@dataclass(frozen=True, slots=True)
class Key:
    """One change at the cursor: text typed, or one character taken back."""

    text: str = ""
    back: bool = False


@dataclass(frozen=True, slots=True)
class Jump:
    """The cursor is elsewhere for a moment: a completion is asked for at that line's end."""

    line: int


@dataclass(frozen=True, slots=True)
class TypingTask:
    """A file without the lines that will be typed after `before`."""

    path: str
    before: str
    typed: str
    after: str


def typing_tasks(count: int, characters: int, seed: int) -> list[TypingTask]:
    """`count` places in the bundled files at which about `characters` are typed."""
    chosen = random.Random(seed)
    tasks = []
    for number in range(count):
        path = FILES[number % len(FILES)]
        lines = source_text(path).splitlines(keepends=True)
        first = chosen.randrange(len(lines) // 8, len(lines) - 20)
        last, size = first, 0
        while size < characters and last < len(lines):
            size += len(lines[last])
            last += 1
        typed = "".join(lines[first:last])[:characters]
        tasks.append(TypingTask(path, "".join(lines[:first]), typed, "".join(lines[last:])))
    return tasks


def keys_of(task: TypingTask, seed: int) -> Iterator[Key | Jump]:
    """The characters one by one; some are wrong at first, and sometimes the eye is elsewhere."""
    chosen = random.Random(seed)
    for character in task.typed:
        if character.isalpha() and chosen.random() < 1 / TYPO_EVERY:
            yield Key(chosen.choice("etaoinshr"))
            yield Key(back=True)
        if chosen.random() < 1 / JUMP_EVERY:
            yield Jump(chosen.randrange(max(1, task.before.count("\n"))))
        yield Key(character)
