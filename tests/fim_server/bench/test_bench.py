"""The latency benchmark: requests, figures, and the probe of a server process."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable

import pytest
from fim_model.requests import Completion, CompletionItem, CompletionRequest, CompletionStats

from fim_server.bench import server_probe
from fim_server.bench.latency import MEASURED_MODES, Timing, bench_latency, measure_modes, summarise
from fim_server.bench.machine import machine_description, memory_of
from fim_server.bench.samples import bundled_samples, requests_while_typing, spread_samples
from fim_server.bench.server_probe import ProbeError, probe_server
from fim_server.settings.settings import Settings


class CountingBackend:
    """Answers at once, simulates session caches by text, and records requests."""

    def __init__(self) -> None:
        self.asked: list[CompletionRequest] = []
        self.sessions: dict[str, str] = {}

    async def start(self, progress: Callable[[str, float], None]) -> None: ...

    async def complete(self, request: CompletionRequest) -> Completion:
        self.asked.append(request)
        seen = self.sessions.get(request.session, "")
        reused = len(seen) if seen and request.prefix.startswith(seen) else 0
        self.sessions[request.session] = request.prefix
        stats = CompletionStats(
            mode=request.mode,
            forwards=4 if request.mode == "ar" else 2,
            tokens=6,
            tokens_per_forward=1.5,
            prefill_tokens=len(request.prefix) - reused,
            reused_tokens=reused,
            ms=1.0,
        )
        return Completion([CompletionItem("x", 1.0)], stats)

    async def forget(self, session: str) -> None: ...

    async def close(self) -> None: ...


def stats(forwards: int, tokens: int, prefill: int = 0, reused: int = 0) -> CompletionStats:
    return CompletionStats("ar", forwards, tokens, tokens / forwards, prefill, reused, 0.0)


# --- samples -------------------------------------------------------------------------------------


def test_samples_are_partially_written_lines_of_code() -> None:
    samples = bundled_samples(12)
    assert samples == bundled_samples(12)
    assert len(set(samples)) == 12
    assert len({sample.path for sample in samples}) == 5
    for sample in samples:
        assert sample.before.rpartition("\n")[2].strip()
        assert len(sample.typed) == 3
        assert sample.after.startswith("\n")


def test_samples_leave_out_docstrings_and_comments() -> None:
    docstring = '"""Text of a docstring,\nof two long lines."""\n'
    text = docstring + "# a comment, long enough\nvalue = f(a, b, c, d)\n"
    (sample,) = spread_samples("f.py", text, 3, typed=2)
    assert sample.before.endswith("\nvalue =")
    assert (sample.typed, sample.after) == (" f", "\n")


def test_requests_equal_the_servers_and_typing_only_appends() -> None:
    settings = Settings(prefix_chars=400, suffix_chars=100)
    for sample in bundled_samples(10):
        cold, warm = requests_while_typing(sample, settings, "s")
        assert warm.prefix == cold.prefix + sample.typed
        assert warm.suffix == cold.suffix
        assert cold.suffix[:50] == sample.after[:50]
        assert sample.before.endswith(cold.prefix)
        assert len(cold.prefix) <= 400
        assert (cold.session, cold.max_lines, cold.alternatives) == ("s", 1, 1)


# --- figures -------------------------------------------------------------------------------------


def test_figures_by_hand() -> None:
    figures = summarise([Timing(10.0, stats(4, 8, 100, 0)), Timing(30.0, stats(6, 7, 50, 10))])
    assert (figures.n, figures.p50_ms, figures.p95_ms) == (2, 20.0, 29.0)
    assert (figures.forwards, figures.tokens, figures.tokens_per_forward) == (5.0, 7.5, 1.5)
    assert (figures.prefill_tokens, figures.reused_tokens) == (75.0, 5.0)
    alone = summarise([Timing(10.0, stats(4, 8))])
    assert (alone.p50_ms, alone.p95_ms) == (10.0, 10.0)


async def test_every_sample_is_measured_cold_then_warm_in_every_mode() -> None:
    backend = CountingBackend()
    steps: list[tuple[int, int]] = []
    samples = bundled_samples(4)
    figures = await measure_modes(
        backend, samples, Settings(), progress=lambda *step: steps.append(step)
    )
    assert list(figures) == list(MEASURED_MODES)
    assert {"ar", "diffusion", "self_speculation"} <= set(figures)
    total = 4 * len(MEASURED_MODES)
    assert steps == [(done, total) for done in range(1, total + 1)]
    assert len(backend.asked) == len(MEASURED_MODES) * (1 + 2 * 4)  # one warm-up call per mode
    for mode in MEASURED_MODES:
        assert figures[mode].cold.n == figures[mode].warm.n == 4
        assert figures[mode].cold.reused_tokens == 0
        assert figures[mode].warm.prefill_tokens == 3  # the typed characters
        assert figures[mode].cold.forwards == (4 if mode == "ar" else 2)


async def test_a_report_is_one_json_object_without_the_machines_name() -> None:
    report = await bench_latency(
        CountingBackend(), Settings(), model="none", samples=2, server_command=None
    )
    shown = json.dumps(report.as_json())
    assert json.loads(shown)["modes"]["diffusion"]["warm"]["tokens_per_forward"] == 3.0
    assert json.loads(shown)["server"] is None
    assert socket.gethostname() not in shown
    with pytest.raises(ValueError, match="0 samples"):
        await bench_latency(CountingBackend(), Settings(), model="none", samples=0)


def test_the_machine_is_described() -> None:
    machine = machine_description()
    assert machine.cores >= 1
    assert machine.memory_gib > 0
    assert machine.python == ".".join(map(str, sys.version_info[:3]))


def test_memory_of_a_process() -> None:
    memory = memory_of(os.getpid())
    assert memory.rss_mib is not None
    assert 5 < memory.rss_mib < 100_000
    assert memory_of(2**22 + 1).rss_mib is None  # above the highest process id


# --- the server probe ----------------------------------------------------------------------------


REFUSAL = """
body = '{"id": 1, "error": {"code": -1, "message": "no way"}}'
print(f"Content-Length: {len(body)}\\r\\n\\r\\n{body}", end="", flush=True)
input()
"""


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("pass", "exited before the answer to initialize"),
        ("print('hello\\r\\n\\r', flush=True); input()", "other than LSP"),
        ("print('Content-Length: x\\r\\n\\r', flush=True); input()", "other than LSP"),
        ("import time; time.sleep(60)", "waiting for the answer to initialize"),
        (REFUSAL, "initialize: no way"),
    ],
)
async def test_a_misbehaving_server_is_a_one_line_error(
    script: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_probe, "_TIMEOUT_S", 0.5 if "sleep" in script else 60.0)
    with pytest.raises(ProbeError, match=message) as caught:
        await probe_server(bundled_samples(1)[0], (sys.executable, "-c", script), starts=1)
    assert "\n" not in str(caught.value)


async def test_a_server_that_cannot_start_is_named() -> None:
    with pytest.raises(ProbeError, match="no-such-program"):
        await probe_server(bundled_samples(1)[0], ("no-such-program",), starts=1)


async def test_the_real_server_without_a_model_is_an_error() -> None:
    (sample,) = bundled_samples(1)
    with pytest.raises(ProbeError, match="no-such-checkpoint"):
        await probe_server(sample, options={"model": "no-such-checkpoint"}, starts=1)


async def test_the_real_server_is_measured_with_its_default_model() -> None:
    from fim_model.loading.checkpoint import default_checkpoint

    if not default_checkpoint().is_dir():
        pytest.skip("there is no default checkpoint in fim_model/checkpoints yet")
    figures = await probe_server(bundled_samples(1)[0], starts=1)
    assert 0 < figures.initialize_ms == figures.initialize_slowest_ms < figures.ready_ms
    assert figures.memory.rss_mib is not None
    assert figures.memory.rss_mib > 50  # includes torch and a model
