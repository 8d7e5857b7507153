"""Shared by the kernel tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fim_kernels.dispatch import interpreted

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """These tensors are tiny: more threads only get into each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where Triton kernels can run here, with the public functions forced to run them."""
    pytest.importorskip("triton", reason="Triton has no wheel for this system")
    monkeypatch.setenv("FIM_KERNELS", "triton")
    if interpreted():
        monkeypatch.setattr("triton.runtime.interpreter._convert_float", convert_as_hardware)
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    pytest.skip("no CUDA device, and Triton was not told to interpret (TRITON_INTERPRET=1)")


TORCH_DTYPE = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8e4nv": torch.float8_e4m3fn,
}


def convert_as_hardware(source: np.ndarray, of: object, to: object, rounding: object) -> np.ndarray:
    """Round to nearest even. Triton's interpreter cuts bits off instead, where no GPU does; with
    this in its place the tolerances of these tests can be those of hardware. Returns raw bits.
    """
    given = torch.from_numpy(np.ascontiguousarray(source)).view(TORCH_DTYPE[str(of)])
    found = given.to(TORCH_DTYPE[str(to)])
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[found.element_size()]
    return found.view(bits).numpy()
