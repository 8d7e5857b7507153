"""The scheduler: latest wins, users before speculation, bounded queue, equal requests coalesce."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from fim_model.requests import Completion, CompletionItem, CompletionRequest

from fim_server.backends.scheduler import Busy, Scheduler, ShouldStop


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - another thread makes it true
            await asyncio.sleep(0.001)


class Model:
    """Stand-in for the model's thread: works on a request until released or cancelled."""

    def __init__(self, limit: int = 4, at_once: int = 1) -> None:
        self.scheduler = Scheduler(limit, at_once)
        self.release = threading.Event()
        self.begun: list[str] = []
        self.stopped: list[str] = []

    def ask(
        self, prefix: str, session: str = "", *, speculative: bool = False, latest_wins: bool = True
    ) -> asyncio.Task[str]:
        request = CompletionRequest(prefix, "", session=session, speculative=speculative)

        def work(should_stop: ShouldStop) -> Completion:
            self.begun.append(prefix)
            released = False
            while not (released or should_stop()):
                released = self.release.wait(0.001)
            if should_stop():
                self.stopped.append(prefix)
            return Completion([CompletionItem(prefix, 1.0)])

        async def text() -> str:
            completion = await self.scheduler.run(
                request, work, Completion(), latest_wins=latest_wins
            )
            return completion.items[0].text if completion.items else ""

        return asyncio.create_task(text())

    async def begins(self, *prefixes: str) -> None:
        await until(lambda: self.begun == list(prefixes))


@pytest_asyncio.fixture
async def model() -> AsyncIterator[Model]:
    made = Model()
    yield made
    made.release.set()
    made.scheduler.close()


@pytest_asyncio.fixture
async def wide() -> AsyncIterator[Model]:
    """A model that serves two requests concurrently."""
    made = Model(at_once=2)
    yield made
    made.release.set()
    made.scheduler.close()


async def test_requests_are_served_in_order(model: Model) -> None:
    model.release.set()
    answers = [model.ask(text) for text in ("a", "b", "c")]
    assert await asyncio.gather(*answers) == ["a", "b", "c"]
    assert model.begun == ["a", "b", "c"]
    assert model.scheduler.counts.finished == 3


async def test_the_latest_request_of_a_session_supersedes_older_ones_at_once(model: Model) -> None:
    running, queued = model.ask("1", "s"), model.ask("other", "t")
    await model.begins("1")
    newer = model.ask("2", "s")
    newest = model.ask("3", "s")
    assert await running == ""
    assert await newer == ""
    assert "2" not in model.begun
    model.release.set()
    assert (await queued, await newest) == ("other", "3")
    assert model.stopped == ["1"]
    assert model.scheduler.counts.superseded == 2


async def test_clients_that_queue_are_not_superseded(model: Model) -> None:
    first = model.ask("1", "s", latest_wins=False)
    await model.begins("1")
    second = model.ask("2", "s", latest_wins=False)
    await asyncio.sleep(0)
    model.release.set()
    assert (await first, await second) == ("1", "2")


async def test_a_user_request_preempts_speculation(model: Model) -> None:
    speculation = model.ask("guess", "s", speculative=True)
    await model.begins("guess")
    later = model.ask("later guess", "u", speculative=True)
    person = model.ask("person", "t")
    assert await speculation == ""
    await model.begins("guess", "person")
    model.release.set()
    assert (await person, await later) == ("person", "later guess")
    assert model.scheduler.counts.preempted == 1


async def test_speculation_does_not_supersede_a_user_request(model: Model) -> None:
    person = model.ask("person", "s")
    await model.begins("person")
    guess = model.ask("guess", "s", speculative=True)
    await asyncio.sleep(0)
    model.release.set()
    assert (await person, await guess) == ("person", "guess")


async def test_equal_requests_coalesce_at_the_higher_priority(
    model: Model,
) -> None:
    speculation = model.ask("same", "s", speculative=True)
    await model.begins("same")
    person = model.ask("same", "s")
    stranger = model.ask("stranger", "t")
    await asyncio.sleep(0)
    model.release.set()
    assert await asyncio.gather(speculation, person, stranger) == ["same", "same", "stranger"]
    assert model.begun == ["same", "stranger"]
    assert model.scheduler.counts.coalesced == 1


async def test_work_stops_only_when_its_last_caller_cancels(model: Model) -> None:
    one, two = model.ask("same", "s"), model.ask("same", "s")
    await model.begins("same")
    one.cancel()
    await asyncio.sleep(0.01)
    assert model.stopped == []
    two.cancel()
    await until(lambda: model.stopped == ["same"])
    assert model.scheduler.counts.cancelled == 1


async def test_a_cancelled_request_in_the_queue_never_begins(model: Model) -> None:
    running, queued = model.ask("1"), model.ask("2")
    await model.begins("1")
    queued.cancel()
    await asyncio.sleep(0)
    model.release.set()
    assert await running == "1"
    assert await model.ask("3") == "3"
    assert model.begun == ["1", "3"]


async def test_a_full_queue_refuses_and_speculation_makes_room(model: Model) -> None:
    running = model.ask("running")
    await model.begins("running")
    queued = [model.ask(str(number)) for number in range(3)]
    guess = model.ask("guess", speculative=True)
    await asyncio.sleep(0)
    with pytest.raises(Busy, match="4 requests waiting"):
        await model.ask("one guess too many", speculative=True)
    fourth = model.ask("fourth")
    assert await guess == ""
    with pytest.raises(Busy):
        await model.ask("fifth")
    model.release.set()
    assert await asyncio.gather(running, *queued, fourth) == ["running", "0", "1", "2", "fourth"]
    assert model.scheduler.counts.refused == 2


async def test_an_error_reaches_the_caller_and_the_next_request_works(model: Model) -> None:
    def broken(should_stop: ShouldStop) -> Completion:
        raise ValueError("broken")

    model.release.set()
    with pytest.raises(ValueError, match="broken"):
        await model.scheduler.run(CompletionRequest("x", ""), broken, Completion())
    assert await model.ask("next") == "next"


async def test_closing_answers_all_requests(model: Model) -> None:
    waiting = [model.ask("1"), model.ask("2")]
    await model.begins("1")
    model.scheduler.close()
    assert await asyncio.gather(*waiting) == ["", ""]


async def test_sessions_run_concurrently_up_to_the_limit(wide: Model) -> None:
    one, two, three = (wide.ask(name, name) for name in ("1", "2", "3"))
    await until(lambda: len(wide.begun) == 2)
    await asyncio.sleep(0.01)
    assert sorted(wide.begun) == ["1", "2"]
    assert (wide.scheduler.running, wide.scheduler.waiting) == (2, 1)
    wide.release.set()
    assert await asyncio.gather(one, two, three) == ["1", "2", "3"]
    assert (wide.scheduler.running, wide.scheduler.waiting) == (0, 0)


async def test_two_requests_of_a_session_never_run_at_once(wide: Model) -> None:
    """They would write to the same cache, so the second waits while another session runs."""
    first = wide.ask("1", "s", latest_wins=False)
    second = wide.ask("2", "s", latest_wins=False)
    other = wide.ask("other", "t")
    await until(lambda: len(wide.begun) == 2)
    await asyncio.sleep(0.01)
    assert sorted(wide.begun) == ["1", "other"]
    wide.release.set()
    assert await asyncio.gather(first, second, other) == ["1", "2", "other"]


async def test_a_newer_request_waits_for_the_current_forward_of_the_older(wide: Model) -> None:
    held = threading.Event()

    def stubborn(should_stop: ShouldStop) -> Completion:
        held.wait(60)
        assert should_stop(), "it is stopped, but still inside of a forward"
        return Completion()

    request = CompletionRequest("older", "", session="s")
    older = asyncio.create_task(wide.scheduler.run(request, stubborn, Completion()))
    await asyncio.sleep(0)
    newer = wide.ask("newer", "s")
    assert await older == Completion()
    await asyncio.sleep(0.01)
    assert wide.begun == []
    held.set()
    await wide.begins("newer")
    wide.release.set()
    assert await newer == "newer"


async def test_speculation_never_runs_beside_a_user_request(wide: Model) -> None:
    guesses = [wide.ask(f"guess {name}", name, speculative=True) for name in "ab"]
    await until(lambda: len(wide.begun) == 2)
    person = wide.ask("person", "c")
    later = wide.ask("later guess", "d", speculative=True)
    assert await asyncio.gather(*guesses) == ["", ""]
    await until(lambda: "person" in wide.begun)
    await asyncio.sleep(0.01)
    assert (wide.scheduler.running, wide.scheduler.waiting) == (1, 1)
    wide.release.set()
    assert (await person, await later) == ("person", "later guess")
    assert wide.begun[2:] == ["person", "later guess"]
    assert wide.scheduler.counts.preempted == 2
