"""What a model is asked, and what it answers: one vocabulary from the front-end to the core.

Plain values: nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from fim_model.copies import Copied

Mode = Literal[
    "ar", "diffusion", "self_speculation", "quadratic_speculation", "native", "lookup", "auto"
]
"""How a hole is filled. `native` is infilling without FIM training (`decoding/native.py`): another
prompt, and lengths to choose; `auto` is what was measured to be best on this machine."""

MODES: tuple[Mode, ...] = get_args(Mode)

NATIVE: Mode = "native"
AUTO: Mode = "auto"

MOST_TOKENS = 256
"""Longest middle that can be asked for."""

MOST_DRAFTS = 8

DRAFT_PRIOR = 15.0
"""Of a checkpoint that was never measured: a draft is right nine times of ten."""

OWN_PRIOR = 0.0

Finish = Literal["eom", "lines", "length", "filled", "copied"]
"""Why a hole is done: end-of-middle, the lines asked for, the token limit, no mask left, or that it
was copied whole."""


@dataclass(frozen=True, slots=True)
class InfillRequest:
    """A hole between `prefix` and `suffix`.

    `mode` None is the model's best. `snippets` are pieces of other files, as (path, text).
    `session` names the document whose keys may be reused ("" keeps nothing). `max_lines` ends the
    middle after so many lines; None leaves it to the model. Several `alternatives` differ in their
    first token (temperature 0) or in their seed. `copies` are what stands in the hole's place
    elsewhere: items more if the model is calibrated for that, the likeliest of all first.
    """

    prefix: str
    suffix: str
    path: str = ""
    mode: str | None = None
    alternatives: int = 1
    max_tokens: int = 64
    max_lines: int | None = None
    temperature: float = 0.0
    seed: int = 0
    session: str = ""
    snippets: Sequence[tuple[str, str]] = ()
    copies: Sequence[Copied] = ()

    def __post_init__(self) -> None:
        if self.mode is not None and self.mode not in MODES:
            known = ", ".join(MODES)
            raise ValueError(f"mode {self.mode!r} is unknown; known are {known}")
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise ValueError(f"max_tokens must be 1 to {MOST_TOKENS}, not {self.max_tokens}")
        if self.alternatives < 1:
            raise ValueError(f"alternatives must be at least 1, not {self.alternatives}")
        if self.max_lines is not None and self.max_lines < 1:
            raise ValueError(f"max_lines must be at least 1, not {self.max_lines}")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be 0 or more, not {self.temperature}")


@dataclass(frozen=True, slots=True)
class InfillItem:
    """nats: the log-probability of each token when it was committed, the end's included.

    `confidence` (0..1) is the probability of being what was wanted if the model is calibrated, else
    the geometric mean of the tokens' probabilities.
    """

    text: str
    confidence: float
    finish: Finish
    nats: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class InfillResult:
    """forwards: every pass through the network, prefill included. tokens: committed ones.

    show_above: the confidence below which the model's calibration advises to show nothing unasked.
    """

    items: list[InfillItem]
    mode: str
    forwards: int
    tokens: int
    prefill_tokens: int
    reused_tokens: int
    ms: float
    show_above: float = 0.0

    @property
    def tokens_per_forward(self) -> float:
        return self.tokens / self.forwards if self.forwards else 0.0


Way = Literal["rewrite", "refill"]
"""How a region is rewritten: by a model with edit training, or by re-masking and refilling."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A recent change of the user: these lines became those."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class RewriteRequest:
    """A region of whole lines, `old`, between `prefix` and `suffix`.

    `edits` are the user's latest, oldest first; `path` names the file. `drafts` are texts that the
    region may become. `max_tokens` is how many tokens longer than the old region the new one may
    get. `session` names the document whose keys may be reused ("" keeps nothing); they are kept
    apart from those of its completions.
    """

    prefix: str
    old: str
    suffix: str
    edits: Sequence[Edit] = ()
    path: str = ""
    max_tokens: int = 96
    session: str = ""
    drafts: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise ValueError(f"max_tokens must be 1 to {MOST_TOKENS}, not {self.max_tokens}")
        if len(self.drafts) > MOST_DRAFTS:
            raise ValueError(f"drafts must be at most {MOST_DRAFTS}, not {len(self.drafts)}")


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """The region, rewritten.

    new: the likeliest of the old text, the drafts and what the model writes by itself, if that
    comes to an end within the tokens that it may write. gain: log P(new) - log P(old) in nats given
    the prompt, the end included; 0 where it is unchanged (way "refill": the smaller of the gains
    with both sides in view and from left to right). confidence: geometric mean of the probabilities
    of the new tokens, the end included. forwards: every pass through the network. tokens: those of
    the new region. reused_tokens: of the prompt, from the session. draft_gains: of each draft as
    it is; None for one that is too long to be judged. draft_prior, own_prior: nats that speak for a
    draft, and for what the model wrote by itself, beside their gain.
    """

    new: str
    gain: float
    confidence: float
    way: Way
    forwards: int
    tokens: int
    reused_tokens: int
    ms: float
    draft_gains: tuple[float | None, ...] = ()
    draft_prior: float = DRAFT_PRIOR
    own_prior: float = OWN_PRIOR
