"""One run per key: equal requests join it, newer ones supersede it, waiters can cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

import pytest

from fim_server.backends.latest_only import ABANDONED, LatestOnly, SharedRun, Stopped

Run = SharedRun[str]


class Office:
    """Callers of a LatestOnly whose runs the test completes by setting `run.future`."""

    def __init__(self) -> None:
        self.latest: LatestOnly[Run] = LatestOnly(superseded="newer")
        self.started: list[Run] = []

    def ask(self, key: Hashable, request: object, *, urgent: bool = True) -> asyncio.Task[str]:
        run = self.latest.join(key, request, urgent=urgent)
        if run is None:
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            run = self.latest.start(SharedRun(key, request, future, urgent))
            self.started.append(run)
        return asyncio.create_task(self.latest.result(run))


@pytest.fixture
async def office() -> Office:
    return Office()


async def reason(asking: asyncio.Task[str]) -> str:
    with pytest.raises(Stopped) as stopped:
        await asking
    return stopped.value.reason


async def settle() -> None:
    """Let all runnable tasks proceed."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_equal_requests_share_one_run(office: Office) -> None:
    first, second = office.ask("a", 1), office.ask("a", 1)
    [run] = office.started
    run.future.set_result("done")
    assert await asyncio.gather(first, second) == ["done", "done"]
    assert office.latest.counts.coalesced == 1


async def test_a_newer_request_supersedes_a_different_older_one(office: Office) -> None:
    older, newer = office.ask("a", 1), office.ask("a", 2)
    assert await reason(older) == "newer"
    assert office.started[0].future.cancelled()
    office.started[1].future.set_result("2")
    assert await newer == "2"
    assert office.latest.counts.superseded == 1


async def test_keys_are_independent(office: Office) -> None:
    one, other = office.ask("a", 1), office.ask("b", 1)
    for run in office.started:
        run.future.set_result(str(run.key))
    assert await asyncio.gather(one, other) == ["a", "b"]


async def test_a_stopped_run_is_not_joined(office: Office) -> None:
    first = office.ask("a", 1)
    office.latest.stop("a", "changed")
    second = office.ask("a", 1)
    assert len(office.started) == 2
    assert await reason(first) == "changed"
    office.started[1].future.set_result("again")
    assert await second == "again"


async def test_the_run_stops_when_its_last_waiter_is_cancelled(office: Office) -> None:
    first, second = office.ask("a", 1), office.ask("a", 1)
    [run] = office.started
    await settle()
    first.cancel()
    await settle()
    assert not run.future.cancelled()
    second.cancel()
    await settle()
    assert run.future.cancelled()
    assert run.stopped == ABANDONED
    assert first.cancelled()
    assert second.cancelled()
    assert office.latest.counts.cancelled == 1


async def test_stopping_a_key_gives_the_reason_to_every_waiter(office: Office) -> None:
    first, second, other = office.ask("a", 1), office.ask("a", 1), office.ask("b", 1)
    office.latest.stop("a", "changed")
    office.latest.stop("a", "closed")
    assert [await reason(asking) for asking in (first, second)] == ["changed"] * 2, "the first"
    assert not other.done()
    office.latest.stop_all("shut down")
    assert await reason(other) == "shut down"


async def test_an_undelivered_result_is_dropped_with_its_key(office: Office) -> None:
    asking = office.ask("a", 1)
    await settle()
    office.started[0].future.set_result("too late")
    office.latest.stop("a", "changed")
    assert await reason(asking) == "changed"


async def test_an_error_of_the_run_reaches_every_waiter(office: Office) -> None:
    waiting = [office.ask("a", 1), office.ask("a", 1)]
    office.started[0].future.set_exception(ValueError("broken"))
    for asking in waiting:
        with pytest.raises(ValueError, match="broken"):
            await asking


async def test_a_non_urgent_request_never_supersedes_an_urgent_one(office: Office) -> None:
    urgent = office.ask("a", 1)
    guess = office.ask("a", 2, urgent=False)
    newer_guess = office.ask("a", 3, urgent=False)
    assert await reason(guess) == "newer"
    newest = office.ask("a", 4)
    assert [await reason(asking) for asking in (urgent, newer_guess)] == ["newer"] * 2
    office.started[-1].future.set_result("4")
    assert await newest == "4"


async def test_a_run_that_an_urgent_request_joins_becomes_urgent(office: Office) -> None:
    guess, person = office.ask("a", 1, urgent=False), office.ask("a", 1)
    other_guess = office.ask("a", 2, urgent=False)
    for run in office.started:
        run.future.set_result(str(run.request))
    assert await asyncio.gather(guess, person, other_guess) == ["1", "1", "2"]


async def test_a_detached_run_continues_without_waiters(office: Office) -> None:
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    office.latest.detach(office.latest.start(SharedRun("a", 1, done)))
    assert office.latest.keys == ["a"]
    done.set_result("done")
    await settle()
    assert office.latest.keys == []


@pytest.mark.parametrize("end", ["result", "error", "stop", "leave", "supersede"])
async def test_no_entry_outlives_its_waiters(office: Office, end: str) -> None:
    asking = [office.ask("a", 1), office.ask("a", 1)]
    await settle()
    [run] = office.started
    if end == "result":
        run.future.set_result("done")
    elif end == "error":
        run.future.set_exception(ValueError("broken"))
    elif end == "stop":
        office.latest.stop("a", "changed")
    elif end == "leave":
        for waiter in asking:
            waiter.cancel()
    else:
        newer = office.ask("a", 2)
        office.started[-1].future.set_result("2")
        await newer
    await asyncio.gather(*asking, return_exceptions=True)
    assert office.latest.keys == []
