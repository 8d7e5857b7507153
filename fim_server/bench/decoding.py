"""`fim-server bench completion`: a whole hole in every mode, cold and warm, on random weights.

What decoding costs beside its forwards shows here: the same core and network as in the server, over
a random prompt. Random weights accept next to no draft, so the speculative modes show their worst
case, and diffusion's tokens a step are set, not earned. Cold reads the whole prompt; warm finds all
of it but the last few tokens in the cache, as after a keystroke.
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
"""Tokens of the prompt that are new in a warm completion."""

NO_END = -1
"""An id that no token has: the hole ends by its length alone."""

TOKENS_A_STEP = (1, 4, 8)
"""What diffusion commits in a forward, as separate rows."""

NEVER_SURE = 2.0
"""A confidence that no token has, so that a step commits the most confident one alone."""


@dataclass(frozen=True, slots=True)
class CompletionFigures:
    """Medians of `n` holes; forwards count a warm one's prefill."""

    setting: str
    cold_ms: float
    warm_ms: float
    forwards: int
    tokens: int
    n: int


@dataclass(frozen=True, slots=True)
class CompletionBenchReport:
    """network: what ran the forwards. context: tokens of the prompt."""

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
            title=f"{self.shape}, {self.dtype}, on {self.device}: a hole behind {self.context} "
            f"tokens, random weights, {self.network}"
        )
        for column in ("mode", "cold ms", "warm ms", "forwards", "tokens", "warm ms a forward"):
            table.add_column(column, justify="left" if column == "mode" else "right")
        for one in self.completions:
            table.add_row(
                one.setting, f"{one.cold_ms:.1f}", f"{one.warm_ms:.1f}", str(one.forwards),
                str(one.tokens), f"{one.warm_ms / one.forwards:.2f}",
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
    """Every mode fills a hole of `tokens` behind `context` random tokens.

    Each setting gets about `budget_s` seconds, but three holes at least. Raises ValueError for a
    context that is too short to be warm.
    """
    if context <= TYPED:
        raise ValueError(f"a context of {context} is too short: {TYPED} tokens of it are typed")
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
    """Name, mode and options of each row."""
    found = []
    for mode in MODES if config.mask_token_id is not None else ("ar", "lookup"):
        if mode == "diffusion":
            found += [
                (f"diffusion, {count} a step", mode, ModeOptions(Leftmost(count)))
                for count in TOKENS_A_STEP
            ]
            # The same work as one a step, by the rule that a GPU takes without the host.
            found.append(("diffusion, surest", mode, ModeOptions(ConfidenceThreshold(NEVER_SURE))))
        else:
            found.append((mode, mode, ModeOptions()))
    return found


class _Fill:
    """Fills the hole, and leaves the prompt in the cache."""

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
        """Milliseconds with `kept` tokens of the prompt in the cache, and what was decoded."""
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
        ms = (time.perf_counter() - start) * 1e3  # the tokens are on the host: all work is done
        cache.rewind(len(self._prompt))
        return ms, core


def _measure(fill: _Fill, setting: str, budget_s: float) -> CompletionFigures:
    """Cold and warm in turns, after three of each that compile, record and warm up."""
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
