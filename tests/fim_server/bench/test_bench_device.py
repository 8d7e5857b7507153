"""Kernel, forward and completion benchmarks: results, counted work, and charts."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from fim_model.decoding.modes import MODES
from fim_model.network import cpu_onnx
from fim_model.network.choice import fast_network
from fim_model.network.config import ModelConfig
from fim_model.network.kv_cache import KVCache

from fim_server.bench import decoding, forward, kernels, shapes
from fim_server.bench.decoding import bench_completion
from fim_server.bench.device_timing import Roof, Stopwatch
from fim_server.bench.forward import Sizes, bench_forward, random_model, work
from fim_server.bench.kernels import bench_kernels
from fim_server.bench.roofline import Work, roofline
from fim_server.cli import main
from fim_server.commands.bench_arguments import DTYPES, RIVALS, SHAPES

INTEGERS = "onnx" if cpu_onnx.available() else "packed"
OURS = "fused" if torch.cuda.is_available() else "packed"
CPU = torch.device("cpu")
TINY = ModelConfig(
    vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, intermediate_size=48, mask_token_id=1,
)  # fmt: skip


def test_every_operation_is_measured() -> None:
    seen: list[str] = []
    report = bench_kernels(TINY, "tiny", width=4, context=16, device=CPU, progress=seen.append)
    names = [row.name for row in report.kernels]
    assert len(set(names)) == len(names) == 10
    assert seen == ["roof", *names]
    assert report.path == "reference"
    for row in report.kernels:
        assert row.ms > 0
        assert row.reference_ms > 0
        assert row.share == pytest.approx(row.floor_ms / row.ms)
        assert row.floor_ms == pytest.approx(report.roof.floor_ms(row.moved, row.flops))
    libraries = {name: ms for row in report.kernels for name, ms in row.libraries_ms.items()}
    assert libraries["SDPA"] is not None
    assert libraries["SDPA"] > 0
    assert {"FlexAttention", "varlen_attn", "_scaled_mm", "_weight_int8pack_mm"} <= libraries.keys()
    assert json.loads(json.dumps(report.as_json()))["width"] == 4


def test_a_library_that_refuses_a_device_or_shape_has_no_figure() -> None:
    def refuses() -> None:
        raise RuntimeError("not on this device")

    assert kernels.library_ms(Stopwatch(CPU), refuses) is None


def test_every_path_of_a_forward_is_measured() -> None:
    report = bench_forward(
        TINY, "tiny", widths=[1, 4], contexts=[8, 16], dtype="int8",
        against=["eager", "transformers"], device=CPU,
    )  # fmt: skip
    cells = [(row.path, row.weights, row.context, row.width) for row in report.forwards]
    assert cells == [
        (path, weights, context, width)
        for path, weights in (("eager", "f32"), ("transformers", "f32"), (INTEGERS, "int8"))
        for context in (8, 16)
        for width in (1, 4)
    ]
    assert all(row.ms > 0 and row.floor_ms > 0 for row in report.forwards)


def test_a_cpu_is_measured_with_its_serving_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's where it multiplies integers; with keys as the server keeps them."""
    kept: list[torch.dtype] = []

    def cache(config: ModelConfig, **options: Any) -> KVCache:
        kept.append(options["dtype"])
        return KVCache(config, **options)

    monkeypatch.setattr(forward, "KVCache", cache)
    for dtype, rival, ours in (
        ("f32", "f32", "packed"), ("bf16", "bf16", "packed"), ("int8", "f32", INTEGERS),
    ):  # fmt: skip
        report = bench_forward(
            TINY, "tiny", widths=[4], contexts=[16], dtype=dtype, against=["eager"], device=CPU
        )
        cells = [(row.path, row.weights) for row in report.forwards]
        assert cells == [("eager", rival), (ours, dtype)]
    served = fast_network(random_model(TINY, CPU, torch.float32), "int8")
    assert kept[-1] == served.cache_dtype
    assert Sizes.on_cpu(served, "int8").keys == served.cache_dtype.itemsize
    with pytest.raises(ValueError, match="fp8 weights need a GPU"):
        bench_forward(TINY, "tiny", widths=[4], contexts=[16], dtype="fp8", against=[], device=CPU)


def test_a_hole_is_filled_in_every_mode_cold_and_warm() -> None:
    seen: list[str] = []
    report = bench_completion(
        TINY, "tiny", context=12, tokens=9, dtype="f32", device=CPU, budget_s=0,
        progress=seen.append,
    )  # fmt: skip
    figures = {row.setting: row for row in report.completions}
    assert seen == ["random weights", *figures]
    assert {setting.partition(",")[0] for setting in figures} == set(MODES)
    assert report.network == "PackedTransformer"
    for row in report.completions:
        assert (row.tokens, row.n) == (9, 3)
        assert row.cold_ms > 0
        assert row.warm_ms > 0
    assert figures["ar"].forwards == 9
    # [seed, 8 masks] at this many commits per step, and the prefill.
    assert figures["diffusion, 4 a step"].forwards == 1 + 2
    assert figures["diffusion, 1 a step"].forwards == 1 + 8
    assert figures["diffusion, surest"].forwards == 1 + 8
    assert json.loads(json.dumps(report.as_json()))["context"] == 12


def test_a_context_too_short_to_be_warm_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "completion", "--device", "cpu", "--context", "3"]) == 2
    assert "a context of 3 is too short" in capsys.readouterr().err


def test_the_completion_command_writes_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "shape", lambda name: TINY)
    monkeypatch.setattr(
        decoding, "settings_of", lambda config: [("ar", "ar", decoding.ModeOptions())]
    )
    options = ["--device", "cpu", "--context", "8", "--tokens", "4", "--json"]
    assert main(["bench", "completion", *options]) == 0
    [only] = json.loads(capsys.readouterr().out)["completions"]
    assert (only["setting"], only["forwards"]) == ("ar", 4)


def test_the_lower_bound_counts_each_weight_once() -> None:
    """All matrices; the head is tied, so the embedding is not counted twice."""
    matrices = sum(p.numel() for p in random_model(TINY, CPU).parameters() if p.dim() == 2)
    full = Sizes.of("bf16", torch.bfloat16)
    moved, flops = work(TINY, 3, 0, full)
    assert moved == 2 * matrices
    assert flops == 2 * 3 * matrices
    with_context = work(TINY, 3, 10, full)
    assert with_context[0] - moved == 2 * 2 * 2 * 16 * 10 * 2  # k, v; layers; groups; dim; bytes
    assert work(TINY, 3, 10, Sizes.of("f32", torch.float32))[0] == 2 * with_context[0]
    assert work(TINY, 3, 0, Sizes.of("int8", torch.bfloat16))[0] == moved - (matrices - 64 * 32)


@pytest.mark.parametrize(
    ("name", "billions"), [("nld-3b", 3.83), ("nld-8b", 8.49), ("nld-14b", 13.51)]
)
def test_shapes_have_the_published_sizes(name: str, billions: float) -> None:
    config = shapes.shape(name)
    with torch.device("meta"):
        from fim_model.network.transformer import TriModeTransformer

        count = sum(p.numel() for p in TriModeTransformer(config).parameters())
    assert count / 1e9 == pytest.approx(billions, abs=0.005)


def test_the_command_accepts_the_benchmarks_choices() -> None:
    from fim_server.bench import forward

    assert (forward.RIVALS, tuple(forward.STORAGE), shapes.SHAPES) == (RIVALS, DTYPES, SHAPES)
    assert forward.TENSORS.keys() == forward.STORAGE.keys()
    for shape in shapes.SHAPES:
        with pytest.raises(SystemExit):  # --help exits after the choices are validated
            main(["bench", "kernels", "--shape", shape, "--help"])


def test_a_width_that_does_not_fit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("kernels", "forward"):
        found = main(["bench", kind, "--shape", "nld-3b", "--width", "64", "--context", "32"])
        assert found == 2
        assert "width 64 does not fit a context of 32" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to use")
def test_a_missing_gpu_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "kernels", "--device", "cuda"]) == 2
    assert "torch sees no GPU" in capsys.readouterr().err


def test_the_command_writes_json_and_a_chart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "shape", lambda name: TINY)
    picture = tmp_path / "roof.svg"
    options = ["--width", "4", "--context", "16", "--json", "--picture", str(picture)]
    assert main(["bench", "forward", "--against", "eager", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in report["forwards"]][:2] == ["eager", OURS]
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_the_chart_places_work_on_the_roofline() -> None:
    """Memory-bound work lies on the slanted line, compute-bound work on the flat one."""
    roof = Roof(bytes_per_s=1e12, flop_per_s=1e14)
    slow = Work("slow", moved=1e9, flops=1e9, ms=1.0)  # intensity 1, at 1e12
    fast = Work("fast", moved=1e6, flops=1e9, ms=0.01)  # intensity 1000, at 1e14
    svg = ElementTree.fromstring(roofline([slow, fast, Work("copy", 1e6, 0, 1)], roof, "t"))
    space = {"s": "http://www.w3.org/2000/svg"}
    dots = [
        (float(dot.get("cx", "")), float(dot.get("cy", "")))
        for dot in svg.findall("s:circle", space)
    ]
    line = svg.find("s:polyline", space)
    assert line is not None
    corners = [tuple(map(float, corner.split(","))) for corner in line.get("points", "").split()]
    assert len(dots) == 2
    (x0, y0), (x1, y1), _ = corners
    assert dots[0][1] == pytest.approx(y0 + (dots[0][0] - x0) * (y1 - y0) / (x1 - x0), abs=0.2)
    assert dots[1][1] == pytest.approx(y1, abs=0.2)
