"""Judging copies: how likely texts from elsewhere are, from the forward that reads the prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fim_model.calibration.confidence import Calibration
from fim_model.copies import Copied
from fim_model.decoding.healing import Continuations, left_to_spell, restricted
from fim_model.decoding.predictions import log_probabilities
from fim_model.decoding.prepared_hole import PreparedHole
from fim_model.decoding.prompt_cache import Prefill, PromptCache
from fim_model.decoding.token_tree import TokenTree
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import NATIVE, CompletionItem


class CopyJudge:
    """Prefills prompts with copies after them.

    Without a calibration for copies there is no measure of how far to trust one: none is judged.
    """

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

    def prefill(
        self,
        cache: PromptCache,
        hole: PreparedHole,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> tuple[Prefill, list[CompletionItem]]:
        """Read the prompt, with as many copies behind it as the hole's token limit allows.

        Each copy follows what was typed, whose tokens are certain. The items come surest
        first. Mode `native`, which sees no suffix, judges none. A model that reads both ways has
        nothing to read beforehand.
        """
        if cache.model.config.family.full_attention:
            cache.rewind(0)
            return Prefill(torch.empty(0, 0), 0, len(hole.prompt), forwards=0), []
        if self._calibration is None or hole.mode == NATIVE:
            return cache.prefill(hole.prompt, should_stop=should_stop), []
        chosen = self._fitting(hole)
        tree = TokenTree.of([ids for _, ids in chosen])
        prefill, items = cache.prefill(hole.prompt, tree, should_stop), []
        for number, (copy, ids) in enumerate(chosen):
            logits = self._restricted(prefill.logits[tree.rows(number)], ids, hole.typed.encode())
            nats = tuple(log_probabilities(logits, [*ids, self._eom_id]))
            confidence = self._calibration.of_copy(nats, copy)
            items.append(CompletionItem(copy.text, confidence, "copied", nats))
        return prefill, sorted(items, key=lambda item: item.confidence, reverse=True)

    def _restricted(self, logits: Tensor, ids: Sequence[int], typed: bytes) -> Tensor:
        """Logits `[n, V]` of a text's tokens, restricted where they spell what was typed."""
        for row, token in enumerate(ids):
            if not typed:
                break
            choices = {*self._continuations.choices(typed), token}
            logits[row] = restricted(logits[row], sorted(choices))
            typed = left_to_spell(typed, self._tokenizer.token_bytes(token))
        return logits

    def _fitting(self, hole: PreparedHole) -> list[tuple[Copied, list[int]]]:
        """The copies that fit the token limit together, and their ids; a token is for the end."""
        chosen, room = [], hole.request.max_tokens - 1
        for copy in hole.request.copies:
            ids = self._tokenizer.encode(hole.typed + copy.text)
            if len(ids) <= room:
                chosen.append((copy, ids))
                room -= len(ids)
        return chosen
