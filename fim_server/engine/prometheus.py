"""The engine's Prometheus metrics; they contain no user text."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from fim_model.requests import Completion, Rewrite
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from fim_server.backends.in_process import InProcessBackend
from fim_server.backends.scheduler import Scheduler

_LATENCIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10)
_SESSION_FIGURES = (
    "Sessions with cached KV.",
    "Bytes of cached KV.",
    "Sessions evicted to make room for others.",
)
_PASS_FIGURES = (
    "Forwards of all requests, cancelled ones included.",
    "Passes over the weights that computed these forwards.",
)
_TOKENS_PER_FORWARD = (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16)
MAX_RECENT = 200
"""Requests whose latencies `figures` summarises."""


@dataclass(slots=True)
class _Work:
    """What the model did in one mode. seconds: from the start of the prompt to the end of the text,
    without waiting in the queue."""

    requests: int = 0
    tokens: int = 0
    forwards: int = 0
    seconds: float = 0.0

    def report(self) -> dict[str, float]:
        return {
            "requests": self.requests,
            "tokens": self.tokens,
            "forwards": self.forwards,
            "tokens_per_forward": self.tokens / self.forwards if self.forwards else 0.0,
            "tokens_per_second": self.tokens / self.seconds if self.seconds else 0.0,
        }


class Metrics:
    """Counts requests by the API they came through."""

    def __init__(self, backend: InProcessBackend) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._seconds = Histogram(
            "fim_request_seconds",
            "Seconds from the arrival of a request to its answer.",
            ["api", "outcome"],
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self._forwards = self._counter("fim_forwards", "Forwards.", ["mode"])
        self._tokens = self._counter("fim_tokens", "Committed tokens.", ["mode"])
        self._prefilled = self._counter("fim_prefill_tokens", "Prompt tokens prefilled.")
        self._reused = self._counter("fim_reused_tokens", "Prompt tokens reused from the KV cache.")
        self._per_forward = Histogram(
            "fim_tokens_per_forward",
            "Committed tokens per forward of a request.",
            ["mode"],
            buckets=_TOKENS_PER_FORWARD,
            registry=self.registry,
        )
        self._work: defaultdict[str, _Work] = defaultdict(_Work)
        self._recent: deque[float] = deque(maxlen=MAX_RECENT)
        self._outcomes: defaultdict[str, defaultdict[str, int]]
        self._outcomes = defaultdict(lambda: defaultdict(int))
        self._prompt_tokens, self._reused_tokens = 0, 0
        self._watch_scheduler(backend.scheduler)
        for place, name in enumerate(("fim_sessions", "fim_session_bytes", "fim_evictions")):
            gauge = Gauge(name, _SESSION_FIGURES[place], registry=self.registry)
            gauge.set_function(partial(_figure, backend.sessions, place))
        for place, name in enumerate(("fim_joint_forwards", "fim_joint_passes")):
            gauge = Gauge(name, _PASS_FIGURES[place], registry=self.registry)
            gauge.set_function(partial(_figure, backend.passes, place))

    def answered(self, api: str, seconds: float, completion: Completion) -> None:
        """One request was answered; without stats it was superseded or stopped."""
        stats = completion.stats
        self._ended(api, "answered" if stats else "superseded", seconds)
        if stats is None:
            return
        self._recent.append(seconds)
        work = self._work[stats.mode]
        work.requests, work.tokens = work.requests + 1, work.tokens + stats.tokens
        work.forwards += stats.forwards
        work.seconds += stats.ms / 1000
        self._prompt_tokens += stats.prefill_tokens + stats.reused_tokens
        self._reused_tokens += stats.reused_tokens
        self._forwards.labels(stats.mode).inc(stats.forwards)
        self._tokens.labels(stats.mode).inc(stats.tokens)
        self._per_forward.labels(stats.mode).observe(stats.tokens_per_forward)
        self._prefilled.inc(stats.prefill_tokens)
        self._reused.inc(stats.reused_tokens)

    def rewritten(self, seconds: float, rewrite: Rewrite | None) -> None:
        """Count a rewrite request, by the method that produced the rewrite."""
        outcome = "answered" if rewrite else "superseded"
        self._ended("rewrite", outcome, seconds)
        if rewrite is None:
            return
        self._forwards.labels(rewrite.way).inc(rewrite.forwards)
        self._tokens.labels(rewrite.way).inc(rewrite.tokens)
        self._reused.inc(rewrite.reused_tokens)

    def failed(self, api: str, seconds: float, outcome: str) -> None:
        self._ended(api, outcome, seconds)

    def figures(self) -> dict[str, Any]:
        """The counts for the engine's page, since the start.

        latency: milliseconds from the arrival of a request to its answer, of the last completions.
        speed: by mode. prompt: tokens of all prompts, and those reused from the KV cache.
        """
        recent = sorted(1000 * seconds for seconds in self._recent)
        ninth = recent[min(len(recent) - 1, int(0.9 * len(recent)))] if recent else None
        return {
            "requests": {api: dict(outcomes) for api, outcomes in self._outcomes.items()},
            "latency": {
                "sample": len(recent),
                "median_ms": statistics.median(recent) if recent else None,
                "p90_ms": ninth,
            },
            "speed": {mode: work.report() for mode, work in self._work.items()},
            "prompt": {"tokens": self._prompt_tokens, "reused": self._reused_tokens},
        }

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    def _ended(self, api: str, outcome: str, seconds: float) -> None:
        self._seconds.labels(api, outcome).observe(seconds)
        self._outcomes[api][outcome] += 1

    def _counter(self, name: str, what: str, labels: list[str] | None = None) -> Counter:
        return Counter(name, what, labels or [], registry=self.registry)

    def _watch_scheduler(self, scheduler: Scheduler) -> None:
        waiting = Gauge("fim_queue", "Requests waiting for the model.", registry=self.registry)
        waiting.set_function(lambda: scheduler.waiting)
        running = Gauge("fim_running", "Requests being processed.", registry=self.registry)
        running.set_function(lambda: float(scheduler.running))
        for name in [field.name for field in fields(scheduler.counts)]:
            # The scheduler keeps the count; a gauge exports it, since a Counter would keep its own.
            gauge = Gauge(f"fim_scheduler_{name}", f"Requests {name}.", registry=self.registry)
            gauge.set_function(partial(getattr, scheduler.counts, name))


def _figure(figures: Callable[[], tuple[int, ...]], place: int) -> float:
    return figures()[place]
