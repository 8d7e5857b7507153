"""The report of `fim-server bench peers`: figures of each variant and engine, and their ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from statistics import fmean, median, quantiles
from typing import Any

from rich.console import Group
from rich.table import Table

from fim_server.bench.chart import Point, scatter
from fim_server.bench.machine import Machine, Memory, machine_description

AR, SELF_SPECULATION, AUTO = "ours ar", "ours self_speculation", "ours auto"
PEER, PEER_NGRAM = "llama.cpp", "llama.cpp n-gram"

_SHOWN = {"ours": "ours", "peer": PEER}


@dataclass(slots=True)
class Runs:
    """Answers of one variant, by hole, in the same order for all variants."""

    cold: list[dict[str, Any]] = field(default_factory=list)
    warm: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class VariantFigures:
    """One-line completions of a variant, in milliseconds; percentiles are linearly interpolated.

    tokens: generated for a cold completion, mean. prompt, reused: tokens of the prompt that were
    computed cold, and taken from the cache warm. modes: those that ran, for `auto`.
    """

    n: int
    cold_p50_ms: float
    cold_p95_ms: float
    warm_p50_ms: float
    warm_p95_ms: float
    tokens: float
    prompt: float
    reused: float
    modes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """prefill_ms, decode_ms: of one token, autoregressive. ready_ms: from the start of the process
    until it can complete; first_ms: until its first completion. memory: after the run."""

    prefill_ms: float
    decode_ms: float
    ready_ms: float
    first_ms: float
    memory: Memory


@dataclass(frozen=True, slots=True)
class PeersReport:
    """Ratios are the peer's time over ours: above 1, this engine is faster.

    prefill_ratio, decode_ratio: of a token. auto_ratio: whole warm one-line completions, mode auto
    against the faster of llama.cpp's variants, median over the holes; auto_cold_ratio: cold ones.
    cold_ms, warm_ms: p50 of "ours" (auto) and "peer" (its faster variant). same_text: share of
    holes where autoregressive decoding gives the same line on both sides.
    """

    prefill_ratio: float
    decode_ratio: float
    auto_ratio: float
    auto_cold_ratio: float
    cold_ms: dict[str, float]
    warm_ms: dict[str, float]
    load_ms: dict[str, float]
    memory_mib: dict[str, float | None]
    same_text: float
    model: str
    date: str
    threads: int
    machine: Machine
    ours: dict[str, Any]
    peer: dict[str, Any]
    engines: dict[str, EngineFigures]
    variants: dict[str, VariantFigures]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_tables(self) -> Group:
        """The engines, then their completions, then the ratios."""
        return Group(_engine_table(self), _variant_table(self), _ratio_table(self))


def report_of(
    model: str,
    threads: int,
    ours: dict[str, Any],
    peer: dict[str, Any],
    engines: dict[str, EngineFigures],
    runs: dict[str, Runs],
) -> PeersReport:
    figures = {name: figures_of(found) for name, found in runs.items()}
    peers = [name for name in (PEER, PEER_NGRAM) if name in runs]
    cold_peer = min(peers, key=lambda name: figures[name].cold_p50_ms)
    warm_peer = min(peers, key=lambda name: figures[name].warm_p50_ms)
    same = [
        own["text"] == other["text"]
        for own, other in zip(runs[AR].cold, runs[PEER].cold, strict=True)
    ]
    return PeersReport(
        prefill_ratio=_ratio(engines["peer"].prefill_ms, engines["ours"].prefill_ms),
        decode_ratio=_ratio(engines["peer"].decode_ms, engines["ours"].decode_ms),
        auto_ratio=paired_ratio(runs[warm_peer].warm, runs[AUTO].warm),
        auto_cold_ratio=paired_ratio(runs[cold_peer].cold, runs[AUTO].cold),
        cold_ms={"ours": figures[AUTO].cold_p50_ms, "peer": figures[cold_peer].cold_p50_ms},
        warm_ms={"ours": figures[AUTO].warm_p50_ms, "peer": figures[warm_peer].warm_p50_ms},
        load_ms={name: engine.first_ms for name, engine in engines.items()},
        memory_mib={name: engine.memory.rss_mib for name, engine in engines.items()},
        same_text=round(fmean(same), 3),
        model=model,
        date=datetime.now(UTC).date().isoformat(),
        threads=threads,
        machine=machine_description(),
        ours=ours,
        peer=peer,
        engines=engines,
        variants=figures,
    )


def figures_of(runs: Runs) -> VariantFigures:
    """The figures of one or more holes."""
    cold, warm = (_percentiles(part) for part in (runs.cold, runs.warm))
    return VariantFigures(
        len(runs.cold),
        *cold,
        *warm,
        tokens=round(fmean(run["tokens"] for run in runs.cold), 2),
        prompt=round(fmean(run["prompt_tokens"] for run in runs.cold), 1),
        reused=round(fmean(run["reused_tokens"] for run in runs.warm), 1),
        modes=tuple(sorted({run["mode"] for run in runs.cold} - {""})),
    )


def paired_ratio(peer: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]]) -> float:
    """Median over the holes of the peer's milliseconds over ours."""
    pairs = zip(peer, ours, strict=True)
    ratios = [float(theirs["ms"]) / float(own["ms"]) for theirs, own in pairs]
    return round(median(ratios), 3)


def _percentiles(runs: Sequence[dict[str, Any]]) -> tuple[float, float]:
    times = [run["ms"] for run in runs]
    points = quantiles(times, n=20, method="inclusive") if len(times) > 1 else times * 19
    return round(points[9], 1), round(points[18], 1)


def _ratio(peer: float, ours: float) -> float:
    return round(peer / ours, 3)


def _engine_table(report: PeersReport) -> Table:
    machine = report.machine
    table = Table(
        title=f"{report.model}, {report.threads} threads, {report.date}",
        caption=f"{machine.cpu}, {machine.cores} cores; torch {machine.torch}, weights "
        f"{report.ours['weights']}; {report.peer['package']}, {report.peer['dtype']}, "
        f"{report.peer['system_info']}",
    )
    for column in ("engine", "prefill ms", "decode ms", "ready ms", "first ms", "MiB", "peak MiB"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for name, engine in report.engines.items():
        times = (engine.prefill_ms, engine.decode_ms, engine.ready_ms, engine.first_ms)
        memory = (engine.memory.rss_mib, engine.memory.peak_rss_mib)
        table.add_row(_SHOWN[name], *(f"{figure:g}" for figure in times), *map(str, memory))
    return table


def _variant_table(report: PeersReport) -> Table:
    table = Table(title="One-line completions, ms")
    columns = {
        "cold_p50_ms": "cold p50", "cold_p95_ms": "p95", "warm_p50_ms": "warm p50",
        "warm_p95_ms": "p95", "tokens": "tokens", "prompt": "prompt", "reused": "reused",
    }  # fmt: skip
    for header in ("variant", *columns.values(), "n"):
        table.add_column(header, justify="left" if header == "variant" else "right")
    for name, row in report.variants.items():
        modes = f" ({', '.join(row.modes)})" if name == AUTO else ""
        figures = (f"{getattr(row, column):g}" for column in columns)
        table.add_row(name + modes, *figures, str(row.n))
    return table


def _ratio_table(report: PeersReport) -> Table:
    table = Table("llama.cpp's time over ours", "", title="Ratios")
    for name in ("prefill_ratio", "decode_ratio", "auto_ratio", "auto_cold_ratio", "same_text"):
        table.add_row(name, f"{getattr(report, name):g}")
    return table


def chart(report: PeersReport) -> str:
    """The variants as SVG: cold against warm completions."""
    return scatter(
        [
            Point(row.cold_p50_ms, row.warm_p50_ms, name, name.partition(" ")[0])
            for name, row in report.variants.items()
        ],
        title=f"One-line completions, {report.threads} threads",
        x="milliseconds cold, p50",
        y="milliseconds warm, p50",
    )
