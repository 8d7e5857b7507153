"""`fim-server bench completion`: fill a whole hole in every mode, cold and warm, on random weights.

Runs the server's decoding core and network over a random prompt, so the overhead of decoding beyond
its forwards is included. Random weights accept almost no drafts: speculative modes show their worst
case, and the tokens that diffusion commits per step are fixed by the rule. A cold run prefills the
whole prompt; a warm run finds all but the last few tokens in the cache, as after a keystroke.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from random import Random
from statistics import median
from typing import Any

import torch
from fim_model.decoding.commit_rules import ConfidenceThreshold, Leftmost
from fim_model.decoding.core import DecodingCore, StopRule
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.sampling import Sampler
from fim_model.network.choice import fast_network
from fim_model.network.config import ModelConfig
from fim_model.network.contract import Network
from rich.table import Table

from fim_server.bench.forward import random_model, tensor_dtype
from fim_server.bench.kernels import device_name
from fim_server.bench.machine import Machine, machine_description

TYPED = 3
"""New prompt tokens in a warm completion."""

NO_END = -1
"""End-of-middle id that matches no token: only the token limit ends the hole."""

TOKENS_PER_STEP = (1, 4, 8)
"""Tokens that diffusion commits per forward, each a row of the table."""

UNREACHABLE_CONFIDENCE = 2.0
"""Above every confidence, so each step commits only the most confident token."""


@dataclass(frozen=True, slots=True)
class CompletionFigures:
    """Medians over `n` holes. `forwards` includes the prefill of a warm completion."""

    setting: str
    cold_ms: float
    warm_ms: float
    forwards: int
    tokens: int
    n: int


@dataclass(frozen=True, slots=True)
class CompletionBenchReport:
    """network: class that ran the forwards. context: prompt length in tokens."""

    device: str
    machine: Machine
    date: str
    shape: str
    dtype: str
    network: str
    context: int
    completions: list[CompletionFigures]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_table(self) -> Table:
        table = Table(
            title=f"{self.shape}, {self.dtype}, on {self.device}: a hole after {self.context} "
            f"tokens, random weights, {self.network}"
        )
        for column in ("mode", "cold ms", "warm ms", "forwards", "tokens", "warm ms a forward"):
            table.add_column(column, justify="left" if column == "mode" else "right")
        for row in self.completions:
            table.add_row(
                row.setting, f"{row.cold_ms:.1f}", f"{row.warm_ms:.1f}", str(row.forwards),
                str(row.tokens), f"{row.warm_ms / row.forwards:.2f}",
            )  # fmt: skip
        return table


def bench_completion(
    config: ModelConfig,
    name: str,
    *,
    context: int,
    tokens: int,
    dtype: str,
    device: torch.device,
    budget_s: float = 1.0,
    progress: Callable[[str], None] = lambda what: None,
) -> CompletionBenchReport:
    """Time every mode on a hole of `tokens` tokens after `context` random tokens.

    Each setting runs for about `budget_s` seconds and fills at least three holes. Raises ValueError
    if the context has no room for the warm completion's new tokens.
    """
    if context <= TYPED:
        raise ValueError(
            f"a context of {context} is too short: a warm completion types {TYPED} tokens of it"
        )
    progress("random weights")
    model = random_model(config, device, tensor_dtype(dtype, device))
    network = fast_network(model, "int8" if dtype == "int8" else "full")
    rng = Random(0)
    prompt = [rng.randrange(2, config.vocab_size) for _ in range(context)]
    scratch = 2 * config.block_size + ModeOptions().width_budget
    cache = PromptCache(network, capacity=context + tokens + scratch)
    figures = []
    for setting, mode, options in settings_of(config):
        progress(setting)
        fill = _Fill(network, cache, prompt, tokens, mode, options)
        figures.append(_measure(fill, setting, budget_s))
    date = datetime.now(UTC).date().isoformat()
    return CompletionBenchReport(
        device_name(device), machine_description(), date, name, dtype,
        type(network).__name__, context, figures,
    )  # fmt: skip


def settings_of(config: ModelConfig) -> list[tuple[str, str, ModeOptions]]:
    """The name, mode and options of each row of the table."""
    found = []
    for mode in MODES if config.mask_token_id is not None else ("ar", "lookup"):
        if mode == "diffusion":
            found += [
                (f"diffusion, {count} a step", mode, ModeOptions(Leftmost(count)))
                for count in TOKENS_PER_STEP
            ]
            # Commits one token per step, but by the rule that a GPU applies without the host.
            found.append(
                (
                    "diffusion, surest",
                    mode,
                    ModeOptions(ConfidenceThreshold(UNREACHABLE_CONFIDENCE)),
                )
            )
        else:
            found.append((mode, mode, ModeOptions()))
    return found


class _Fill:
    """Fills the hole repeatedly, leaving the prompt in the cache."""

    def __init__(
        self,
        network: Network,
        cache: PromptCache,
        prompt: Sequence[int],
        tokens: int,
        mode: str,
        options: ModeOptions,
    ) -> None:
        self._network, self._cache, self._prompt = network, cache, prompt
        self._tokens, self._mode, self._options = tokens, mode, options

    def __call__(self, kept: int) -> tuple[float, DecodingCore]:
        """Fill the hole with `kept` prompt tokens cached; the milliseconds and the core."""
        cache = self._cache
        cache.rewind(kept)
        start = time.perf_counter()
        prefill = cache.prefill(self._prompt)
        core = DecodingCore(
            self._network, cache.kv, StopRule(NO_END, self._tokens), Sampler(), prompt=self._prompt
        )
        core.commit_choice(prefill.logits)
        for _ in MODES[self._mode](core, self._options):
            pass
        ms = (time.perf_counter() - start) * 1e3  # tokens are on the host: the device is done
        cache.rewind(len(self._prompt))
        return ms, core


def _measure(fill: _Fill, setting: str, budget_s: float) -> CompletionFigures:
    """Alternate cold and warm runs, after three of each for compilation, capture and warm-up."""
    warm_start = len(fill._prompt) - TYPED
    for _ in range(3):
        fill(0)
        fill(warm_start)
    cold: list[float] = []
    warm: list[float] = []
    began = time.perf_counter()
    while len(warm) < 3 or (len(warm) < 50 and time.perf_counter() - began < budget_s):
        cold.append(fill(0)[0])
        ms, core = fill(warm_start)
        warm.append(ms)
    return CompletionFigures(
        setting, median(cold), median(warm), core.forwards + 1, len(core.tokens), len(warm)
    )
