"""`fim-server bench peers`: this engine and llama.cpp on the same weights, prompts and machine.

Both run as a child process with the same number of threads. For every hole each variant completes
one line cold (nothing cached) and then warm (one more character typed), and the order of the
variants moves on by one from hole to hole, so that other load meets all of them alike.

The same prompt ids go to both. They end at the last settled token border: this engine then spells
what was typed since (token healing), llama.cpp writes on freely. Requests carry no copies of text
from other places, which only this engine could use. llama.cpp is timed by its own clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from fim_model.requests import CompletionRequest, Mode

from fim_server.bench.peer_sides import LLAMA_CPP, OURS, Side
from fim_server.bench.peers_report import (
    AR,
    AUTO,
    PEER,
    PEER_NGRAM,
    SELF_SPECULATION,
    EngineFigures,
    PeersReport,
    Runs,
    report_of,
)
from fim_server.bench.samples import bundled_samples, requests_while_typing
from fim_server.engine.wire import request_to_json
from fim_server.settings.settings import Settings

TYPED = 1
"""Characters typed between the cold and the warm completion."""

LONG = 33
"""Tokens of the completion from which the time of a token is computed."""

MIN_DECODED = 8
"""Fewest tokens from which the time of a token is computed; this engine may end a hole early."""

STARTS = 3
"""Starts of each side of which load time is the median."""

SPECULATION = "NGRAM_MOD"
"""llama.cpp's speculation that is measured, of its five without a draft model the one that wasted
least on ten of these holes: 62 tokens drafted, 10 accepted (NGRAM_SIMPLE 144 and 15, NGRAM_CACHE 83
and 12, NGRAM_MAP_K and _K4V 48 and 1)."""

_STARTED = "bench.py", "def total(prices):\n    return sum("
"""Path and prefix of the first completion of a process."""

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)`."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to complete: mode of this engine, or llama.cpp without or with its speculation."""

    name: str
    mode: Mode | None
    side: str


VARIANTS = (
    Variant(AR, "ar", "ours"),
    Variant(PEER, None, "peer"),
    Variant(SELF_SPECULATION, "self_speculation", "ours"),
    Variant(PEER_NGRAM, None, "speculating peer"),
    Variant(AUTO, "auto", "ours"),
)


def bench_peers(
    model: str | None,
    gguf: Path,
    *,
    context: int,
    threads: int,
    samples: int,
    peer_dtype: str,
    weights: str | None = None,
    progress: Progress = lambda done, total: None,
) -> PeersReport:
    """Measure a model against llama.cpp on the same weights, which `gguf` holds.

    `model` is a checkpoint folder or None for the one that ships; `context` its window in tokens;
    `weights` what FIM_WEIGHTS shall be for this engine, None for its own choice. Raises SideError
    where a side cannot run, ValueError if no hole is long enough to time a token.
    """
    starter = Starter(model, gguf, context=context, threads=threads, weights=weights)
    sides: dict[str, Side] = {}
    try:
        load = {}
        for name in ("ours", "peer"):
            sides[name], load[name] = starter.measured(name)
        sides["speculating peer"] = starter.start("speculating peer")
        runs, costs = _measure(sides, samples, progress)
        memory = {name: sides[name].memory() for name in load}
        ready = {name: side.ready for name, side in sides.items()}
    finally:
        for side in sides.values():
            side.close()
    engines = {
        name: EngineFigures(*_token_ms(costs[name]), *load[name], memory[name]) for name in load
    }
    peer = {**ready["peer"], "dtype": peer_dtype, "ngram": ready["speculating peer"]["options"]}
    return report_of(model or "default", threads, ready["ours"], peer, engines, runs)


class Starter:
    """Starts sides with the same model and threads."""

    def __init__(
        self, model: str | None, gguf: Path, *, context: int, threads: int, weights: str | None
    ) -> None:
        self._ours = {"model": model, "threads": threads}
        self._peer = {"path": str(gguf), "context": context, "threads": threads}
        self._environment = {"FIM_WEIGHTS": weights} if weights else {}

    def start(self, name: str) -> Side:
        """A running side. Raises SideError."""
        if name == "ours":
            return Side(OURS, self._ours, self._environment)
        speculation = SPECULATION if name == "speculating peer" else ""
        return Side(LLAMA_CPP, {**self._peer, "speculation": speculation}, {})

    def measured(self, name: str) -> tuple[Side, tuple[float, float]]:
        """The last of STARTS sides, and the medians of `ready_ms` and `first_ms`."""
        times = []
        for left in reversed(range(STARTS)):
            side = self.start(name)
            try:
                _first_completion(side, name)
                times.append((side.ready_ms, 1000 * (time.perf_counter() - side.started)))
            except BaseException:
                side.close()
                raise
            if left:
                side.close()
        ready, first = (round(median(column), 1) for column in zip(*times, strict=True))
        return side, (ready, first)


def _first_completion(side: Side, name: str) -> None:
    if name == "ours":
        path, prefix = _STARTED
        request = CompletionRequest(prefix, "\n", path, max_lines=1)
        side.ask(request=request_to_json(request))
    else:
        side.ask(**peer_request(list(range(20, 40)), 16, cached=False))


def peer_request(
    ids: Sequence[int],
    max_tokens: int,
    *,
    cached: bool,
    one_line: bool = True,
    no_end: bool = False,
) -> dict[str, Any]:
    """A message for llama.cpp's side. `no_end`: only the token limit ends it."""
    return {
        "ids": list(ids), "max_tokens": max_tokens, "one_line": one_line, "cached": cached,
        "no_end": no_end,
    }  # fmt: skip


def _measure(
    sides: Mapping[str, Side], samples: int, progress: Progress
) -> tuple[dict[str, Runs], dict[str, list[tuple[float, float]]]]:
    """Completions by variant, and for both engines the milliseconds a token of each hole."""
    runs = {variant.name: Runs() for variant in VARIANTS}
    costs: dict[str, list[tuple[float, float]]] = {"ours": [], "peer": []}
    settings = Settings()
    places = bundled_samples(samples, TYPED)
    for number, sample in enumerate(places):
        holes = [
            Hole.of(replace(request, copies=(), snippets=()), sides["ours"])
            for request in requests_while_typing(sample, settings, "")
        ]
        if any("\n" in hole.spelled for hole in holes):
            continue  # llama.cpp's stop text would end it at once
        at = number % len(VARIANTS)
        for variant in (*VARIANTS[at:], *VARIANTS[:at]):
            side, found = sides[variant.side], runs[variant.name]
            session = f"{variant.name} {number}"
            for hole, done in zip(holes, (found.cold, found.warm), strict=True):
                if variant.mode is None:
                    cached = done is found.warm
                    done.append(side.ask(**hole.for_llama_cpp(cached=cached)))
                else:
                    answer = side.ask(request=hole.for_us(variant.mode, session))
                    done.append({**answer, "text": hole.spelled + answer["text"]})
            if variant.mode is not None:
                side.ask(forget=session)
        for name in ("ours", "peer") if number % 2 else ("peer", "ours"):
            if cost := _token_cost(sides, name, holes[0].request):
                costs[name].append(cost)
        progress(number + 1, len(places))
    return runs, costs


@dataclass(frozen=True, slots=True)
class Hole:
    """A request with the token ids that both engines read, and the text that is spelled again."""

    request: CompletionRequest
    ids: list[int]
    spelled: str

    @classmethod
    def of(cls, request: CompletionRequest, ours: Side) -> Hole:
        answer = ours.ask(prompt=request_to_json(request))
        return cls(request, answer["ids"], answer["spelled"])

    def for_us(self, mode: Mode, session: str, **changes: Any) -> dict[str, Any]:
        """The request as JSON."""
        return request_to_json(replace(self.request, mode=mode, session=session, **changes))

    def for_llama_cpp(self, *, cached: bool) -> dict[str, Any]:
        """A message for llama.cpp's side: one line."""
        return peer_request(self.ids, self.request.max_tokens, cached=cached)


def _token_cost(
    sides: Mapping[str, Side], name: str, request: CompletionRequest
) -> tuple[float, float] | None:
    """Milliseconds to prefill and to decode a token, from a hole's prefix without its suffix.

    Differences of whole completions, the same on both sides: one token cold less one token warm
    is the prompt, many tokens less one are the tokens. None if the hole ended too early.
    """
    hole = Hole.of(replace(request, suffix="", max_lines=None), sides["ours"])
    session = f"{name} tokens"

    def run(count: int, *, cached: bool) -> dict[str, Any]:
        if name == "ours":
            return sides[name].ask(request=hole.for_us("ar", session, max_tokens=count))
        message = peer_request(hole.ids, count, cached=cached, one_line=False, no_end=True)
        return sides[name].ask(**message)

    cold, warm, many = run(1, cached=False), run(1, cached=True), run(LONG, cached=True)
    if name == "ours":
        sides[name].ask(forget=session)
    computed = cold["prompt_tokens"] - warm["prompt_tokens"]
    decoded = many["tokens"] - warm["tokens"]
    if computed < 1 or decoded < MIN_DECODED:
        return None
    return (cold["ms"] - warm["ms"]) / computed, (many["ms"] - warm["ms"]) / decoded


def _token_ms(costs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Medians over the holes. Raises ValueError if there are none."""
    if not costs:
        raise ValueError(
            f"every hole ended before {MIN_DECODED} tokens: the time of a token cannot be "
            "measured; take more samples"
        )
    prefill, decode = zip(*costs, strict=True)
    return round(median(prefill), 3), round(median(decode), 3)
