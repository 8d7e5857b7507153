"""Several texts that may follow one prompt, read in one forward as a tree.

Texts share the tokens of their common beginnings, and each token sees the prompt and what stands
before it in its own text (tree attention, SpecInfer, arXiv 2305.09781). So to judge a few ways to
rewrite a region costs hardly more than to read one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenTree:
    """N tokens; parents: the place of the token before each, -1 for the prompt, always an earlier
    one. paths: the places of each text's tokens; the first text's are 0, 1, 2, …"""

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    paths: tuple[tuple[int, ...], ...] = ((),)

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> TokenTree:
        """The tree of some texts' ids; without any, an empty one."""
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
        """Whether every token stands behind the one before it, as in plain text."""
        return self.parents == tuple(range(-1, len(self) - 1))

    def positions(self, start: int) -> list[int]:
        """Where the tokens stand, the prompt being `start` tokens long."""
        found: list[int] = []
        for parent in self.parents:
            found.append(start if parent < 0 else found[parent] + 1)
        return found

    def pattern(self, before: int) -> Tensor:
        """Who (row) sees whom among `before` tokens of a prompt and the tree behind them, boolean
        `[before + N, before + N]`."""
        seen = torch.ones(before + len(self), before + len(self), dtype=torch.bool).tril_()
        seen[before:, before:] = torch.eye(len(self), dtype=torch.bool)
        for place, parent in enumerate(self.parents, before):
            if parent >= 0:
                seen[place, before:] |= seen[before + parent, before:]
        return seen

    def rows(self, text: int) -> list[int]:
        """The rows of logits `[1 + N, V]` (of what follows the prompt, and each token) that predict
        a text's tokens and its end, one more than it has tokens."""
        return [0, *(place + 1 for place in self.paths[text])]
