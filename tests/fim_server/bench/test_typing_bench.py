"""The typing and soak benchmarks on a real engine: counts, and bounded queue and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from engine_home import EngineHome

from fim_server.bench.keystrokes import Jump, Key, keys_of, typing_tasks
from fim_server.bench.large import bench_large, large_tasks
from fim_server.bench.recovery import measure_recovery
from fim_server.bench.soak import EngineSample, MemoryFigures, bench_soak
from fim_server.bench.typing import bench_typing
from fim_server.engine.client import EngineBackend
from fim_server.settings.settings import Settings

SETTINGS = Settings(max_tokens=8)


@pytest_asyncio.fixture
async def backend(
    shared_home: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EngineBackend]:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, shared_home.environment[name])
    made = EngineBackend(str(shared_home.model))
    await made.start(lambda what, share: None)
    yield made
    await made.close()


def test_the_keystrokes_type_the_text_with_corrections_and_jumps() -> None:
    [task] = typing_tasks(1, 400, seed=3)
    assert len(task.typed) == 400
    keys = list(keys_of(task, seed=3))
    written = ""
    for key in keys:
        if isinstance(key, Key):
            written = written[:-1] if key.back else written + key.text
    assert written == task.typed
    assert sum(isinstance(key, Key) and key.back for key in keys) > 3
    assert sum(isinstance(key, Jump) for key in keys) > 1
    assert keys == list(keys_of(task, seed=3))
    assert typing_tasks(5, 100, 0) == typing_tasks(5, 100, 0)
    assert len({task.path for task in typing_tasks(5, 100, 0)}) == 5


async def test_reuse_prefills_less_for_the_same_keystrokes(backend: EngineBackend) -> None:
    tasks = typing_tasks(1, 24, seed=1)
    report = await bench_typing(backend, SETTINGS, tasks, model="tiny", keys_per_second=0, seed=1)
    ours, plain = report.variants["fim-server"], report.variants["no reuse"]
    assert ours.keystrokes == plain.keystrokes >= 24
    assert (ours.failed, plain.failed) == (0, 0)
    assert (ours.superseded_share, plain.superseded_share) == (0, 0)
    assert plain.reused_tokens == 0
    assert plain.cache_share == 0
    assert ours.reused_tokens > ours.prefill_tokens
    assert ours.prefill_tokens < plain.prefill_tokens / 2
    assert ours.cache_share > 0
    json.dumps(report.as_json())
    assert report.as_tables().renderables


async def test_sixteen_users_of_one_engine(backend: EngineBackend) -> None:
    before = await backend.metrics()
    report = await bench_soak(
        backend, SETTINGS, sessions=16, seconds=0, keys_per_second=8, characters=12
    )
    after = await backend.metrics()
    assert report.typing.failed == 0
    assert report.typing.keystrokes >= 16 * 12
    assert report.typing.shown_share > 0
    assert report.refused == before["fim_scheduler_refused"]
    assert report.longest_queue <= 32
    assert report.forwards_per_pass >= 1
    assert report.recovery is None
    assert after["fim_queue"] <= 16, "at most a speculation of each"
    assert report.memory.most_documents <= before["fim_sessions"] + 16
    assert after["fim_sessions"] == before["fim_sessions"], "the documents are closed"
    assert report.memory.warm_mib > 0
    assert report.as_tables().renderables
    json.dumps(report.as_json())


async def test_typing_into_huge_documents_with_and_without_the_model(
    backend: EngineBackend,
) -> None:
    tasks = large_tasks(8, seed=1, lines=400, line_bytes=2**14)
    lines, line = tasks.values()
    assert 395 <= (lines.before + lines.after).count("\n") <= 400
    assert "\n" not in line.before + line.typed + line.after
    assert not line.before.isascii()
    assert len(line.before + line.after) == 2**14
    report = await bench_large(backend, SETTINGS, model="tiny", tasks=tasks, keys_per_second=0)
    assert list(report.variants) == [
        "400 lines",
        "400 lines, no model",
        "a line of 16 KiB",
        "a line of 16 KiB, no model",
    ]
    for name, figures in report.variants.items():
        assert figures.failed == 0
        assert figures.keystrokes >= 8
        assert bool(figures.prefill_tokens) == ("no model" not in name)
    assert report.as_tables().renderables


async def test_recovery_from_a_killed_engine_is_timed(
    home: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, home.environment[name])
    backend = EngineBackend(str(home.model), threads=1)
    await backend.start(lambda what, share: None)
    first = await backend.process()
    recovery = await measure_recovery(backend, SETTINGS)
    assert await backend.process() != first
    assert recovery.lost_ms > 0
    assert recovery.again_ms > 0
    assert recovery.unanswered >= 0
    await backend.close()
    home.kill_engine()


async def test_memory_does_not_grow_with_the_number_of_documents(
    checkpoint: object, home: EngineHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine with room for a few sessions never keeps more."""
    home.start("--cache-mb", "1")
    home.wait_until_ready()
    with home.client() as client:
        for number in range(40):
            body = {
                "prefix": f"x{number} = ",
                "suffix": "",
                "max_tokens": 1,
                "session": str(number),
            }
            assert client.post("/v1/fim", json=body).status_code == 200
        figures = dict(
            line.split(" ")
            for line in client.get("/metrics").text.splitlines()
            if line.startswith(("fim_session", "fim_evictions"))
        )
    assert float(figures["fim_session_bytes"]) <= 2**20
    assert float(figures["fim_sessions"]) + float(figures["fim_evictions"]) == 40


def test_growth_is_from_the_peak_of_the_first_third_to_that_of_the_last() -> None:
    samples = [EngineSample(m, c, d, 0) for m, c, d in ((100, 0, 0), (300, 80, 8), (310, 90, 9))]
    samples += [EngineSample(m, c, d, 0) for m, c, d in ((305, 85, 8), (320, 70, 7), (200, 0, 0))]
    figures = MemoryFigures.of(samples)
    assert (figures.warm_mib, figures.end_mib, figures.growth_mib) == (300, 320, 20)
    assert (figures.warm_caches_mib, figures.end_caches_mib) == (80, 70)
    assert figures.most_documents == 9
    assert figures.course_mib == (100, 300, 310, 305, 320, 200)
    assert MemoryFigures.of(samples * 5).course_mib == (310, 320) * 5
    assert MemoryFigures.of(samples[:1]).growth_mib == 0


def test_the_command_line(shared_home: EngineHome) -> None:
    command = [sys.executable, "-m", "fim_server", "bench", "typing", "--json", "--sessions", "1"]
    command += ["--characters", "4", "--rate", "0", "--model", str(shared_home.model)]
    done = subprocess.run(
        command, env=shared_home.environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["variants"]) == {"fim-server", "no reuse"}
    assert report["variants"]["no reuse"]["keystrokes"] >= 4
