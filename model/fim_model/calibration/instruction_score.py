"""Whether a model does what an instruction says, measured on ten small edits.

A chat template says that a model converses, not that it edits: small ones repeat the lines, or
write something else. So a model does these tasks once, before its first edit by instruction is
offered; each has few right answers, which are compared as text. Its score stands in its folder
(`instructions.json`, shipped with the checkpoint), or is kept where the caller says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fim_model.requests import InstructionRequest

INSTRUCTIONS = "instructions.json"
"""The file's name in a checkpoint folder."""

MIN_RIGHT = 6
"""Tasks that a model must do right for edits by instruction to be offered."""

MAX_NEW_TOKENS = 64
"""By how much a task's region may grow."""


@dataclass(frozen=True, slots=True)
class Task:
    """An edit of a whole small text, and what it may become."""

    language: str
    instruction: str
    old: str
    right: tuple[str, ...]

    @property
    def request(self) -> InstructionRequest:
        """What the model is asked: it yields to everything else."""
        return InstructionRequest(
            self.instruction,
            "",
            self.old,
            "",
            language=self.language,
            max_tokens=MAX_NEW_TOKENS,
            speculative=True,
        )

    def is_done(self, new: str) -> bool:
        """Whether the text is one of the right ones, blanks at line ends and around it apart."""
        return _plain(new) in map(_plain, self.right)


TASKS = (
    Task(
        "python",
        "Rename the variable x to total.",
        "x = 0\nfor price in prices:\n    x += price\nprint(x)",
        ("total = 0\nfor price in prices:\n    total += price\nprint(total)",),
    ),
    Task(
        "python",
        "Add type hints: both parameters and the result are int.",
        "def add(a, b):\n    return a + b",
        ("def add(a: int, b: int) -> int:\n    return a + b",),
    ),
    Task(
        "python",
        "Delete the print statement.",
        "def area(width, height):\n    print(width, height)\n    return width * height",
        ("def area(width, height):\n    return width * height",),
    ),
    Task(
        "javascript",
        "Use const instead of var.",
        'var name = "Ada";\nvar year = 1815;',
        ('const name = "Ada";\nconst year = 1815;',),
    ),
    Task(
        "python",
        "Return None instead of 0 when the list is empty.",
        "def first(items):\n    if not items:\n        return 0\n    return items[0]",
        (
            "def first(items):\n    if not items:\n        return None\n    return items[0]",
            "def first(items):\n    if not items:\n        return\n    return items[0]",
        ),
    ),
    Task(
        "python",
        "Use an f-string.",
        'def greet(name):\n    return "Hello, " + name + "!"',
        (
            'def greet(name):\n    return f"Hello, {name}!"',
            "def greet(name):\n    return f'Hello, {name}!'",
        ),
    ),
    Task(
        "go",
        "Change the port to 9090.",
        'const host = "localhost"\nconst port = 8080',
        ('const host = "localhost"\nconst port = 9090',),
    ),
    Task(
        "python",
        "Make the function async.",
        "def load(path):\n    return read(path)",
        (
            "async def load(path):\n    return read(path)",
            "async def load(path):\n    return await read(path)",
        ),
    ),
    Task(
        "typescript",
        "Add a parameter named timeout of type number at the end.",
        "function get(url: string) {\n  return send(url);\n}",
        (
            "function get(url: string, timeout: number) {\n  return send(url);\n}",
            "function get(url: string, timeout: number) {\n  return send(url, timeout);\n}",
        ),
    ),
    Task(
        "python",
        "Sort the names in reverse order.",
        "names = sorted(names)\nprint(names)",
        ("names = sorted(names, reverse=True)\nprint(names)",),
    ),
)


@dataclass(frozen=True, slots=True)
class InstructionScore:
    """How many of the first `asked` tasks were done right."""

    right: int
    asked: int

    @property
    def decided(self) -> bool:
        """Whether the tasks that were not asked cannot change `suffices`."""
        return self.suffices or self.right + len(TASKS) - self.asked < MIN_RIGHT

    @property
    def suffices(self) -> bool:
        """Whether edits by instruction are offered with such a model."""
        return self.right >= MIN_RIGHT

    def and_(self, done: bool) -> InstructionScore:
        """The score with another task."""
        return InstructionScore(self.right + done, self.asked + 1)

    def __str__(self) -> str:
        done = f"{self.right} of {self.asked} test edits right"
        return f"{done}; {MIN_RIGHT} of {len(TASKS)} are needed"

    @classmethod
    def read(cls, files: Sequence[Path]) -> InstructionScore | None:
        """The score in the first of the files that has a decided one; None if none has."""
        for file in files:
            try:
                raw = json.loads(file.read_text(encoding="utf-8"))
                found = cls(int(raw["right"]), int(raw["asked"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # it is measured anew
            if found.decided and 0 <= found.right <= found.asked <= len(TASKS):
                return found
        return None

    def write(self, file: Path) -> None:
        """Raises OSError."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")


def _plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
