"""The suggestion cache: type-through, backspace and prefetch without a second request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from fim_model.requests import Completion, CompletionItem, CompletionRequest, CompletionStats
from lsprotocol import types as lsp

from fim_server.completion.answer import Answer
from fim_server.completion.cache import DOCUMENTS, SUGGESTIONS, SuggestionCache
from fim_server.completion.completer import Completer
from fim_server.completion.debounce import LONGEST_WAIT_SECONDS, Debounce
from fim_server.completion.gate import Judgement, judge
from fim_server.completion.hole import Hole, budgeted_hole, hole_after_accepting
from fim_server.completion.silence import Silence
from fim_server.documents.documents import DocumentStore, Place
from fim_server.settings.settings import Settings

WIDE = Settings(prefix_chars=1000, suffix_chars=1000)
URI = "file:///a.py"
AUTOMATIC = lsp.InlineCompletionTriggerKind.Automatic
INVOKED = lsp.InlineCompletionTriggerKind.Invoked


def hole(before: str, after: str = "\n") -> Hole:
    return Hole(before, after, lsp.Position(0, 0), "\n", Place(0, 0))


def found(cache: SuggestionCache, before: str, after: str = "\n", asked: int = 1) -> object:
    known = cache.find(URI, hole(before, after), asked)
    return None if known is None else known.texts


def said(*texts: str) -> Judgement:
    return Judgement(list(texts), None)


def test_type_through_leaves_the_rest_of_the_suggestion() -> None:
    cache = SuggestionCache()
    cache.remember(URI, hole("x = "), said("foo(1)\n  bar", "fob"), 2)
    assert found(cache, "x = ", asked=2) == ["foo(1)\n  bar", "fob"]
    assert found(cache, "x = ") == ["foo(1)\n  bar"], "as many as asked for"
    assert found(cache, "x = f") == ["oo(1)\n  bar"]
    assert found(cache, "x = fo") == ["o(1)\n  bar"]
    assert found(cache, "x = fob") is None, "all of the second one"
    assert found(cache, "x = foo") == ["(1)\n  bar"]
    assert found(cache, "x = foo(1)\n  ") == ["bar"]


def test_backspace_finds_the_earlier_suggestion() -> None:
    cache = SuggestionCache()
    cache.remember(URI, hole("x = "), said("foo"), 1)
    cache.remember(URI, hole("x = fo"), said("otball"), 1)
    assert found(cache, "x = foo") == ["tball"], "the one that has seen the most"
    assert found(cache, "x = f") == ["oo"]


@pytest.mark.parametrize(
    ("before", "after"),
    [("x = g", "\n"), ("x = foo", "\n"), ("x =", "\n"), ("x = f", ")\n"), ("y = f", "\n")],
    ids=["another letter", "all of it", "before it", "other text behind", "another line"],
)
def test_a_mismatch_is_not_in_the_cache(before: str, after: str) -> None:
    cache = SuggestionCache()
    cache.remember(URI, hole("x = "), said("foo"), 1)
    assert found(cache, before, after) is None


def test_a_blank_rest_is_not_shown() -> None:
    cache = SuggestionCache()
    cache.remember(URI, hole("x"), said("y\n    "), 1)
    assert found(cache, "xy") is None


@pytest.mark.parametrize(
    ("whole", "typed", "closed", "rest"),
    [
        ("(a, b)", "(", ")", "a, b"),
        ("(a, [b])", "(a, [", "])", "b"),
        ("('b')", "('", "')", "b"),
        ('("b")', '("b', '")', None),
        ("{\n  b\n}", "{", "}", "\n  b\n"),
        ("{\n  b\n}", "{\n  ", "\n}", "b"),
        ("[a] + [b]", "[", "]", "a] + [b"),
        ("Vec<u8>", "Vec<", ">", "u8"),
        ("(a, b)", "[", "]", None),
        ("(a, b)", "(", "]", None),
        ("(a, b)", "(", " x)", None),
    ],
)
def test_a_bracket_that_the_editor_closes_keeps_the_suggestion(
    whole: str, typed: str, closed: str, rest: str | None
) -> None:
    for after in ("\n", "\n" + "y = 1\n" * 50, ")\n"):
        cache = SuggestionCache()
        cache.remember(URI, hole("x = ", after), said(whole), 1)
        texts = found(cache, f"x = {typed}", closed + after)
        assert texts == (None if rest is None else [rest]), after


def test_a_closed_bracket_in_a_document_whose_window_ends_elsewhere() -> None:
    """The window right of the cursor has one line less with the bracket, if it was full."""
    cache = SuggestionCache()
    lines = "y = 1\n" * 50
    cache.remember(URI, hole("x = ", "\n" + lines), said("(a, b)"), 1)
    assert found(cache, "x = (", ")\n" + lines[:-6]) == ["a, b"]
    assert found(cache, "x = (", ")\n" + "z = 1\n" * 49) is None


def test_typing_over_a_closed_bracket_keeps_the_rest() -> None:
    cut = judge([CompletionItem("self, x):", 1.0)], hole("def f(", ")\n"), 0.0)
    assert cut.texts == ["self, x"]
    cache = SuggestionCache()
    cache.remember(URI, hole("def f(", ")\n"), cut, 1)
    assert found(cache, "def f(se", ")\n") == ["lf, x"]
    assert found(cache, "def f(self, x", ")\n") is None
    assert found(cache, "def f(self, x)", "\n") == [":"]
    assert found(cache, "def f(self, y)", "\n") is None


def test_an_item_in_place_of_the_rest_is_typed_through() -> None:
    over = judge([CompletionItem("self, x):", 1.0)], hole("def f(", ")\n"), 0.0, replaces=True)
    cache = SuggestionCache(replaces=True)
    cache.remember(URI, hole("def f(", ")\n"), over, 1)
    known = cache.find(URI, hole("def f(se", ")\n"), 1)
    assert known is not None
    assert [(fit.text, fit.over) for fit in known.fits] == [("lf, x):", 1)]
    known = cache.find(URI, hole("def f(self, x)", "\n"), 1)
    assert known is not None
    assert [(fit.text, fit.over) for fit in known.fits] == [(":", 0)]


def test_an_empty_answer_is_cached_for_its_exact_position_only() -> None:
    cache = SuggestionCache()
    cache.remember(URI, hole("x"), Judgement([], Silence.MID_WORD), 1)
    assert cache.find(URI, hole("x"), 1) == Judgement([], Silence.MID_WORD)
    assert found(cache, "xy") is None


def test_more_alternatives_than_requested_before_are_not_cached() -> None:
    cache = SuggestionCache()
    cache.remember(URI, hole("x"), said("yz"), 1)
    assert found(cache, "x", asked=3) is None
    cache.remember(URI, hole("x"), said("yz", "z"), 3)
    assert found(cache, "x", asked=3) == ["yz", "z"]
    assert found(cache, "xy", asked=3) is None, "who invokes wants alternatives, not a rest"


def test_the_cache_is_bounded_and_can_be_cleared() -> None:
    cache = SuggestionCache()
    for number in range(SUGGESTIONS + 1):
        cache.remember(URI, hole(f"{number}|"), said("x"), 1)
    assert found(cache, "0|") is None
    assert found(cache, "1|") == ["x"]
    cache.forget(URI)
    assert found(cache, "1|") is None
    for number in range(DOCUMENTS + 1):
        cache.remember(str(number), hole("x"), said("y"), 1)
    assert cache.find("0", hole("x"), 1) is None
    assert cache.find("1", hole("x"), 1) == said("y")


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_prefetched_hole_equals_the_editors_next_request(line_end: str) -> None:
    before, after = f"def f():{line_end}    x𝒳 = ", f"{line_end}done{line_end}"
    store = DocumentStore()
    store.open(URI, "python", 1, before + after)
    snapshot = store.snapshot(URI)
    assert snapshot is not None
    cursor = lsp.Position(1, len("    x𝒳 = ") + 1)
    for text in ("1", "(\n        2\n    )"):
        now = budgeted_hole(snapshot, cursor, WIDE)
        later, predicted = hole_after_accepting(snapshot, now, text, WIDE)
        store.open(URI, "python", 2, before + text.replace("\n", line_end) + after)
        real = store.snapshot(URI)
        assert real is not None
        assert later.lines == real.lines
        assert budgeted_hole(real, predicted.position, WIDE) == predicted
        assert predicted.before.endswith("x𝒳 = " + text)


class Script:
    """A backend that maps lines to continuations, and records requests."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, bool]] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def start(self, progress: object) -> None: ...

    async def complete(self, request: CompletionRequest) -> Completion:
        line = request.prefix.rpartition("\n")[2]
        self.asked.append((line, request.speculative))
        await self.hold.wait()
        stats = CompletionStats(request.mode, 1, 1, 1.0, 1, 0, 1.0)
        return Completion([CompletionItem(self.answers.get(line, ""), 1.0)], stats)

    async def forget(self, session: str) -> None: ...

    async def close(self) -> None: ...


class Typist:
    """Types one line of text, and collects the answers."""

    def __init__(self, answers: Mapping[str, str], *, speculate: bool = False) -> None:
        self.backend = Script(answers)
        self.documents = DocumentStore()
        settings = Settings(speculate=speculate, alternatives=3)
        self.completer = Completer(self.documents, self.backend, settings)

    async def at(
        self, line: str, trigger: lsp.InlineCompletionTriggerKind = AUTOMATIC
    ) -> tuple[object, bool]:
        """The text shown for a document that consists of `line`, and whether it was cached."""
        answer = await self.answer(line, trigger)
        return (answer.items[0].insert_text if answer.items else None), answer.cached

    async def answer(self, line: str, trigger: lsp.InlineCompletionTriggerKind) -> Answer:
        self.documents.open(URI, "python", 1, line + "\n")
        self.completer.document_changed(URI)
        return await self.completer.complete(URI, lsp.Position(0, len(line)), trigger)

    async def started(self) -> Typist:
        await self.completer.start(lambda what, share: None)
        return self


async def test_type_through_and_backspace_cost_one_request() -> None:
    typist = await Typist({"x = ": "foo(1)"}).started()
    assert await typist.at("x = ") == ("foo(1)", False)
    assert await typist.at("x = f") == ("oo(1)", True)
    assert await typist.at("x = foo(") == ("1)", True)
    assert await typist.at("x = f") == ("oo(1)", True)
    assert await typist.at("x = ") == ("foo(1)", True)
    assert typist.backend.asked == [("x = ", False)]


async def test_typing_something_else_costs_another_request() -> None:
    typist = await Typist({"x = ": "foo", "x = b": "ar"}).started()
    await typist.at("x = ")
    assert await typist.at("x = b") == ("ar", False)
    assert await typist.at("x = b") == ("ar", True)


async def test_a_silence_is_cached_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "fim_server")
    typist = await Typist({"x = ": "  "}).started()
    answers = [await typist.answer("x = ", AUTOMATIC) for _ in range(2)]
    assert [(answer.silence, answer.cached) for answer in answers] == [
        (Silence.BLANK, False),
        (Silence.BLANK, True),
    ]
    assert "nothing (blank, known already)" in caplog.text
    assert len(typist.backend.asked) == 1


async def test_an_invoked_request_requests_its_alternatives() -> None:
    typist = await Typist({"x = ": "foo"}).started()
    await typist.at("x = ")
    assert await typist.at("x = ", INVOKED) == ("foo", False)
    assert await typist.at("x = ", INVOKED) == ("foo", True)


async def test_the_continuation_of_a_suggestion_is_prefetched() -> None:
    typist = await Typist({"x = ": "foo", "x = foo": "(1)"}, speculate=True).started()
    assert await typist.at("x = ") == ("foo", False)
    while typist.completer._speculations.keys:  # noqa: ASYNC110 - the loop itself makes it true
        await asyncio.sleep(0)
    assert typist.backend.asked == [("x = ", False), ("x = foo", True)]
    assert await typist.at("x = f") == ("oo", True)
    assert await typist.at("x = foo") == ("(1)", True)


async def test_equal_concurrent_requests_are_computed_once() -> None:
    typist = await Typist({"x = ": "foo"}).started()
    typist.backend.hold.clear()
    typist.documents.open(URI, "python", 1, "x = \n")
    asking = [
        asyncio.create_task(typist.completer.complete(URI, lsp.Position(0, 4), AUTOMATIC))
        for _ in range(3)
    ]
    while not typist.backend.asked:  # noqa: ASYNC110 - the loop itself makes it true
        await asyncio.sleep(0)
    asking[0].cancel()
    typist.backend.hold.set()
    answers = await asyncio.gather(*asking[1:])
    assert [len(answer.items) for answer in answers] == [1, 1]
    assert typist.backend.asked == [("x = ", False)]
    assert (await asking[0]).items == []


def test_no_debounce_while_latency_is_unknown_or_low() -> None:
    debounce = Debounce()
    assert debounce.wait(0.0) == 0
    for key in range(10):
        debounce.typed(0.1 * key)
    assert debounce.wait(0.9) == 0
    debounce.answered(0.04)
    assert debounce.wait(0.9) == 0


def test_a_slow_model_is_queried_when_the_typing_pauses() -> None:
    debounce = Debounce()
    for key in range(10):
        debounce.typed(0.1 * key)
    debounce.answered(0.5)
    assert debounce.wait(0.9) == pytest.approx(0.125)
    assert debounce.wait(1.0) == pytest.approx(0.025), "counted from the last key"
    assert debounce.wait(5.0) == 0


def test_a_model_that_was_slow_once_is_measured_again() -> None:
    """The first answer is slow. If every request were debounced, the latency would never be
    updated.
    """
    debounce = Debounce()
    debounce.answered(0.25)
    waits = []
    for key in range(40):
        debounce.typed(0.1 * key)
        waits.append(debounce.wait(0.1 * key))
    assert waits[2] > 0
    assert waits[-1] == 0
    debounce.answered(0.5)
    assert debounce.wait(3.9) > 0, "and waited for again, if it still is"


def test_pauses_do_not_count_as_typing_and_the_debounce_is_bounded() -> None:
    debounce = Debounce()
    debounce.answered(9.0)
    debounce.typed(0.0)
    debounce.typed(100.0)
    assert debounce.wait(100.0) == 0, "no interval is known"
    debounce.typed(100.9)
    assert debounce.wait(100.9) == pytest.approx(LONGEST_WAIT_SECONDS)
