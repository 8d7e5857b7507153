"""The comparison with llama.cpp: figures, the chart, child processes, and a run on a tiny model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf", reason="the package gguf is not installed")

from fim_model.requests import CompletionRequest
from gguf_files import write_own_checkpoint
from llama_server import WITHOUT

from fim_server.bench.peer_sides import OURS, Side, SideError
from fim_server.bench.peers_report import (
    AR,
    AUTO,
    PEER,
    PEER_NGRAM,
    EngineFigures,
    Memory,
    Runs,
    chart,
    figures_of,
    paired_ratio,
    report_of,
)
from fim_server.cli import main
from fim_server.engine.wire import request_to_json


def answer(ms: float, text: str = "x", mode: str = "") -> dict[str, Any]:
    return {
        "ms": ms, "text": text, "tokens": 4, "prompt_tokens": 100, "reused_tokens": 99,
        "mode": mode,
    }  # fmt: skip


def runs(cold: list[float], warm: list[float], text: str = "x", mode: str = "") -> Runs:
    return Runs([answer(ms, text, mode) for ms in cold], [answer(ms, text, mode) for ms in warm])


def test_figures_are_percentiles_and_means() -> None:
    figures = figures_of(runs([10.0, 20.0, 60.0], [1.0, 2.0, 3.0], mode="ar"))
    assert (figures.n, figures.cold_p50_ms, figures.warm_p50_ms) == (3, 20.0, 2.0)
    assert figures.cold_p95_ms == pytest.approx(56.0)
    assert (figures.tokens, figures.prompt, figures.reused) == (4, 100, 99)
    assert figures.modes == ("ar",)


def test_a_ratio_is_the_median_over_the_holes() -> None:
    peer, ours = runs([10, 20, 900], []).cold, runs([5, 20, 3], []).cold
    assert paired_ratio(peer, ours) == 2.0


def test_ratios_take_the_peers_faster_variant() -> None:
    """auto against plain llama.cpp cold, against its speculation warm."""
    found = {
        AR: runs([30, 30], [6, 6]),
        PEER: runs([40, 40], [12, 12], text="y"),
        PEER_NGRAM: runs([80, 80], [9, 9]),
        AUTO: runs([10, 10], [3, 3], mode="ar"),
    }
    memory = Memory(50.0, 60.0)
    engines = {
        "ours": EngineFigures(0.5, 10.0, 100.0, 200.0, memory),
        "peer": EngineFigures(5.0, 15.0, 50.0, 60.0, memory),
    }
    about = {"package": "p", "dtype": "q8_0", "system_info": "CPU"}
    report = report_of("default", 2, {"weights": "int8"}, about, engines, found)
    assert (report.prefill_ratio, report.decode_ratio) == (10.0, 1.5)
    assert (report.auto_ratio, report.auto_cold_ratio) == (3.0, 4.0)
    assert report.cold_ms == {"ours": 10, "peer": 40}
    assert report.warm_ms == {"ours": 3, "peer": 9}
    assert report.same_text == 0.0
    assert all(name in chart(report) for name in found)


def test_a_side_that_cannot_load_says_why(tmp_path: Path) -> None:
    with pytest.raises(SideError, match="absent"):
        Side(OURS, {"model": str(tmp_path / "absent"), "threads": 1}, {})


def test_a_side_that_ends_is_named(tmp_path: Path) -> None:
    module = tmp_path / "broken_side.py"
    module.write_text("raise SystemExit('no such thing')\n")
    with pytest.raises(SideError, match="broken_side ended unexpectedly: no such thing"):
        Side("broken_side", {}, {"PYTHONPATH": str(tmp_path)})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_checkpoint(
        tmp_path_factory.mktemp("own"), fim_layout="fim-server joined", max_position_embeddings=2048
    )


def test_our_side_completes_from_its_cache(checkpoint: Path) -> None:
    side = Side(OURS, {"model": str(checkpoint), "threads": 1}, {"FIM_WEIGHTS": "int8"})
    try:
        request = CompletionRequest("x = 1\nretur", "\n", mode="ar", max_tokens=1, session="s")
        asked = request_to_json(request)
        prompt = side.ask(prompt=asked)
        cold, warm = side.ask(request=asked), side.ask(request=asked)
        side.ask(forget="s")
        again = side.ask(request=asked)
        wrong = {**asked, "mode": "fast"}
        with pytest.raises(SideError, match="mode"):
            side.ask(request=wrong)
    finally:
        side.close()
    assert side.ready["weights"].startswith("8-bit ")
    assert prompt["spelled"] == "retur"
    assert cold["prompt_tokens"] == again["prompt_tokens"] == len(prompt["ids"])
    assert warm["reused_tokens"] == len(prompt["ids"]) - 1
    assert warm["text"] == cold["text"]


def test_without_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    assert main(["bench", "peers"]) == 2
    assert "pip install xllamacpp" in capsys.readouterr().err


@pytest.mark.parametrize(("reach", "context"), [(2048, 2048), (32_768, 4096)])
def test_the_peer_keeps_no_longer_context_than_we_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reach: int, context: int
) -> None:
    pytest.importorskip("xllamacpp", reason=WITHOUT)
    folder = write_own_checkpoint(tmp_path / "own", max_position_embeddings=reach)
    asked: dict[str, Any] = {}

    def bench(*places: Any, **options: Any) -> None:
        asked.update(options)
        raise ValueError("enough")

    monkeypatch.setattr("fim_server.bench.peers.bench_peers", bench)
    assert main(["bench", "peers", "--model", str(folder), "--threads", "1"]) == 2
    assert asked["context"] == context


def test_a_run(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("xllamacpp", reason=WITHOUT)
    picture = tmp_path / "peers.svg"
    arguments = ["--model", str(checkpoint), "--samples", "3", "--threads", "1"]
    assert main(["bench", "peers", *arguments, "--picture", str(picture), "--json"]) == 0
    shown = capsys.readouterr().out
    report = json.loads(shown.splitlines()[-1])
    for name in ("prefill_ratio", "decode_ratio", "auto_ratio", "auto_cold_ratio"):
        assert report[name] > 0
    for name in ("cold_ms", "warm_ms", "load_ms", "memory_mib"):
        assert set(report[name]) == {"ours", "peer"}
        assert all(figure > 0 for figure in report[name].values())
    assert report["peer"]["package"].startswith("xllamacpp ")
    assert report["peer"]["options"]["threads"] == report["threads"] == 1
    variants = report["variants"].values()
    assert len({row["n"] for row in variants}) == 1
    assert len({row["prompt"] for row in variants}) == 1
    assert all(row["reused"] > 0 for row in variants)
    assert picture.read_text().startswith("<svg")
