"""From source files to training examples: character-level holes, suffix-prefix-middle order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from fim_model.prompt import PROMPT_OVERHEAD, PromptBudget, spm_prompt
from fim_model.tokenizer import CodeTokenizer


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one example; `middle` is where the hole's first token stands.

    A plain left-to-right example has `middle == len(tokens)` and no end-of-middle token.
    """

    tokens: list[int]
    middle: int


Hole = tuple[int, int]
"""Character offsets `[start, end)` of what is taken out of a text."""


def whole_line(text: str, at: int, rng: Random) -> Hole:
    """The line around `at` with its indentation and newline, or only its content."""
    start, end = _line(text, at)
    if rng.random() < 0.4:
        return start, min(end + 1, len(text))
    return _first_ink(text, start, end), end


def rest_of_line(text: str, at: int, rng: Random) -> Hole:
    """From any character of the line, mid-word or not, to its end."""
    start, end = _line(text, at)
    return rng.randint(_first_ink(text, start, end), end), end


def span_in_line(text: str, at: int, rng: Random) -> Hole:
    """Between two characters of one line: a cursor with text on both sides."""
    start, end = _line(text, at)
    a, b = sorted((rng.randint(start, end), rng.randint(start, end)))
    return a, b


def several_lines(text: str, at: int, rng: Random) -> Hole:
    """The rest of this line and one to five more."""
    start, end = rest_of_line(text, at, rng)
    for _ in range(rng.randint(1, 5)):
        following = text.find("\n", end + 1)
        end = len(text) if following < 0 else following
    return start, end


def random_span(text: str, at: int, rng: Random) -> Hole:
    """Any characters, up to about three lines."""
    return at, min(len(text), at + rng.randint(1, 120))


def nothing(text: str, at: int, rng: Random) -> Hole:
    """A hole where nothing is missing: the model must learn to end at once."""
    _, end = _line(text, at)
    return (end, end) if rng.random() < 0.5 else (at, at)


HOLE_KINDS: Sequence[tuple[Callable[[str, int, Random], Hole], float]] = (
    (whole_line, 0.28),
    (rest_of_line, 0.36),
    (span_in_line, 0.10),
    (several_lines, 0.14),
    (random_span, 0.08),
    (nothing, 0.04),
)


class ExampleStream:
    """Draws examples from files, each file as often as it is long."""

    def __init__(
        self,
        files: Sequence[SourceFile],
        tokenizer: CodeTokenizer,
        *,
        plain_share: float = 0.08,
        path_share: float = 0.5,
        most_middle_chars: int = 320,
    ) -> None:
        if not files:
            raise ValueError("no training files: build the corpus first")
        self.files, self.tokenizer = files, tokenizer
        self.plain_share, self.path_share = plain_share, path_share
        self.most_middle_chars = most_middle_chars
        self._cumulative = list(accumulate(len(file.text) for file in files))

    def draw(self, rng: Random, room: int) -> Example:
        """One example of at most `room` tokens (room >= 64)."""
        file = rng.choices(self.files, cum_weights=self._cumulative)[0]
        if rng.random() < self.plain_share:
            return self._plain(file, rng, room)
        start, end = self._hole(file.text, rng)
        middle = [*self.tokenizer.encode(file.text[start:end]), self.tokenizer.special.eom]
        if len(middle) > room - 32:
            return self._plain(file, rng, room)
        path = file.path if rng.random() < self.path_share else ""
        prompt = self._prompt(file.text, start, end, path, rng, room - len(middle))
        return Example([*prompt, *middle], len(prompt))

    def _hole(self, text: str, rng: Random) -> Hole:
        kinds, weights = zip(*HOLE_KINDS, strict=True)
        for _ in range(8):
            kind = rng.choices(kinds, weights)[0]
            start, end = kind(text, rng.randrange(len(text)), rng)
            inked = text[start:end].strip() or kind is nothing
            if inked and end - start <= self.most_middle_chars:
                return start, end
        at = rng.randrange(len(text))
        return at, at

    def _prompt(
        self, text: str, start: int, end: int, path: str, rng: Random, room: int
    ) -> list[int]:
        """A prompt that fills its room; how much of it is suffix varies, down to nothing."""
        room -= PROMPT_OVERHEAD
        suffix = 0 if rng.random() < 0.12 else rng.randint(8, max(8, min(128, room // 3)))
        budget = PromptBudget(total=room, suffix=suffix)
        before = text[max(0, start - 5 * room) : start]
        return spm_prompt(self.tokenizer, before, text[end : end + 5 * suffix], path, budget)

    def _plain(self, file: SourceFile, rng: Random, room: int) -> Example:
        start = rng.randrange(len(file.text))
        start = file.text.rfind("\n", 0, start) + 1
        tokens = self.tokenizer.encode(file.text[start : start + 5 * room])[:room]
        return Example(tokens, len(tokens))


def _line(text: str, at: int) -> Hole:
    end = text.find("\n", at)
    return text.rfind("\n", 0, at) + 1, len(text) if end < 0 else end


def _first_ink(text: str, start: int, end: int) -> int:
    """Offset of the first character of the line that is not indentation."""
    line = text[start:end]
    return start + len(line) - len(line.lstrip(" \t"))
