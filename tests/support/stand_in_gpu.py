"""A simulated GPU that follows CUDA's rules on the CPU, to test the CUDA path without a GPU.

Tensors report `cuda:0` and compute with CPU tensors inside. As on a real GPU, errors are: an
operation across devices, a kernel on host memory and, while a graph is recorded, synchronisation
and copies between host and device. Kernels are interpreted. Speed, compiled kernels and rounding
are not simulated, and there is no autocast.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fim_kernels.dispatch import multiprocessors
from safetensors import safe_open
from safetensors.torch import save_file
from stand_in_graphs import Graph
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
MULTIPROCESSORS = 2
"""Few, for the interpreter takes half a millisecond for every program of a grid."""

_aten = torch.ops.aten
_WAITS = {
    _aten._local_scalar_dense.default, _aten.equal.default, _aten.nonzero.default,
    _aten.masked_select.default,
}  # fmt: skip
_INDEXING = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default}
"""Operations whose indices may be on the host, for a copy and a wait."""


class OnDevice(Tensor):
    """A tensor of the simulated GPU; `inner` holds its values on the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        with torch.inference_mode(False):  # torch creates views of tensors made outside of it
            made: OnDevice = Tensor._make_wrapper_subclass(
                cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
                dtype=inner.dtype, requires_grad=inner.requires_grad,
            )  # fmt: skip
        made.inner = inner.detach()
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnDevice({self.inner!r})"

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # Without autograd, composite operations arrive undecomposed; their parts may synchronise.
        decomposed = operation.decompose(*args, **kwargs)
        return _gpu.run(operation, args, kwargs) if decomposed is NotImplemented else decomposed


class StandInGpu:
    """graphs: recorded graphs. waits: number of synchronisations and copies between host and
    device. launches: number of Triton kernel launches.
    """

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.waits = self.launches = 0
        self._of_thread = threading.local()

    @property
    def _recording(self) -> Graph | None:
        """The graph that this thread records, if any; other threads are not affected."""
        return getattr(self._of_thread, "recording", None)

    @contextmanager
    def graph(self, graph: Graph, pool: object = None, **_: Any) -> Iterator[None]:
        """Replaces `torch.cuda.graph`."""
        self._of_thread.recording = graph
        try:
            with graph.recording(pool):
                yield
        finally:
            self._of_thread.recording = None
        self.graphs.append(graph)

    def wait(self, what: object) -> None:
        """Count a synchronisation. Raises RuntimeError while a graph is recorded."""
        if self._recording is not None:
            raise RuntimeError(f"{what}: the host may not be waited for while recording")
        self.waits += 1

    def run(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run a torch operation with at least one tensor on the device."""
        if operation is _aten._has_compatible_shallow_copy_type.default:
            return False
        if operation is _aten.index_add.default and not isinstance(args[0], OnDevice):
            # Autograd's zeros for the gradient of a gather, created on the wrapper's device.
            args = (OnDevice(args[0]), *args[1:])
        if _crosses(operation, args, kwargs) or operation in _WAITS:
            self.wait(operation)
        target = kwargs.get("device")
        if target is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        inner_args, inner_kwargs = _inner(args), _inner(kwargs)
        if self._recording is not None:
            self._recording.before_operation(operation, inner_args, inner_kwargs)
        out = operation(*inner_args, **inner_kwargs)
        if self._recording is not None:
            self._recording.note_operation(operation, inner_args, inner_kwargs, out)
        if _is_host(target):
            return out
        if operation is _aten.copy_.default:
            return args[0]
        return _on_device(out, (args, kwargs))

    def launch(self, run: Callable[..., None], args: Any, kwargs: dict[str, Any]) -> None:
        """Run a kernel in the interpreter. Raises ValueError for host memory."""
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and not isinstance(value, OnDevice):
                raise ValueError("Pointer argument cannot be accessed from Triton (cpu tensor?)")
        self.launches += 1
        args, kwargs = _inner(args), _inner(kwargs)
        if self._recording is not None:
            self._recording.note_launch(lambda: run(*args, **kwargs), (args, kwargs))
        run(*args, **kwargs)


_gpu = StandInGpu()


def _crosses(operation: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether an operation copies between host and device. Raises, as CUDA does, for tensors on
    both sides if the operation does not allow them.
    """
    tensors = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
    host = [tensor for tensor in tensors if not isinstance(tensor, OnDevice)]
    if _is_host(kwargs.get("device")):
        return True
    if operation is _aten.copy_.default:
        return bool(host)
    if operation in _INDEXING and isinstance(args[0], OnDevice):
        return bool(host) or any(
            value is not None and value.dtype is torch.bool for value in args[1]
        )
    # A scalar tensor on the host is passed with the launch.
    if any(tensor.dim() for tensor in host):
        found = [(tuple(tensor.shape), str(tensor.device)) for tensor in tensors]
        raise RuntimeError(f"{operation}: expected all tensors on the same device, found {found}")
    return False


def _is_host(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cpu"


def _is_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _inner(values: Any) -> Any:
    return tree_map(lambda value: value.inner if isinstance(value, OnDevice) else value, values)


def _on_device(values: Any, given: Any = ()) -> Any:
    """Wrap CPU tensors as device tensors, reusing the wrappers in `given`."""
    known = {
        id(tensor.inner): tensor for tensor in tree_leaves(given) if isinstance(tensor, OnDevice)
    }

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        found = known.get(id(value))
        return OnDevice(value) if found is None else found

    return tree_map(wrapped, values)


class _Factories(TorchFunctionMode):
    """Creates tensors on the simulated GPU, and copies them between host and device."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is Tensor.to:
            return _to(*args, **kwargs)
        if function is Tensor.cpu:
            return _to(args[0], "cpu")
        if function is Tensor.pin_memory:
            return args[0]
        if function is Tensor.tolist and isinstance(args[0], OnDevice):
            return _to(args[0], "cpu").tolist()
        is_given = any(isinstance(value, OnDevice) for value in tree_leaves((args, kwargs)))
        if _is_device(kwargs.get("device")) and not is_given:
            return _on_device(function(*args, **{**kwargs, "device": "cpu"}))
        return function(*args, **kwargs)


def _to(tensor: Tensor, *args: Any, non_blocking: bool = False, **kwargs: Any) -> Tensor:
    """`Tensor.to`, with any of its signatures."""
    device, dtype = tensor.device, tensor.dtype
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            device, dtype = value.device, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, str | torch.device):
            device = torch.device(value)
    if _is_device(device) and not tensor.is_cuda:
        _gpu.wait("a copy to the device")
        return OnDevice(tensor.detach().to(dtype).clone())
    if _is_host(device) and tensor.is_cuda:
        copied: Tensor = _aten._to_copy.default(tensor, dtype=dtype, device=device)
        return copied
    return tensor if dtype == tensor.dtype else _aten._to_copy.default(tensor, dtype=dtype)


class _Stream:
    """A stream on which everything runs synchronously."""

    def wait_stream(self, other: _Stream) -> None:
        pass


class _Event:
    def __init__(self, **options: bool) -> None:
        self._at = 0.0

    def record(self) -> None:
        self._at = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, later: _Event) -> float:
        return 1e3 * (later._at - self._at)


class _File:
    """A safetensors file whose tensors are loaded to the simulated GPU; the library's own loading
    needs CUDA memory.
    """

    def __init__(self, path: Any, framework: str) -> None:
        self._file = safe_open(path, framework=framework)

    def __enter__(self) -> _File:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def keys(self) -> list[str]:
        return list(self._file.keys())

    def get_tensor(self, name: str) -> Tensor:
        return _to(self._file.get_tensor(name), CUDA)


def _open(path: Any, framework: str, device: str = "cpu") -> Any:
    return _File(path, framework) if _is_device(device) else safe_open(path, framework=framework)


def _save(tensors: dict[str, Tensor], *about: Any, **metadata: Any) -> None:
    save_file(_inner(tensors), *about, **metadata)


@contextmanager
def stand_in_gpu(patch: pytest.MonkeyPatch) -> Iterator[StandInGpu]:
    """Make `cuda` the simulated GPU in the context, for this thread and threads started in it.

    Skips if there is a real GPU.
    """
    pytest.importorskip("triton", reason="Triton has no wheel for this system")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, which needs no stand-in")
    from triton.runtime.interpreter import GridExecutor

    properties = SimpleNamespace(multi_processor_count=MULTIPROCESSORS)
    interpret = GridExecutor.__call__
    patch.setattr(
        GridExecutor, "__call__",
        lambda kernel, *args, **kwargs: _gpu.launch(interpret, (kernel, *args), kwargs),
    )  # fmt: skip
    run = threading.Thread.run

    def run_there(thread: threading.Thread) -> None:
        with _Factories():
            run(thread)

    patch.setattr(threading.Thread, "run", run_there)
    patch.setattr("fim_model.loading.headers.safe_open", _open)
    patch.setattr("fim_model.loading.checkpoint.save_file", _save)
    for name, replacement in {
        "is_available": lambda: True,
        "is_bf16_supported": lambda: True,
        "current_device": lambda: 0,
        "is_current_stream_capturing": lambda: _gpu._recording is not None,
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_name": lambda device=None: "a stand-in",
        "mem_get_info": lambda device=None: (2**37, 2**37),
        "synchronize": lambda device=None: None,
        "Event": _Event,
        "Stream": _Stream,
        "current_stream": _Stream,
        "stream": lambda other: nullcontext(),
        "CUDAGraph": Graph,
        "graph": _gpu.graph,
        "graph_pool_handle": object,
    }.items():
        patch.setattr(torch.cuda, name, replacement)
    _gpu.__init__()  # type: ignore[misc]
    # Moving a module replaces its parameters, because their memory cannot be swapped.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Factories():
            yield _gpu
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        multiprocessors.cache_clear()
