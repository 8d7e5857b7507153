"""The interface of evaluations to a model: a hole in, a fill with its cost out.

Everything here is graded through the plain callable `Filler`, so that an oracle, a baseline and a
model are graded by the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fim_model.copies import Copied

if TYPE_CHECKING:
    from fim_model.infiller import Infiller
    from fim_model.requests import Finish

Mode = Literal["ar", "diffusion", "self_speculation", "quadratic_speculation", "native"]


@dataclass(frozen=True, slots=True)
class Hole:
    """The text on both sides of a gap. `max_lines=None` leaves the end to the model.

    `copies` are the server's candidates from elsewhere in the project.
    """

    prefix: str
    suffix: str
    path: str = ""
    max_tokens: int = 64
    max_lines: int | None = None
    copies: tuple[Copied, ...] = ()


@dataclass(frozen=True, slots=True)
class Fill:
    """One answer and what it cost: forwards (prefill included), committed tokens, milliseconds."""

    text: str
    forwards: int = 0
    tokens: int = 0
    ms: float = 0.0
    finish: Finish = "eom"


Filler = Callable[[Hole], Fill]


def model_filler(
    infiller: Infiller,
    *,
    mode: str = "self_speculation",
    temperature: float = 0.0,
    seed: int = 0,
    copies: bool = False,
) -> Filler:
    """A Filler that asks a loaded model, always cold: no tokens are reused between holes.

    copies: what the project has in the hole's place is a candidate too, as in the server.
    """
    from fim_model.requests import CompletionRequest

    def fill(hole: Hole) -> Fill:
        request = CompletionRequest(
            prefix=hole.prefix,
            suffix=hole.suffix,
            path=hole.path,
            mode=mode,
            max_tokens=hole.max_tokens,
            max_lines=hole.max_lines,
            temperature=temperature,
            seed=seed,
            copies=hole.copies if copies else (),
        )
        result = infiller.infill(request)
        item, stats = result.items[0], result.stats
        assert stats is not None
        return Fill(item.text, stats.forwards, stats.tokens, stats.ms, item.finish)

    return fill
