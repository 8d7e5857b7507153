"""Adaptive speculation: each round takes the draft that promises most tokens a second, or none.

A draft of k tokens, each accepted with probability p if those before it were, yields
`1 + p + ... + p^k` tokens (Leviathan et al., arXiv 2211.17192, with a cost for every width). Text
that the model has read offers drafts for nothing (`lookup`); a model that denoises drafts with one
more forward (`speculation`). What a forward costs at each width, and how often each kind of draft
is right, is observed while holes are filled: it depends on the machine, on what else runs there,
on the model and on the code.

Greedy output is the autoregressive output, whatever is drafted. Sampled output would depend on the
draft, so on time: a sampled hole is looked up as in `lookup`, which has one text for one seed.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from math import inf

from fim_model.decoding.core import DecodingCore, Step, Steps
from fim_model.decoding.lookup import NgramIndex, certain_draft, lookup
from fim_model.decoding.sampling import Draft
from fim_model.decoding.speculation import draft_block, verify

MODEL = "model"
"""The kind of a draft by the model. Others are the length of the n-gram that was found."""

BLOCKS = (4, 8, 16)
"""Sizes of a block that the model drafts, if it was trained with one as large."""

LEARNING = 0.1
"""What the last observation weighs in an average."""

RETRY = 100
"""Rounds after which the model drafts once more, however rarely it was right: it may have been
unlucky, or the code may be another."""


class ForwardCosts:
    """Seconds of a forward by its width, averaged over those observed.

    slope: what a further position costs, in forwards of one position, until two widths are known.
    """

    def __init__(self, slope: float = 0.05) -> None:
        self._slope = slope
        self._widths: list[int] = []
        self._seconds: dict[int, float] = {}

    def __call__(self, width: int) -> float:
        """Between two observed widths interpolated, beyond them in proportion, and never more than
        a wider one. 1 for one position if nothing was observed."""
        place = bisect_left(self._widths, width)
        below, above = self._widths[:place], self._widths[place:]
        wider = min((self._seconds[each] for each in above), default=inf)
        if above and (above[0] == width or not below):
            return min(wider, self._seconds[above[0]] * self._relative(width, above[0]))
        if not below:
            return self._relative(width, 1)
        narrower = self._seconds[below[-1]]
        if not above:
            return narrower * self._relative(width, below[-1])
        share = (width - below[-1]) / (above[0] - below[-1])
        return min(wider, narrower + share * (self._seconds[above[0]] - narrower))

    def observe(self, width: int, seconds: float) -> None:
        """A single slow forward, as when the process was suspended, counts as three usual ones."""
        if width not in self._seconds:
            self._seconds[width] = seconds
            self._widths = sorted(self._seconds)
            return
        usual = self._seconds[width]
        self._seconds[width] += LEARNING * (min(seconds, 3 * usual) - usual)

    def _relative(self, width: int, other: int) -> float:
        """A width's cost, in that of another."""
        return (1 + self._slope * (width - 1)) / (1 + self._slope * (other - 1))


@dataclass(slots=True)
class Acceptance:
    """How often a drafted token of one kind was accepted, if those before it were."""

    share: float = 0.5

    def observe(self, accepted: int, drafted: int) -> None:
        for kept in (True,) * accepted + (False,) * (accepted < drafted):
            self.share += LEARNING * (kept - self.share)

    def tokens(self, drafted: int) -> float:
        """How many tokens a verified draft yields on average, the one after it included."""
        return sum(self.share**count for count in range(drafted + 1))


@dataclass(slots=True)
class Drafting:
    """What was observed of a model on this machine; shared by all holes that it fills.

    Holes that are filled at the same time may lose an observation to each other, no more.
    """

    costs: ForwardCosts = field(default_factory=ForwardCosts)
    accepted: dict[int | str, Acceptance] = field(default_factory=dict)
    idle_rounds: int = RETRY

    def of(self, kind: int | str) -> Acceptance:
        return self.accepted.setdefault(kind, Acceptance())

    def copied(self, kind: int, longest: int) -> tuple[float, int]:
        """Tokens a second, and the length, of the best draft that is copied; 0 is none."""
        acceptance = self.of(kind)
        return max(
            (acceptance.tokens(count) / self.costs(1 + count), count)
            for count in range(longest + 1)
        )

    def drafted(self, longest: int) -> tuple[float, int]:
        """Tokens a second, and the block's size, of the best draft by the model."""
        acceptance = self.of(MODEL)
        return max(
            (acceptance.tokens(size - 1) / (2 * self.costs(size)), size)
            for size in BLOCKS
            if size <= max(longest, BLOCKS[0])
        )

    def drafts(self, longest: int, rate: float) -> bool:
        """Whether a draft by the model promises more than `rate` tokens a second, or was not tried
        for long."""
        self.idle_rounds += 1
        if self.drafted(longest)[0] <= rate and self.idle_rounds <= RETRY:
            return False
        self.idle_rounds = 0
        return True


def adaptive(core: DecodingCore, drafting: Drafting) -> Steps:
    """Yields one step a forward."""
    if core.sampler.temperature:
        yield from lookup(core)
        return
    index = NgramIndex([*core.prompt, *core.tokens])
    denoises = core.model.config.mask_token_id is not None
    while core.finish is None:
        before = len(core.tokens)
        kind: int | str
        kind, found = index.longest(core.left - 1)
        rate, count = drafting.copied(kind, len(found))
        draft = certain_draft(found[:count], core)
        if denoises and core.left > 1 and drafting.drafts(core.block_size, rate):
            kind, draft = MODEL, (yield from _drafted(core, drafting))
        yield _verified(core, draft, kind, drafting)
        index.extend(core.tokens[before:])


def _drafted(core: DecodingCore, drafting: Drafting) -> Generator[Step, None, Draft]:
    """A draft by the model, in as wide a block as promises most."""
    _, size = drafting.drafted(core.block_size)
    steps = draft_block(core, min(size - 1, core.left - 1))
    yield _timed(core, drafting, lambda: next(steps))
    return (yield from steps)


def _verified(core: DecodingCore, draft: Draft, kind: int | str, drafting: Drafting) -> Step:
    step = _timed(core, drafting, lambda: verify(core, draft))
    if drafted := step.width - 1:
        drafting.of(kind).observe(len(step.committed) - 1, drafted)
    return step


def _timed(core: DecodingCore, drafting: Drafting, run: Callable[[], Step]) -> Step:
    """A step whose cost is observed: that of its own pass, at the rows that all holes have in it.

    What a hole waits for others says nothing about widths.
    """
    began, before = time.perf_counter(), core.model.shared
    step = run()
    seconds, after = time.perf_counter() - began, core.model.shared
    rows = step.width + after.rows - before.rows
    drafting.costs.observe(rows, seconds - (after.waited - before.waited))
    return step
