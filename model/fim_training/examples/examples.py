"""From source files to rows of training tokens: character-level holes, suffix-prefix-middle order.

Only the code itself may reveal the length of a middle, so a prompt's length is drawn before its
middle is known. If a prompt left exactly the room that its middle takes, every middle would end at
the row's last position, and the model would learn that position instead of the code.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from random import Random

from fim_model.prompt.fim_prompt import PROMPT_OVERHEAD, FimPrompt, PromptBudget
from fim_model.prompt.tokenizer import CodeTokenizer

from fim_training.corpus.corpus_languages import language_of
from fim_training.examples.grammars import grammar_of
from fim_training.examples.real_edits import RealEdits
from fim_training.examples.synthetic_edits import EditCase, draw_edit


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: str
    text: str
    project: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of several examples, one after the other.

    middles: where each hole's tokens stand, its end-of-middle token last. What is in none of them
    is prompt or plain left-to-right text.
    """

    tokens: list[int]
    middles: list[range]


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


def in_brackets(text: str, at: int, rng: Random) -> Hole:
    """From a character inside a line's brackets to the one that closes them, as after `f(`."""
    start, end = _line(text, at)
    pairs = _bracket_pairs(text, start, end)
    if not pairs:
        return rest_of_line(text, at, rng)
    opened, closed = rng.choice(pairs)
    inside = opened + 1 if rng.random() < 0.6 else rng.randint(opened + 1, closed)
    return inside, closed


def block(text: str, at: int, rng: Random) -> Hole:
    """The lines that are indented deeper than the one around `at`, as the body of a function."""
    start, end = _line(text, at)
    depth = _first_ink(text, start, end)
    last = end
    while last < len(text):
        first, stop = _line(text, last + 1)
        ink = _first_ink(text, first, stop)
        if ink < stop and ink - first <= depth - start:
            break
        last = stop
    return end, max(end, len(text[:last].rstrip()))


def nothing(text: str, at: int, rng: Random) -> Hole:
    """A hole where nothing is missing: the model must learn to end at once."""
    _, end = _line(text, at)
    return (end, end) if rng.random() < 0.5 else (at, at)


HOLE_KINDS: Sequence[tuple[Callable[[str, int, Random], Hole], float]] = (
    (whole_line, 0.28),
    (rest_of_line, 0.30),
    (in_brackets, 0.08),
    (span_in_line, 0.08),
    (several_lines, 0.08),
    (block, 0.06),
    (random_span, 0.08),
    (nothing, 0.04),
)


NAME = re.compile(r"[A-Za-z_]\w{2,}")

SHORTEST_PROMPT = PROMPT_OVERHEAD + 16
"""In tokens."""

UNSETTLED_CHARS = 128
"""Characters of a prefix in which to look for its last settled token border."""

MIN_ROOM = SHORTEST_PROMPT + 16
"""In tokens, of an example; a row with less room left is filled up with plain text."""

SHORT_PROMPT = 224
"""Most tokens of a prompt, `long_share` of them aside."""

LONGEST_EDIT_PROMPT = 260
"""The consequences of an edit show in nearby lines; short prompts fit more examples into a row."""

REAL_SHARE = 0.5
"""Of the edits, those of commits, where there are any."""


class ExampleStream:
    """Draws rows of examples from files, each weighted by its length and its language."""

    def __init__(
        self,
        files: Sequence[SourceFile],
        tokenizer: CodeTokenizer,
        *,
        plain_share: float = 0.08,
        edit_share: float = 0.3,
        snippet_share: float = 0.3,
        path_share: float = 0.5,
        long_share: float = 0.3,
        most_middle_chars: int = 320,
        languages: Mapping[str, float] | None = None,
        fim: FimPrompt | None = None,
        commits: RealEdits | None = None,
    ) -> None:
        """The shares are of examples; `path_share`, `snippet_share` and `long_share` (prompts that
        may fill a row) are of those with a hole.

        languages: weights of languages relative to their text in the corpus (1.0).
        fim: how holes are asked for, this project's own layout if None. A layout of another family
        has no place for edits: none are drawn.
        commits: where half of the edits are drawn from; without them all are synthetic.
        """
        if not files:
            raise ValueError("no training files: build the corpus first")
        self.files, self.tokenizer = files, tokenizer
        self.plain_share, self.edit_share = plain_share, edit_share
        self.path_share, self.snippet_share = path_share, snippet_share
        self.long_share = long_share
        self.most_middle_chars = most_middle_chars
        self._fim = FimPrompt.own(tokenizer) if fim is None else fim
        self._commits = commits
        if not self._fim.layout.context:
            self.edit_share = 0.0
        weights = {} if languages is None else languages
        self._cumulative = list(accumulate(_weight(file, weights) for file in files))
        self._projects: dict[str, list[SourceFile]] = defaultdict(list)
        for file in files:
            self._projects[file.project].append(file)

    def draw(self, rng: Random, room: int) -> Row:
        """A row of exactly `room` tokens (room >= 64)."""
        row = Row([], [])
        longest = room // 5
        while (left := room - len(row.tokens)) > 0:
            file = rng.choices(self.files, cum_weights=self._cumulative)[0]
            if left < MIN_ROOM or rng.random() < self.plain_share:
                most = left if left < MIN_ROOM else min(left, SHORT_PROMPT)
                row.tokens.extend(self._plain(file, rng, most))
                continue
            most = min(longest, left // 4)
            prompt, middle = self._filled(file, rng, left - most, most)
            start = len(row.tokens) + len(prompt)
            row.tokens.extend((*prompt, *middle))
            row.middles.append(range(start, start + len(middle)))
        return row

    def _filled(
        self, file: SourceFile, rng: Random, room: int, longest: int
    ) -> tuple[list[int], list[int]]:
        """A prompt of at most `room` tokens and a middle of at most `longest`.

        The two lengths are drawn independently of each other. Most prompts are short: the
        base knows how text goes on, what it must learn is the hole, and short prompts make more
        holes a row.
        """
        size = rng.randint(SHORTEST_PROMPT, max(SHORTEST_PROMPT, min(room, SHORT_PROMPT)))
        if rng.random() < self.long_share:
            size = room - int((room - SHORTEST_PROMPT) * rng.random() ** 2)
        if rng.random() < self.edit_share:
            edited = self._edited(file, rng, min(size, LONGEST_EDIT_PROMPT), room, longest)
            if edited is not None:
                return edited
        start, end, middle = self._middle(file.text, rng, longest)
        return self._prompt(file, start, end, rng, size), middle

    def _edited(
        self, file: SourceFile, rng: Random, room: int, most: int, longest: int
    ) -> tuple[list[int], list[int]] | None:
        """A region to rewrite, in a prompt of about `room` tokens and `most`, and its new text."""
        path: str | None = None
        case: EditCase | None = None
        if self._commits is not None and rng.random() < REAL_SHARE:
            if (drawn := self._commits.draw(rng)) is not None:
                path, case = drawn
        else:
            case = draw_edit(file.text, rng, grammar=grammar_of(file.path))
        if case is None:
            return None
        middle = [*self.tokenizer.encode(case.new), self._fim.eom]
        budget = self._budget(rng, room)
        before, after = case.prefix[-5 * room :], case.suffix[: 5 * room]
        path = self._path(file, rng) if path is None else path
        prompt = self._fim.edit(before, case.old, after, path, case.edits, budget)
        return (prompt, middle) if len(prompt) <= most and len(middle) <= longest else None

    def _middle(self, text: str, rng: Random, longest: int) -> tuple[int, int, list[int]]:
        """Offsets where the prompt's prefix ends and its suffix begins, and the middle's tokens."""
        kinds, weights = zip(*HOLE_KINDS, strict=True)
        eom = self._fim.eom
        for _ in range(8):
            kind = rng.choices(kinds, weights)[0]
            start, end = kind(text, rng.randrange(len(text)), rng)
            inked = text[start:end].strip() or kind is nothing
            if inked and end - start <= self.most_middle_chars:
                settled, typed = self._split(text, start)
                tokens = [*self.tokenizer.encode(typed + text[start:end]), eom]
                if len(tokens) <= longest:
                    return settled, end, tokens
        at = rng.randrange(len(text))
        settled, typed = self._split(text, at)
        return settled, at, [*self.tokenizer.encode(typed), eom]

    def _split(self, text: str, start: int) -> tuple[int, str]:
        """Where the prefix of a hole at `start` ends, and the text with which its middle begins."""
        _, typed = self._fim.split(text[max(0, start - UNSETTLED_CHARS) : start])
        return start - len(typed), typed

    def _prompt(self, file: SourceFile, start: int, end: int, rng: Random, room: int) -> list[int]:
        """A prompt that fills its room."""
        text = file.text
        snippets = self._snippets(file, text[max(0, start - 400) : start], rng, room // 3)
        budget = self._budget(rng, room - len(snippets))
        before, after = text[max(0, start - 5 * room) : start], text[end : end + 5 * room]
        return [*snippets, *self._fim(before, after, self._path(file, rng), budget)]

    def _budget(self, rng: Random, room: int) -> PromptBudget:
        """A budget with a random share of suffix, down to none."""
        room -= PROMPT_OVERHEAD
        suffix = 0 if rng.random() < 0.12 else rng.randint(8, max(8, min(192, room // 2)))
        return PromptBudget(total=room, suffix=suffix)

    def _path(self, file: SourceFile, rng: Random) -> str:
        return file.path if rng.random() < self.path_share else ""

    def _snippets(self, file: SourceFile, before: str, rng: Random, limit: int) -> list[int]:
        """One or two snippets of the project's other files that share names with nearby text."""
        others = self._projects[file.project]
        if rng.random() >= self.snippet_share or len(others) < 2:
            return []
        names = set(NAME.findall(before))
        pieces = []
        for _ in range(6):
            other = rng.choice(others)
            at = rng.randrange(len(other.text))
            start = other.text.rfind("\n", 0, at) + 1
            piece = "\n".join(other.text[start : start + 400].split("\n")[: rng.randint(2, 7)])
            if other is not file:
                pieces.append((len(names.intersection(NAME.findall(piece))), other.path, piece))
        pieces.sort(key=itemgetter(0), reverse=True)
        return self._fim.snippets([piece[1:] for piece in pieces[: rng.randint(1, 2)]], limit)

    def _plain(self, file: SourceFile, rng: Random, room: int) -> list[int]:
        start = rng.randrange(len(file.text))
        start = file.text.rfind("\n", 0, start) + 1
        return self.tokenizer.encode(file.text[start : start + 5 * room])[:room]


def _weight(file: SourceFile, languages: Mapping[str, float]) -> float:
    language = language_of(file.path)
    return len(file.text) * (1.0 if language is None else languages.get(language.name, 1.0))


def _line(text: str, at: int) -> Hole:
    end = text.find("\n", at)
    return text.rfind("\n", 0, at) + 1, len(text) if end < 0 else end


def _bracket_pairs(text: str, start: int, end: int) -> list[Hole]:
    """Offsets of the opening and closing brackets that belong together within a line."""
    opened: list[int] = []
    pairs = []
    for at in range(start, end):
        if text[at] in "([{":
            opened.append(at)
        elif text[at] in ")]}" and opened:
            pairs.append((opened.pop(), at))
    return pairs


def _first_ink(text: str, start: int, end: int) -> int:
    """Offset of the first character of the line that is not indentation."""
    line = text[start:end]
    return start + len(line) - len(line.lstrip(" \t"))
