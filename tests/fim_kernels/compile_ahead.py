"""Compile every kernel for real GPUs without a GPU. Run as a script by test_kernels_compile_ahead.

Calls the wrappers with meta tensors in the shapes of an 8B model and records their launches, so
that the compiled kernels have the configuration that would run. Prints one JSON object per kernel
and target. Triton's interpreter must be off in this process.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import triton
from fim_kernels.attention_triton import attend_triton
from fim_kernels.commit_triton import commit_confident_triton
from fim_kernels.lm_head_triton import score_head_triton
from fim_kernels.matmul_8bit_triton import matmul_8bit_triton
from fim_kernels.rms_norm_triton import rms_norm_triton
from fim_kernels.rotary_triton import apply_rotary_triton, rotate_into_cache_triton
from fim_kernels.swiglu_triton import swiglu_triton
from fim_kernels.token_scores_triton import score_all_triton
from fim_kernels.types import DeviceCanvas, TokenScores, Weight8Bit
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

POINTERS = {
    torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16",
    torch.int64: "*i64", torch.int32: "*i32", torch.int8: "*i8", torch.float8_e4m3fn: "*fp8e4nv",
}  # fmt: skip
OPTIONS = ("num_warps", "num_stages")
WIDE_LOAD = r"ld\.global[.\w:]*\.v[24]|cp\.async"


@dataclass(frozen=True)
class Launch:
    """A recorded kernel launch, with the arguments on which Triton specialises."""

    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    attributes: dict[tuple[int], list[list[Any]]]
    options: dict[str, int]

    @classmethod
    def of(cls, kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Launch":
        options = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs}
        values = dict(zip(kernel.arg_names, args, strict=False)) | kwargs
        signature, constants, attributes = {}, {}, {}
        for place, parameter in enumerate(kernel.params):
            name, value = parameter.name, values[parameter.name]
            if parameter.is_constexpr or (isinstance(value, int) and value == 1):
                signature[name], constants[name] = "constexpr", value
                continue
            if isinstance(value, torch.Tensor):
                signature[name] = POINTERS[value.dtype]
            elif isinstance(value, float):
                signature[name] = "fp32"
            else:
                signature[name] = "i32" if abs(value) < 2**31 else "i64"
            if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
                attributes[(place,)] = [["tt.divisibility", 16]]
        return cls(kernel, signature, constants, attributes, options)

    def compile(self, capability: int) -> Any:
        source = ASTSource(self.kernel, self.signature, self.constants, self.attributes)
        return triton.compile(source, GPUTarget("cuda", capability, 32), options=self.options)


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Record launches in this context instead of running them."""
    launches: list[Launch] = []

    def record(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        launches.append(Launch.of(self, args, kwargs))

    run, JITFunction.run = JITFunction.run, record
    try:
        yield launches
    finally:
        JITFunction.run = run


def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def call_everything() -> None:
    """Call each wrapper once in the 8B shape: 32 positions over 2048 cached tokens."""
    width, keys, heads, groups, dim = 32, 2048, 32, 8, 128
    size, inner, vocabulary = 4096, 14336, 131072

    x = empty

    span = empty(1, dtype=torch.int32)
    query, key = x(1, width, heads, dim).transpose(1, 2), x(1, width, groups, dim).transpose(1, 2)
    cache = x(1, groups, keys, dim)
    attend_triton(query, cache, cache, causal=True, span=span)
    attend_triton(query[:, :, :16], cache, cache, causal=False, row_length=8)
    rotate_into_cache_triton(
        query, key, key, x(1, width, dim), x(1, width, dim), cache, cache, span, x(1, 1, width, 1)
    )
    apply_rotary_triton(query, x(1, width, dim), x(1, width, dim))
    rms_norm_triton(x(width, size), x(width, size), x(size), 1e-5)
    rms_norm_triton(x(width, size), None, x(size), 1e-5)
    swiglu_triton(*x(width, 2 * inner).chunk(2, dim=-1))
    score_head_triton(x(width, size), x(vocabulary, size), empty(width, dtype=torch.int64))
    score_all_triton(x(width, vocabulary))
    scores = TokenScores(empty(1, width, dtype=torch.int64), *(
        empty(1, width, dtype=torch.float32) for _ in range(2)
    ))  # fmt: skip
    commit_confident_triton(DeviceCanvas.empty(1, width, "meta"), scores, 0.9)
    scale = empty(size, dtype=torch.float32)
    matmul_8bit_triton(x(width, inner), Weight8Bit(empty(size, inner, dtype=torch.int8), scale))


def call_variants() -> None:
    """Call the variants compiled for Hopper only: other attention patterns, float8, float32."""
    width, keys, heads, groups, dim = 32, 2048, 32, 8, 128
    cache = empty(1, groups, keys, dim)
    query = empty(1, heads, width, dim)
    seen = empty(1, 1, width, keys, dtype=torch.bool)
    attend_triton(query, cache, cache, causal=False)
    attend_triton(query, cache, cache, causal=False, mask=seen)
    attend_triton(empty(1, heads, 512, dim), cache, cache, causal=True, splits=1)
    values = empty(4096, 14336, dtype=torch.float8_e4m3fn)
    matmul_8bit_triton(empty(32, 14336), Weight8Bit(values, empty(4096, dtype=torch.float32)))
    cache, query = cache.float(), query.float()
    attend_triton(query, cache, cache, causal=True, span=empty(1, dtype=torch.int32))
    hidden, weight = empty(32, 4096, dtype=torch.float32), empty(131072, 4096, dtype=torch.float32)
    score_head_triton(hidden, weight, None)


def resources(cubin: bytes) -> dict[str, int]:
    """Registers, and bytes of stack and local memory (spills), per thread."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not tool.exists():
        return {}
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        shown = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = dict(re.findall(r"\b(REG|STACK|LOCAL):(\d+)", shown))
    return {name.lower(): int(count) for name, count in found.items()}


def main(capabilities: list[int]) -> None:
    for name in ("attention_triton", "matmul_8bit_triton"):
        module: Any = import_module(f"fim_kernels.{name}")
        module.multiprocessors = lambda device: 132
    with recording() as launches:
        call_everything()
    with recording() as variants:
        call_variants()
    for capability in capabilities:
        for launch in launches + (variants if capability == 90 else []):
            compiled = launch.compile(capability)
            sys.stdout.write(json.dumps({
                "kernel": launch.kernel.__name__,
                "inputs": next(iter(launch.signature.values())),
                "capability": capability,
                "shared": compiled.metadata.shared,
                "wgmma": compiled.asm["ptx"].count("wgmma.mma_async"),
                "wide_loads": len(re.findall(WIDE_LOAD, compiled.asm["ptx"])),
                **resources(compiled.asm["cubin"]),
            }) + "\n")  # fmt: skip
            sys.stdout.flush()


if __name__ == "__main__":
    main([int(capability) for capability in sys.argv[1:]])
