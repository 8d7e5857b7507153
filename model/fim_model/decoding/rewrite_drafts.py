"""Rewrite a region with drafts: text that stays, or was expected, costs next to nothing.

The prompt ends with the region as it is, and the model writes it again. The old text is a draft,
and so is every other text that the caller expects; all are read along with the prompt, which
verifies a region that stays or becomes one of them. Where the new text leaves the draft that it
followed longest, it goes on token by token until it meets that draft again: then the rest of it is
the next draft. Greedy output is the autoregressive output: to the last bit where the first draft is
followed, and up to rounding where another one is, beside whose keys those of the first lie hidden,
so that sums are taken in another order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from torch import Tensor

from fim_model.decoding.core import DecodingCore, ForwardKind, Steps
from fim_model.decoding.lookup import (
    DRAFT_TOKENS,
    LONGEST,
    SHORTEST,
    NgramIndex,
    certain_draft,
    verify_drafts,
)
from fim_model.decoding.predictions import log_probabilities
from fim_model.decoding.prompt_cache import Prefill, common_prefix
from fim_model.decoding.token_tree import TokenTree


def rewrite_with_drafts(
    core: DecodingCore, drafts: Sequence[Sequence[int]], tree: TokenTree, prefill: Prefill
) -> Steps:
    """Write the region; `prefill` is of the prompt with the tree of `drafts` ahead.

    Yields one step a forward. Of several drafts the one accepted longest is followed, which is
    exact only for a greedy sampler.
    """
    each = [
        core.sampler.accept_draft(prefill.logits[tree.rows(number)], certain_draft(draft, core))
        for number, draft in enumerate(drafts)
    ]
    followed = max(range(len(each)), key=lambda number: len(each[number].tokens))
    accepted = each[followed]
    source = OldText(drafts[followed], NgramIndex(core.prompt))
    # The last accepted token is the seed, which the draft did not have: its keys are not written.
    core.cache.keep(tree.paths[followed][: len(accepted.tokens) - 1])
    core.commit(accepted.tokens, accepted.confidences)
    source.extend(core.tokens)
    yield core.step(ForwardKind.PREFILL, prefill.computed + len(tree), 0)
    yield from verify_drafts(core, source)


def tree_log_probabilities(
    logits: Tensor, tree: TokenTree, texts: Sequence[Sequence[int]], end: int | None = None
) -> list[float]:
    """Log-probability of each text of a tree, in nats, with the token `end` if given.

    logits: `[1 + N, V]` as `TokenTree.rows` has them.
    """
    ends = [] if end is None else [end]
    each = ([*text, *ends] for text in texts)
    return [
        sum(log_probabilities(logits[tree.rows(at)[: len(ids)]], ids))
        for at, ids in enumerate(each)
    ]


class OldText:
    """A DraftSource: the rest of the old text, from the place that corresponds to the new text.

    While the new text agrees with the old one, that is the next token. Once it does not, its last
    tokens are looked up in the old text: the longest known n-gram decides, and of several places
    the first one ahead. An n-gram of at least SHORTEST tokens gives all of the old text that
    follows; failing that, the prompt is looked up; failing that, a single token that agrees, or the
    guess that one token was replaced by one, gives DRAFT_TOKENS.
    """

    def __init__(self, old: Sequence[int], elsewhere: NgramIndex) -> None:
        """`elsewhere` is the index of the prompt."""
        self._old, self._elsewhere = list(old), elsewhere
        self._new: list[int] = []
        self._at = 0
        """Index in the old text where the new one is, or left it."""
        self._astray = 0
        """New tokens since it left; 0 while it agrees."""
        self._ends: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for size in range(1, LONGEST + 1):
            for end in range(size, len(self._old) + 1):
                self._ends[tuple(self._old[end - size : end])].append(end)

    def continuation(self, limit: int) -> list[int]:
        if not self._astray:
            return self._rest(self._at, limit)
        place, agreed = self._meeting()
        if agreed < SHORTEST and (known := self._elsewhere.continuation(limit)):
            return known
        return self._rest(place, limit if agreed >= SHORTEST else min(limit, DRAFT_TOKENS))

    def extend(self, ids: Sequence[int]) -> None:
        place = self._meeting()[0] if self._astray else self._at
        agreed = common_prefix(self._old[place:], ids)
        if agreed:
            self._at, self._astray = place + agreed, 0
        self._astray += len(ids) - agreed
        self._new += ids
        self._elsewhere.extend(ids)

    def _meeting(self) -> tuple[int, int]:
        """Where the old text may continue, and how many tokens before that agree."""
        for size in range(min(LONGEST, len(self._new)), 0, -1):
            if ends := self._ends.get(tuple(self._new[-size:])):
                return min(ends, key=self._distance), size
        return self._at + 1 if self._astray == 1 else len(self._old), 0

    def _distance(self, place: int) -> tuple[bool, int]:
        """Places ahead before places behind: text is rarely written twice."""
        return place <= self._at, abs(place - self._at)

    def _rest(self, start: int, limit: int) -> list[int]:
        return self._old[start : start + limit]
