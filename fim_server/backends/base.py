"""The one interface behind which completions are computed.

A backend may run the model in this process, reach the engine over its socket, or speak to a remote
server: its callers cannot tell. This module imports nothing heavy, so that the front-end can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from fim_model.copies import Copied
from fim_model.requests import DRAFT_PRIOR, OWN_PRIOR, Mode

Progress = Callable[[str, float], None]
"""Called as `progress(what, share)` with `share` in 0..1 while a backend gets ready."""


class BackendError(Exception):
    """The backend cannot serve; the message is one line that names the thing and the way out."""


class Unfit(BackendError):
    """This request cannot be served, such as lines that are too long; others can."""


class Unsupported(BackendError):
    """The backend can never do what it is asked: to ask again is in vain."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of another file. `path` is for the model to read, relative to the workspace."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A hole to fill: everything the model may see has passed the exclusion rules already.

    `prefix` and `suffix` are plain text around the cursor with `\\n` line ends.
    `session` names the document whose cached tokens may be reused ("" keeps nothing); behind a `#`
    it names a part of one, such as its second prompt.
    `max_lines` bounds the answer's lines; None leaves the end to the model's end-of-middle token.
    `snippets` are shown before everything else, in their order: keeping it keeps the cached tokens.
    `copies` are what the document and other files have in the hole's place, for the model to judge.
    `speculative` asks for what may be wanted next: it gives way to everything a person waits for.
    `trace` asks for what each forward did; remote servers cannot tell.
    """

    prefix: str
    suffix: str
    path: str = ""
    language: str = ""
    mode: Mode = "auto"
    alternatives: int = 1
    max_tokens: int = 64
    max_lines: int | None = None
    temperature: float = 0.0
    seed: int = 0
    session: str = ""
    snippets: tuple[Snippet, ...] = ()
    speculative: bool = False
    copies: tuple[Copied, ...] = ()
    trace: bool = False


@dataclass(frozen=True, slots=True)
class CompletionItem:
    """One way to fill the hole.

    `confidence` (0..1) is the probability of being what was wanted where the model is calibrated,
    else the geometric mean of its tokens' probabilities. `finish` says what ended it: "eom",
    "lines" or "length", "copied" for a copy; "" where the backend does not tell.
    """

    text: str
    confidence: float
    finish: str = ""


@dataclass(frozen=True, slots=True)
class CompletionStats:
    """What it cost. `tokens_per_forward` = committed tokens (end-of-middle included) / forwards."""

    mode: str
    forwards: int
    tokens: int
    tokens_per_forward: float
    prefill_tokens: int
    reused_tokens: int
    ms: float


@dataclass(frozen=True, slots=True)
class TraceStep:
    """What one forward did; a `kind` of "prefill" begins an alternative.

    width: positions in the forward. hole: its tokens' texts behind it, None for a mask. committed,
    remasked: places in the hole. confidences: of the committed ones.
    """

    kind: str
    width: int
    hole: list[str | None]
    committed: list[int]
    confidences: list[float]
    remasked: list[int]


@dataclass(frozen=True, slots=True)
class Completion:
    """`show_above` is the confidence from which the model advises to show an item unasked; `trace`
    has every forward, if that was asked for."""

    items: list[CompletionItem] = field(default_factory=list)
    stats: CompletionStats | None = None
    show_above: float = 0.0
    trace: list[TraceStep] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PastEdit:
    """A change a person made: whole lines before and after it, with `\\n` between them."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class RewriteRequest:
    """Whole lines to revise after what a person changed elsewhere.

    `old` are the lines with `\\n` between them and none at the end; prefix + old + suffix is the
    text, as far as it is shown. `edits` are the changes that led here, the oldest
    first. `session` names the cached tokens to reuse; it is not that of a document's completions.
    `speculative` gives way to everything a person waits for. `drafts` are texts that the lines may
    become, for the model to judge beside its own.
    """

    prefix: str
    old: str
    suffix: str
    edits: tuple[PastEdit, ...] = ()
    path: str = ""
    max_tokens: int = 96
    session: str = ""
    speculative: bool = True
    drafts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What the model makes of the lines: `new` is `old` where it leaves them alone.

    `gain` is log P(new) - log P(old) in nats, 0 for what is left alone. `confidence` (0..1) is the
    geometric mean probability of the new tokens. `way` is "rewrite" for a model trained on edits
    and "refill" for one that masks and fills again what it doubts. `draft_gains` are the gains of
    the request's drafts, None for one that is too long to be judged. `draft_prior` and `own_prior`
    are nats that speak for a draft, and for what the model wrote by itself, beside their gain: the
    checkpoint's own, where they were measured.
    """

    new: str
    gain: float
    confidence: float
    way: str
    forwards: int
    tokens: int
    reused_tokens: int
    ms: float
    draft_gains: tuple[float | None, ...] = ()
    draft_prior: float = DRAFT_PRIOR
    own_prior: float = OWN_PRIOR


class Backend(Protocol):
    """Computes completions off the caller's event loop."""

    async def start(self, progress: Progress) -> None:
        """Get ready (load the model, connect). Raises BackendError with the way out."""

    async def complete(self, request: CompletionRequest) -> Completion:
        """Fill the hole. Cancelling the awaiting task stops the work within one forward.

        A newer request of the same `session` cancels the older one (latest wins): the older call
        returns an empty Completion. Raises BackendError if it cannot serve.
        """

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        """Revise lines; None if another request took its place, which may be asked again.

        Cancelling the awaiting task stops the work within one forward. Raises Unsupported where
        the model or server cannot do it, and BackendError if it cannot serve.
        """

    async def forget(self, session: str) -> None:
        """Free what is kept for a session that is over, and for its parts (`session#…`).

        Never raises: what cannot be freed now makes room later.
        """

    async def close(self) -> None:
        """Stop all work and release the model. Safe to call twice."""
