"""Product with full-precision weights on a CPU, packed once into oneDNN's blocked layout.

`y = x @ weight^T (+ bias) (+ added)`. Bytes moved: `N * K` weights, and the rows of x and y.

PyTorch's own float32 product is MKL's, which reads weights as they lie; oneDNN's code is made for
the machine at hand and reads them in blocks. Given the blocks, one layout serves every width, and a
row's result is the same to the last bit however many rows there are (tested): a draft that is
verified in a block is what one token at a time gives. `torch.compile` uses the same operation when
it freezes weights; it costs no compilation here.

The dispatch is the weight's own: `pack` leaves alone what oneDNN would not take (another device or
dtype, a build of PyTorch without it, `FIM_KERNELS=reference`), and that goes to `F.linear`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fim_kernels.dispatch import forced_reference


def pack(weight: Tensor) -> Tensor:
    """`[N, K]` in oneDNN's own layout, which nothing but `matmul_packed` reads; or as it was."""
    if weight.device.type != "cpu" or forced_reference() or not _takes(weight.dtype):
        return weight
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return packed


def matmul_packed(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None
) -> Tensor:
    """x: `[..., K]`; weight: `[N, K]`, packed or not; added: `[..., N]`. All of one dtype."""
    if not weight.is_mkldnn:
        return matmul_packed_reference(x, weight, bias, added)
    operation = torch.ops.mkldnn._linear_pointwise.default
    count = x.numel() // x.shape[-1]
    product: Tensor
    if missing := prepared_rows(count) - count:
        rows = F.pad(x.flatten(0, -2), (0, 0, 0, missing))
        product = operation(rows, weight, bias, "none", [], "")[:count].view(*x.shape[:-1], -1)
    else:
        product = operation(x, weight, bias, "none", [], "")
    # oneDNN's fused addition has more call overhead than the addition takes.
    return product if added is None else product.add_(added)


def prepared_rows(count: int) -> int:
    """How many rows are computed where `count` are wanted, the further ones being zeros.

    oneDNN makes code for every number of rows that it meets, and keeps it: half a megabyte each,
    and as long to make as to run. Prefills come in every length.
    """
    if count <= 8:
        return 1 << (count - 1).bit_length() if count else 0
    step = 8 if count <= 64 else 16 if count <= 128 else 64
    return -(-count // step) * step


def matmul_packed_reference(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None
) -> Tensor:
    """The same with weights as they are."""
    product = F.linear(x, weight, bias)
    return product if added is None else added + product


def _takes(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32
