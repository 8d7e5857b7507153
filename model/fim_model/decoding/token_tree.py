"""Several texts that may follow a prompt, read in one forward as a tree.

Texts share the tokens of their common beginnings, and each token sees the prompt and its own text
before it (tree attention, SpecInfer, arXiv 2305.09781). So scoring a few texts costs little more
than scoring one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenTree:
    """N tokens. parents: for each the index of the token before it, which is smaller; -1 for the
    prompt. paths: the indices of each text's tokens; the first text's are 0, 1, 2, …"""

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    paths: tuple[tuple[int, ...], ...] = ((),)

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> TokenTree:
        """The tree of some texts' ids, empty for no text."""
        tokens: list[int] = []
        parents: list[int] = []
        known: dict[tuple[int, int], int] = {}
        paths = []
        for text in texts or ((),):
            at, path = -1, []
            for token in text:
                place = known.get((at, token))
                if place is None:
                    place = known[at, token] = len(tokens)
                    tokens.append(token)
                    parents.append(at)
                at = place
                path.append(at)
            paths.append(tuple(path))
        return cls(tuple(tokens), tuple(parents), tuple(paths))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        """Whether every token follows the one before it, as in a single text."""
        return self.trunk == len(self)

    @property
    def trunk(self) -> int:
        """How many tokens, from the first on, are before every token behind them."""
        return min(
            (parent + 1 for at, parent in enumerate(self.parents) if parent != at - 1),
            default=len(self),
        )

    def behind(self, count: int) -> TokenTree:
        """The tree without its first `count` tokens, no more than the trunk."""
        return TokenTree(
            self.tokens[count:],
            tuple(max(-1, parent - count) for parent in self.parents[count:]),
            tuple(tuple(at - count for at in path if at >= count) for path in self.paths),
        )

    def positions(self, start: int) -> list[int]:
        """The positions of the tokens after a prompt of `start` tokens."""
        found: list[int] = []
        for parent in self.parents:
            found.append(start if parent < 0 else found[parent] + 1)
        return found

    def pattern(self, before: int) -> Tensor:
        """Who (row) sees whom among `before` tokens of a prompt and the tree behind them: boolean
        `[before + N, before + N]`."""
        seen = torch.ones(before + len(self), before + len(self), dtype=torch.bool).tril_()
        seen[before:, before:] = torch.eye(len(self), dtype=torch.bool)
        for place, parent in enumerate(self.parents, before):
            if parent >= 0:
                seen[place, before:] |= seen[before + parent, before:]
        return seen

    def rows(self, text: int) -> list[int]:
        """Which rows of logits `[1 + N, V]` predict a text's tokens and its end.

        Row 0 predicts what follows the prompt, row 1 + i what follows token i.
        """
        return [0, *(place + 1 for place in self.paths[text])]
