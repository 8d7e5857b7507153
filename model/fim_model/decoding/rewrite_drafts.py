"""Rewrite a region with drafts: what stays as it was, or was foreseen, costs next to nothing.

The prompt ends with the region as it is, and the model writes it anew. The old text is a draft, and
so is every other text that somebody expects; all are read together with the prompt, so a region
that stays or becomes what was expected is verified by the forward that reads the prompt. Where the
new text leaves the draft that it followed longest it goes on token by token, until it meets that
draft again: then all the rest of it is the draft. Greedy output is the autoregressive output,
whatever is drafted.
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
    """Write the region anew; `prefill` is of the prompt with the tree of `drafts` ahead.

    One step a forward. Of several drafts the one that holds longest is followed, which is exact for
    a greedy sampler alone.
    """
    each = [
        core.sampler.accept_draft(prefill.logits[tree.rows(at)], certain_draft(draft, core))
        for at, draft in enumerate(drafts)
    ]
    followed = max(range(len(each)), key=lambda at: len(each[at].tokens))
    accepted = each[followed]
    source = OldText(drafts[followed], NgramIndex(core.prompt))
    # The last one is the causal token behind the draft: the seed, whose keys are not written yet.
    core.cache.keep(tree.paths[followed][: len(accepted.tokens) - 1])
    core.commit(accepted.tokens, accepted.confidences)
    source.extend(core.tokens)
    yield core.step(ForwardKind.PREFILL, prefill.computed + len(tree), 0)
    yield from verify_drafts(core, source)


def tree_log_probabilities(
    logits: Tensor, tree: TokenTree, texts: Sequence[Sequence[int]], end: int | None = None
) -> list[float]:
    """Of each text of a tree, with its end if one is given, in nats.

    logits: `[1 + N, V]` as `TokenTree.rows` has them.
    """
    ends = [] if end is None else [end]
    each = ([*text, *ends] for text in texts)
    return [
        sum(log_probabilities(logits[tree.rows(at)[: len(ids)]], ids))
        for at, ids in enumerate(each)
    ]


class OldText:
    """A DraftSource: the old text from where the new one has come to in it.

    The new text is in step with the old one as long as it agrees. Once it does not, its last tokens
    are looked for in the old text: the longest gram that is known decides, of several places the
    first one ahead. A gram of SHORTEST tokens is worth all of the old text that follows; failing
    that, the prompt may know how to go on; failing that, a single token that agrees, or the guess
    that one token was replaced by one, is worth DRAFT_TOKENS.
    """

    def __init__(self, old: Sequence[int], elsewhere: NgramIndex) -> None:
        """`elsewhere` is the index of the prompt."""
        self._old, self._elsewhere = list(old), elsewhere
        self._new: list[int] = []
        self._at = 0
        """Where in the old text the new one is, or left it."""
        self._astray = 0
        """Tokens since it left; 0 in step."""
        self._ends: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for size in range(1, LONGEST + 1):
            for end in range(size, len(self._old) + 1):
                self._ends[tuple(self._old[end - size : end])].append(end)

    def continuation(self, most: int) -> list[int]:
        if not self._astray:
            return self._rest(self._at, most)
        place, agreed = self._meeting()
        if agreed < SHORTEST and (known := self._elsewhere.continuation(most)):
            return known
        return self._rest(place, most if agreed >= SHORTEST else min(most, DRAFT_TOKENS))

    def extend(self, ids: Sequence[int]) -> None:
        place = self._meeting()[0] if self._astray else self._at
        agreed = common_prefix(self._old[place:], ids)
        if agreed:
            self._at, self._astray = place + agreed, 0
        self._astray += len(ids) - agreed
        self._new += ids
        self._elsewhere.extend(ids)

    def _meeting(self) -> tuple[int, int]:
        """Where the old text may go on, and how many tokens before that agree with the new one."""
        for size in range(min(LONGEST, len(self._new)), 0, -1):
            if ends := self._ends.get(tuple(self._new[-size:])):
                return min(ends, key=self._distance), size
        return self._at + 1 if self._astray == 1 else len(self._old), 0

    def _distance(self, place: int) -> tuple[bool, int]:
        """Ahead is nearer than behind: text is rarely written twice."""
        return place <= self._at, abs(place - self._at)

    def _rest(self, start: int, most: int) -> list[int]:
        return self._old[start : start + most]
