"""Low-rank updates of a workspace beside the base's weights (LoRA, arXiv 2106.09685).

A cache (`KVCache.adapter`) says whose updates every forward over it adds: to queries, keys and
values `B A x` of the normalised input x, to the attention's output `B A m` of its mixed values m.
So several workspaces share one copy of the weights. The products of 8-bit weights are those of the
base; an update is full precision, of the rows before they are quantised.

Not to be confused with `lora.DraftLora`, which changes drafts alone: what an adapter gives is kept,
and a verified draft equals what the same adapter decodes token by token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fim_kernels.matmul_packed import matmul_packed, pack
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LowRank:
    """`x -> B A x`. down: A, `[r, K]`; up: B, `[N, r]`, with the scale alpha / r in it."""

    down: Tensor
    up: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x: `[..., K]` to `[..., N]`."""
        return matmul_packed(matmul_packed(x, self.down), self.up)

    @classmethod
    def side_by_side(cls, updates: list[LowRank]) -> LowRank:
        """Updates of one input as one: their outputs, one after the other."""
        return cls(
            torch.cat([update.down for update in updates]),
            torch.block_diag(*(update.up for update in updates)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """The updates of every layer. heads: `[hidden]` to `[(H + 2G) * D]`, queries, keys and values
    in the order of the network that adds them; output: `[H * D]` to `[hidden]`.

    Two adapters are the same only if they are one object: cached keys belong to one of them.
    """

    heads: tuple[LowRank, ...]
    output: tuple[LowRank, ...]

    @property
    def nbytes(self) -> int:
        """Memory of the matrices."""
        each = (*self.heads, *self.output)
        return sum(update.down.nbytes + update.up.nbytes for update in each)

    def placed(
        self, dtype: torch.dtype, device: torch.device, order: Tensor | None = None
    ) -> Adapter:
        """For a network: on its device, in its dtype, packed on a CPU.

        order: where each output of `heads` comes from, int64 `[(H + 2G) * D]`, None as it is.
        """

        def placed(update: LowRank, order: Tensor | None = None) -> LowRank:
            up = update.up if order is None else update.up[order]
            down, up = (matrix.to(device, dtype).contiguous() for matrix in (update.down, up))
            return LowRank(pack(down), pack(up))

        heads = tuple(placed(update, order) for update in self.heads)
        return Adapter(heads, tuple(map(placed, self.output)))
