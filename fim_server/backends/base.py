"""The one interface behind which completions are computed.

A backend may run the model in this process, reach the engine over its socket, or speak to a remote
server: its callers cannot tell. This module imports nothing heavy, so that the front-end can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

Mode = Literal[
    "ar", "diffusion", "self_speculation", "quadratic_speculation", "native", "lookup", "auto"
]
MODES: tuple[Mode, ...] = get_args(Mode)

Progress = Callable[[str, float], None]
"""Called as `progress(what, share)` with `share` in 0..1 while a backend gets ready."""


class BackendError(Exception):
    """The backend cannot serve; the message is one line that names the thing and the way out."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of another file. `path` is for the model to read, relative to the workspace."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A hole to fill: everything the model may see has passed the exclusion rules already.

    `prefix` and `suffix` are plain text around the cursor with `\\n` line ends.
    `session` names the document whose cached tokens may be reused ("" keeps nothing).
    `max_lines` bounds the answer's lines; None leaves the end to the model's end-of-middle token.
    `snippets` are shown before everything else, in their order: keeping it keeps the cached tokens.
    `speculative` asks for what may be wanted next: it gives way to everything a person waits for.
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


@dataclass(frozen=True, slots=True)
class CompletionItem:
    """One way to fill the hole.

    `confidence` (0..1) is the probability of being what was wanted where the model is calibrated,
    else the geometric mean of its tokens' probabilities. `finish` says what ended it: "eom",
    "lines" or "length"; "" where the backend does not tell.
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
class Completion:
    """`show_above` is the confidence from which the model advises to show an item unasked."""

    items: list[CompletionItem] = field(default_factory=list)
    stats: CompletionStats | None = None
    show_above: float = 0.0


class Backend(Protocol):
    """Computes completions off the caller's event loop."""

    async def start(self, progress: Progress) -> None:
        """Get ready (load the model, connect). Raises BackendError with the way out."""

    async def complete(self, request: CompletionRequest) -> Completion:
        """Fill the hole. Cancelling the awaiting task stops the work within one forward.

        A newer request of the same `session` cancels the older one (latest wins): the older call
        returns an empty Completion. Raises BackendError if it cannot serve.
        """

    async def close(self) -> None:
        """Stop all work and release the model. Safe to call twice."""
