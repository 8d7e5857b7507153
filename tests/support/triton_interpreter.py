"""Patch of Triton's interpreter to round like hardware."""

import numpy as np
import torch

_DTYPE = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8e4nv": torch.float8_e4m3fn,
}


def convert_as_hardware(source: np.ndarray, of: object, to: object, rounding: object) -> np.ndarray:
    """Round to nearest even and return the raw bits. Triton's interpreter truncates instead, which
    no GPU does; with this as its `_convert_float`, tests can use the tolerances of hardware.
    """
    given = torch.from_numpy(np.ascontiguousarray(source)).view(_DTYPE[str(of)])
    found = given.to(_DTYPE[str(to)])
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[found.element_size()]
    return found.view(bits).numpy()
