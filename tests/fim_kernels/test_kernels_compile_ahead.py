"""Every kernel compiles for Ampere, Hopper and Blackwell without losing its fast instructions.

No GPU is needed, because Triton's wheel contains the assembler. The tests catch silent slowdowns:
spilled registers, operands that exceed shared memory, products without Hopper's matrix instruction,
and scalar loads. They measure no time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CAPABILITIES = (80, 90, 100)
SHARED_MEMORY = {80: 166_912, 90: 232_448, 100: 232_448}
"""Bytes a thread block can have."""

PRODUCTS = {"_attend_split", "_head_statistics", "_matmul_8bit"}
OTHERS = {
    "_combine_splits", "_combine", "_logit_statistics", "_sum_splits", "_rms_norm", "_swiglu",
    "_rotate", "_rotate_into_cache", "_commit_confident",
}  # fmt: skip


@pytest.fixture(scope="module")
def compiled() -> list[dict[str, Any]]:
    pytest.importorskip("triton", reason="Triton has no wheel for this system")
    script = Path(__file__).with_name("compile_ahead.py")
    done = subprocess.run(
        [sys.executable, str(script), *map(str, CAPABILITIES)],
        env=os.environ | {"TRITON_INTERPRET": "0"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_kernel_compiles_for_every_target(compiled: list[dict[str, Any]]) -> None:
    for capability in CAPABILITIES:
        found = {kernel["kernel"] for kernel in compiled if kernel["capability"] == capability}
        assert found == PRODUCTS | OTHERS, capability


def test_every_kernel_file_is_covered(compiled: list[dict[str, Any]]) -> None:
    import fim_kernels

    written = set()
    for file in Path(fim_kernels.__file__).parent.glob("*_triton.py"):
        after_jit = file.read_text(encoding="utf-8").split("@triton.jit\ndef ")[1:]
        written |= {source.split("(")[0] for source in after_jit}
    helpers = {"_rotated", "store_tile_statistics"}  # called by other kernels
    assert written - helpers == PRODUCTS | OTHERS


def test_no_register_spills_and_shared_memory_fits(compiled: list[dict[str, Any]]) -> None:
    for kernel in compiled:
        assert kernel["shared"] <= SHARED_MEMORY[kernel["capability"]], kernel
        if "reg" not in kernel:
            pytest.skip("this Triton wheel has no cuobjdump: registers and spills are not known")
        assert kernel["stack"] == kernel["local"] == 0, kernel


def test_hopper_products_use_wgmma_and_wide_loads(
    compiled: list[dict[str, Any]],
) -> None:
    products = [
        kernel for kernel in compiled
        if kernel["kernel"] in PRODUCTS and kernel["capability"] == 90
        and kernel["inputs"] == "*bf16"
    ]  # fmt: skip
    assert {kernel["kernel"] for kernel in products} == PRODUCTS
    for kernel in products:
        assert kernel["wgmma"] > 0, kernel
        assert kernel["wide_loads"] > 0, kernel
