"""Comparison of kernels with their references."""

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-3, torch.float16: 6e-4}
"""Relative error: about one rounding of the result, the accumulation being in float32."""

NAN = float("nan")


def normal(*shape: int, seed: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Normal random numbers, drawn on the CPU so that they are equal on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype).to(device)


def padded(x: Tensor) -> Tensor:
    """x as a view into a larger buffer of NaN, which exposes out-of-bounds reads and wrong
    strides.
    """
    buffer = torch.full([size + 3 for size in x.shape], NAN, dtype=x.dtype, device=x.device)
    view = buffer[tuple(slice(1, size + 1) for size in x.shape)]
    return view.copy_(x)


def rows_padded(x: Tensor) -> Tensor:
    """`[N, D]` as a view with NaN after each row and after the last row."""
    buffer = torch.full((x.shape[0] + 2, x.shape[1] + 16), NAN, device=x.device).to(x.dtype)
    view = buffer[: x.shape[0], : x.shape[1]]
    return view.copy_(x)


def assert_close(found: Tensor, wanted: Tensor, tolerance: float | None = None) -> None:
    """Bound `|found - wanted| / |wanted|` in the Frobenius norm, and the error of each element.

    `wanted` is computed in float64 or by the reference. Fails on NaN or infinity in `found`.
    """
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    bound = TOLERANCE[found.dtype] if tolerance is None else tolerance
    found, wanted = found.double().cpu(), wanted.double().cpu()
    assert found.isfinite().all(), "a kernel wrote NaN or infinity, or left its output unwritten"
    difference = found - wanted
    assert difference.norm() <= bound * wanted.norm(), float(difference.norm() / wanted.norm())
    assert difference.abs().max() <= 8 * bound * wanted.abs().max().clamp_min(1e-30)
