"""What the model says of texts from elsewhere, judged in the forward that reads the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fim_model.calibration.confidence import Calibration
from fim_model.copies import Copied
from fim_model.decoding.healing import Continuations, left_to_spell, restricted
from fim_model.decoding.predictions import log_probabilities
from fim_model.decoding.prompt_cache import PromptCache, Reading
from fim_model.decoding.token_tree import TokenTree
from fim_model.prompt.tokenizer import CodeTokenizer


@dataclass(frozen=True, slots=True)
class Judged:
    """nats: the log-probability of each token of the text, the end's included. confidence: of the
    text being what was wanted."""

    text: str
    nats: tuple[float, ...]
    confidence: float


class CopyJudge:
    """Reads prompts, and copies behind them. Without a calibration for copies nothing tells how far
    to trust one, and none is judged."""

    def __init__(
        self,
        tokenizer: CodeTokenizer,
        eom_id: int,
        calibration: Calibration | None,
        continuations: Continuations,
    ) -> None:
        copies = calibration is not None and calibration.copies is not None
        self._calibration = calibration if copies else None
        self._tokenizer, self._eom_id = tokenizer, eom_id
        self._continuations = continuations

    def read(
        self,
        cache: PromptCache,
        prompt: Sequence[int],
        copies: Sequence[Copied],
        room: int,
        typed: str = "",
    ) -> tuple[Reading, list[Judged]]:
        """One forward over the prompt and those copies for which `room` tokens are enough.

        Each copy stands behind `typed`, whose tokens are certain. The judged ones come the surest
        first.
        """
        if self._calibration is None:
            return cache.read(prompt), []
        chosen = self._fitting(copies, room, typed)
        tree = TokenTree.of([ids for _, ids in chosen])
        reading, judged = cache.read(prompt, tree), []
        for place, (one, ids) in enumerate(chosen):
            logits = self._bound(reading.logits[tree.rows(place)], ids, typed.encode())
            nats = log_probabilities(logits, [*ids, self._eom_id])
            judged.append(Judged(one.text, tuple(nats), self._calibration.of_copy(nats, one)))
        return reading, sorted(judged, key=lambda one: one.confidence, reverse=True)

    def _bound(self, logits: Tensor, ids: Sequence[int], typed: bytes) -> Tensor:
        """Logits `[n, V]` of a text's tokens, restricted where they spell what was typed."""
        for row, token in enumerate(ids):
            if not typed:
                break
            choices = {*self._continuations.choices(typed), token}
            logits[row] = restricted(logits[row], sorted(choices))
            typed = left_to_spell(typed, self._tokenizer.token_bytes(token))
        return logits

    def _fitting(
        self, copies: Sequence[Copied], room: int, typed: str
    ) -> list[tuple[Copied, list[int]]]:
        chosen = []
        for one in copies:
            ids = self._tokenizer.encode(typed + one.text)
            if len(ids) <= room:
                chosen.append((one, ids))
                room -= len(ids)
        return chosen
