"""The model is asked about drafts only as long as its answers can change what is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fim_model.requests import OWN_PRIOR, Rewrite, RewriteRequest
from scripted import ScriptedBackend

from fim_server.backends.base import BackendError, Unfit
from fim_server.edits.next_edit import MOST_GAIN, DraftJudge, Gate

REQUEST = RewriteRequest("", "old", "", drafts=("new",))
GATE = Gate(0.9)


class Answers(ScriptedBackend):
    """Answers every rewrite with one of some priors, or with an error."""

    def __init__(self, weight: float, own: float, way: str = "rewrite") -> None:
        super().__init__()
        self.answer = Rewrite("old", 0.0, 1.0, way, 1, 1, 0, 1.0, (3.0,), weight, own)
        self.error: BackendError | None = None

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        self.rewrites.append(request)
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.mark.parametrize(
    ("weight", "own", "way", "asked"),
    [
        (0.0, -32.0, "rewrite", 1),
        (0.0, -100.0, "rewrite", 1),
        (0.0, OWN_PRIOR, "rewrite", 3),
        (0.0, OWN_PRIOR, "refill", 1),
        (0.3, -100.0, "rewrite", 3),
        (-0.3, -100.0, "refill", 3),
    ],
)
async def test_asked_by_the_priors(weight: float, own: float, way: str, asked: int) -> None:
    backend = Answers(weight, own, way)
    judge = DraftJudge(lambda: backend, lambda: GATE)
    answers = [await judge.ask(REQUEST) for _ in range(3)]
    assert len(backend.rewrites) == asked
    assert answers[0] == backend.answer
    gains = [answer.draft_gains for answer in answers if answer is not None]
    assert gains == [(3.0,)] * asked + [(None,)] * (3 - asked)
    judge.reset()
    await judge.ask(REQUEST)
    assert len(backend.rewrites) == asked + 1


async def test_a_lower_gate_lets_the_models_own_texts_pass() -> None:
    answer = Answers(0.0, -32.0).answer
    assert not GATE.heeds(answer)
    assert Gate(MOST_GAIN - 32.0).heeds(answer)
    assert GATE.heeds(replace(answer, own_prior=1.0 - MOST_GAIN))


async def test_what_fails_for_once_is_asked_again() -> None:
    backend = Answers(0.5, -32.0)
    judge = DraftJudge(lambda: backend, lambda: GATE)
    for error in (BackendError("gone"), Unfit("too long")):
        backend.error = error
        for _ in range(2):
            with pytest.raises(BackendError):
                await judge.ask(REQUEST)
    assert len(backend.rewrites) == 4
    backend.error = None
    assert await judge.ask(REQUEST) == backend.answer
    with pytest.raises(BackendError, match="not ready"):
        await DraftJudge(lambda: None, lambda: GATE).ask(REQUEST)
