"""Fixtures of the kernel tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fim_kernels.dispatch import interpreted
from triton_interpreter import convert_as_hardware

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One CPU thread: for tensors this small, more threads only add overhead."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The device on which Triton kernels run here, with the public functions forced to use them."""
    pytest.importorskip("triton", reason="Triton has no wheel for this system")
    monkeypatch.setenv("FIM_KERNELS", "triton")
    if interpreted():
        monkeypatch.setattr("triton.runtime.interpreter._convert_float", convert_as_hardware)
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    pytest.skip("no CUDA device, and Triton was not told to interpret (TRITON_INTERPRET=1)")
