"""The in-process backend with a tiny model: runs off the event loop, cancels within one forward."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fim_model.infiller import Infiller
from fim_model.requests import Completion, CompletionRequest
from tiny_checkpoint import write_tiny_checkpoint

from fim_server.backends.base import BackendError
from fim_server.backends.in_process import InProcessBackend

REQUEST = CompletionRequest("def first(items):\n    ", "\n", mode="ar", max_tokens=40, session="a")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
async def backend(checkpoint: Path) -> AsyncIterator[InProcessBackend]:
    backend = InProcessBackend(str(checkpoint), threads=1)
    await backend.start(lambda what, share: None)
    yield backend
    await backend.close()


class Forwards:
    """Counts the model's forwards, and blocks in the forward with a given number."""

    def __init__(self, backend: InProcessBackend, hold_at: int = 0) -> None:
        self.count, self.hold_at = 0, hold_at
        self.go_on = threading.Event()
        self.held = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        infiller = backend._infiller
        assert infiller is not None
        self.model, infiller.model = infiller.model, self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def forward_parts(self, *inputs: Any) -> Any:
        hidden = self.model.forward_parts(*inputs)
        self.count += 1
        if self.count == self.hold_at:
            self.loop.call_soon_threadsafe(self.held.set)
            self.go_on.wait(60)
        return hidden


async def worker_is_idle(backend: InProcessBackend) -> None:
    """Wait until the worker has finished all earlier work."""
    await asyncio.get_running_loop().run_in_executor(backend.scheduler.worker, lambda: None)


@pytest.mark.parametrize("mode", ["ar", "diffusion", "self_speculation"])
async def test_the_answer_comes_from_the_model(
    backend: InProcessBackend, checkpoint: Path, mode: Any
) -> None:
    request = dataclasses.replace(REQUEST, mode=mode, alternatives=2, max_tokens=12)
    completion = await backend.complete(request)
    direct = Infiller.load(checkpoint).infill(request)
    assert direct.stats is not None
    assert [item.text for item in completion.items] == [item.text for item in direct.items]
    assert [item.confidence for item in completion.items] == pytest.approx(
        [item.confidence for item in direct.items]
    )
    assert completion.stats is not None
    assert completion.stats.mode == mode
    assert completion.stats.forwards == direct.stats.forwards > 0
    assert completion.stats.tokens == direct.stats.tokens
    assert completion.stats.prefill_tokens == direct.stats.prefill_tokens


async def test_loading_reports_progress(checkpoint: Path) -> None:
    """Reported on the event loop, in proportion to the weights that have been read."""
    backend = InProcessBackend(str(checkpoint), threads=1)
    told: list[tuple[str, float]] = []
    try:
        await backend.start(lambda what, share: told.append((what, share)))
    finally:
        await backend.close()
    assert told[0] == ("Starting torch", 0.0)
    shares = [share for what, share in told[1:] if what == "Loading the model"]
    assert len(shares) == len(told) - 1 > 3
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


async def test_a_session_reuses_its_kv(backend: InProcessBackend) -> None:
    first = await backend.complete(REQUEST)
    again = await backend.complete(dataclasses.replace(REQUEST, prefix=REQUEST.prefix + "re"))
    assert first.stats is not None
    assert again.stats is not None
    assert first.stats.reused_tokens == 0
    assert again.stats.reused_tokens > 0
    assert again.stats.prefill_tokens < first.stats.prefill_tokens


async def test_cancelling_stops_before_the_next_forward(backend: InProcessBackend) -> None:
    whole = Forwards(backend)
    await backend.complete(dataclasses.replace(REQUEST, session=""))
    assert whole.count > 5, "without cancellation there is more to do"

    forwards = Forwards(backend, hold_at=3)
    asking = asyncio.create_task(backend.complete(REQUEST))
    await forwards.held.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    forwards.go_on.set()
    await worker_is_idle(backend)
    assert forwards.count == 3


async def test_a_newer_request_supersedes_an_older_one_of_its_session(
    backend: InProcessBackend,
) -> None:
    forwards = Forwards(backend, hold_at=3)
    older = asyncio.create_task(backend.complete(REQUEST))
    await forwards.held.wait()
    newer = asyncio.create_task(backend.complete(dataclasses.replace(REQUEST, max_tokens=39)))
    await asyncio.sleep(0)
    forwards.go_on.set()
    assert await older == Completion()
    completion = await newer
    assert completion.items
    assert completion.stats is not None
    assert forwards.count == 3 + completion.stats.forwards


async def test_another_session_is_not_superseded(backend: InProcessBackend) -> None:
    forwards = Forwards(backend, hold_at=3)
    one = asyncio.create_task(backend.complete(REQUEST))
    await forwards.held.wait()
    two = asyncio.create_task(backend.complete(dataclasses.replace(REQUEST, session="b")))
    await asyncio.sleep(0)
    forwards.go_on.set()
    assert (await one).items
    assert (await two).items


async def test_concurrent_sessions_get_their_own_answers_in_fewer_passes(
    checkpoint: Path,
) -> None:
    """The first request is blocked in its second forward until the others have started; from then
    on they are batched. The scheduler, the threads and the model are the engine's own.
    """
    wide = InProcessBackend(str(checkpoint), threads=1, at_once=4)
    await wide.start(lambda what, share: None)
    requests = [
        dataclasses.replace(REQUEST, prefix=f"def first_{n}(items):\n    ", session=f"{n}")
        for n in range(4)
    ]
    alone = [await wide.complete(request) for request in requests]
    assert wide.passes()[0] == wide.passes()[1] == sum(forwards_of(answer) for answer in alone)
    before = wide.passes()

    first = Forwards(wide, hold_at=2)
    asking = [asyncio.create_task(wide.complete(request)) for request in requests]
    await first.held.wait()
    while wide.scheduler.running < 4:  # noqa: ASYNC110 - it can only be asked
        await asyncio.sleep(0.001)
    first.go_on.set()
    together = await asyncio.gather(*asking)
    assert [answer.items[0].text for answer in together] == [
        answer.items[0].text for answer in alone
    ]
    forwards, passes = (now - then for now, then in zip(wide.passes(), before, strict=True))
    assert forwards == sum(forwards_of(answer) for answer in together)
    assert passes <= forwards / 2
    await wide.close()


def forwards_of(completion: Completion) -> int:
    assert completion.stats is not None
    return completion.stats.forwards


async def test_requests_cancelled_in_the_queue_cost_no_forward(backend: InProcessBackend) -> None:
    forwards = Forwards(backend, hold_at=1)
    running = asyncio.create_task(backend.complete(REQUEST))
    await forwards.held.wait()
    queued = [
        asyncio.create_task(backend.complete(dataclasses.replace(REQUEST, session=f"{number}")))
        for number in range(20)
    ]
    await asyncio.sleep(0)
    for task in queued:
        task.cancel()
    await asyncio.gather(*queued, return_exceptions=True)
    forwards.go_on.set()
    completion = await running
    await worker_is_idle(backend)
    assert completion.stats is not None
    assert forwards.count == completion.stats.forwards


async def test_closing_cancels_running_requests(backend: InProcessBackend) -> None:
    forwards = Forwards(backend, hold_at=2)
    asking = asyncio.create_task(backend.complete(REQUEST))
    await forwards.held.wait()
    await backend.close()
    await backend.close()
    forwards.go_on.set()
    assert await asking == Completion()
    assert forwards.count == 2
    with pytest.raises(BackendError, match="closed"):
        await backend.complete(REQUEST)


async def test_a_request_the_model_refuses_does_not_end_the_worker(
    backend: InProcessBackend,
) -> None:
    infiller = backend._infiller
    assert infiller is not None
    infiller.model.config = dataclasses.replace(infiller.model.config, mask_token_id=None)
    with pytest.raises(BackendError, match="this model has no mode 'diffusion'"):
        await backend.complete(dataclasses.replace(REQUEST, mode="diffusion"))
    assert (await backend.complete(REQUEST)).items


async def test_progress_is_reported_on_the_event_loop(checkpoint: Path) -> None:
    heard: list[tuple[str, float, bool]] = []
    here = threading.get_ident()
    backend = InProcessBackend(str(checkpoint))
    await backend.start(lambda *step: heard.append((*step, threading.get_ident() == here)))
    await asyncio.sleep(0)
    await backend.close()
    shares = [share for _, share, _ in heard]
    assert shares == sorted(shares)
    assert len(shares) > 0
    assert all(on_loop for _, _, on_loop in heard)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ("folder", "there is no such checkpoint folder"),
        ("config.json", "config.json"),
        ("model.safetensors", "model.safetensors"),
        ("tokenizer.json", "tokenizer"),
    ],
)
async def test_an_unusable_checkpoint_is_reported(
    tmp_path: Path, broken: str, expected: str
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model")
    if broken == "folder":
        folder = tmp_path / "missing"
    else:
        whole = (folder / broken).read_bytes()
        (folder / broken).write_bytes(whole[: len(whole) // 2])
    backend = InProcessBackend(str(folder))
    with pytest.raises(BackendError, match=expected) as problem:
        await backend.start(lambda what, share: None)
    assert "\n" not in str(problem.value)
    with pytest.raises(BackendError, match="not loaded"):
        await backend.complete(REQUEST)
    await backend.close()


def test_a_missing_torch_is_reported_with_a_remedy() -> None:
    code = """
import asyncio, sys
sys.modules["torch"] = None
from fim_server.backends.in_process import InProcessBackend
asyncio.run(InProcessBackend().start(lambda what, share: None))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.endswith("a local model needs the module torch: pip install 'fim-server[local]'")
