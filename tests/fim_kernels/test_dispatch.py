"""Dispatch between Triton and the reference; forcing what cannot run is an error."""

import os
import subprocess
import sys

import pytest
import torch
from fim_kernels import dispatch
from fim_kernels.dispatch import KernelError, references_alone, use_triton


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIM_KERNELS", raising=False)


def test_cpu_tensors_take_the_reference_even_where_triton_could_interpret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert not use_triton(torch.zeros(2))


def test_forced_triton_runs_interpreted_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton has no wheel for this system")
    monkeypatch.setenv("FIM_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert use_triton(torch.zeros(2))


@pytest.mark.parametrize("before", [None, "triton"])
def test_what_was_forced_before_references_alone_is_forced_again(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before is not None:
        monkeypatch.setenv("FIM_KERNELS", before)
    with references_alone():
        assert dispatch.forced_reference()
    assert os.environ.get("FIM_KERNELS") == before


def test_forced_triton_on_cpu_tensors_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIM_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(KernelError, match="tensors are on cpu"):
        use_triton(torch.zeros(2))


def test_forced_triton_does_not_drop_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIM_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    weight = torch.zeros(2, requires_grad=True)
    with pytest.raises(KernelError, match="no backward"):
        use_triton(torch.zeros(2), weight)
    with torch.no_grad():
        assert use_triton(torch.zeros(2), weight)


def test_forced_triton_refuses_an_unsupported_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIM_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(KernelError, match="float64"):
        use_triton(torch.zeros(2, dtype=torch.float64))


def test_forced_triton_without_triton_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FIM_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    with pytest.raises(KernelError, match="pip install"):
        use_triton(torch.zeros(2))


def test_an_unknown_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIM_KERNELS", "cuda")
    with pytest.raises(KernelError, match=r"cuda.*'reference' or 'triton'"):
        use_triton(torch.zeros(2))


@pytest.mark.gpu
def test_cuda_tensors_take_triton_unless_the_reference_is_forced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert use_triton(torch.zeros(2, device="cuda"))
    monkeypatch.setenv("FIM_KERNELS", "reference")
    assert not use_triton(torch.zeros(2, device="cuda"))


def test_importing_the_operations_does_not_import_triton() -> None:
    """Importing Triton would slow down startup on machines without a GPU."""
    names = ("attention", "commit", "lm_head", "matmul_8bit", "rms_norm", "rotary", "swiglu")
    program = "import sys\n" + "".join(f"import fim_kernels.{name}\n" for name in names)
    program += "assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
