"""The cached tokens of each document, with their keys and values."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from fim_model.decoding.token_tree import TokenTree
from fim_model.errors import Cancelled
from fim_model.network.adapter import Adapter
from fim_model.network.attention_mask import Attention
from fim_model.network.contract import Network, forward_one
from fim_model.network.kv_cache import KVCache

PIECE = 64
"""Tokens of a prompt that one forward reads on a CPU: work is given up between two forwards, and
what an operation leaves for the next one still lies in the processor's caches."""


class PromptCache:
    """A KV cache with its token ids, so that the next prompt computes only what is new."""

    def __init__(self, model: Network, *, capacity: int) -> None:
        self.model = model
        self.kv = KVCache(
            model.config, capacity=capacity, dtype=model.cache_dtype, device=model.device
        )
        self.tokens: list[int] = []

    @torch.inference_mode()
    def prefill(
        self,
        prompt: Sequence[int],
        ahead: TokenTree | Sequence[int] = (),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Prefill:
        """Causal forwards over what the cache does not hold of a non-empty prompt.

        Reused is the longest common prefix with the cached tokens, except for the prompt's last
        token, whose logits are needed. `ahead` are drafts of what follows, read with the prompt's
        last tokens; `kv.keep` keeps those of their tokens that are accepted. Raises ValueError if
        the cache is too small; Cancelled between two forwards, and what was read until then stays.
        """
        reused = min(common_prefix(self.tokens, prompt), len(prompt) - 1)
        self.rewind(reused)
        tree = ahead if isinstance(ahead, TokenTree) else TokenTree.of([ahead])
        self.kv.end(len(prompt) - reused + len(tree))
        # All see the cache, so what only some of the drafts see must be in the last forward.
        chain, branches = [*prompt, *tree.tokens[: tree.trunk]], tree.behind(tree.trunk)
        states, last = list[Tensor](), len(prompt) - 1
        try:
            for end in self._piece_ends(reused, len(chain), len(branches)):
                states.append(self._read(chain[self.kv.length : end], TokenTree(), last))
                self.tokens += prompt[len(self.tokens) : end]
                if should_stop():
                    raise Cancelled
            states.append(self._read(chain[self.kv.length :], branches, last))
            self.tokens += prompt[len(self.tokens) :]
        finally:
            self.kv.crop(len(self.tokens))
        return Prefill(self.model.logits(torch.cat(states)).cpu(), reused, len(prompt) - reused)

    def _piece_ends(self, start: int, end: int, further: int) -> range:
        """Where the forwards before the last one end, in equal steps; the last one has what is left
        and `further` tokens."""
        if self.model.device.type != "cpu":
            return range(0)
        count = end + further - start
        step = -(-count // -(-count // PIECE))
        return range(start + step, end + bool(further), step)

    def _read(self, tokens: Sequence[int], tree: TokenTree, wanted: int) -> Tensor:
        """The hidden states `[n, D]` of tokens and of a tree behind them, from position `wanted`
        on. The tokens stay in the cache."""
        start, device, before = self.kv.length, self.model.device, len(tokens)
        places = [*range(start, start + before), *tree.positions(start + before)]
        pattern = Attention.CAUSAL if tree.is_chain else tree.pattern(before).to(device)
        new, positions = (
            torch.tensor([row], device=device) for row in ([*tokens, *tree.tokens], places)
        )
        hidden = forward_one(self.model, new, positions, pattern, self.kv)
        self.kv.advance(before)
        # The next forward may overwrite them.
        return hidden[0, max(0, wanted - start) :].clone()

    def adapt(self, adapter: Adapter | None) -> None:
        """Read with this adapter from now on: what was read with another one is dropped."""
        if adapter is not self.kv.adapter:
            self.rewind(0)
            self.kv.adapter = adapter

    def rewind(self, length: int) -> None:
        """Keep only the first `length` tokens."""
        self.kv.crop(length)
        self.tokens = self.tokens[:length]


SESSION_BYTES = 512 * 2**20
"""Default budget for the keys and values of all documents."""


PART = "#"
"""Separates a session's name from that of a part of it: a document's second prompt, or a document
among those of one editor."""


class SessionStore:
    """The caches of several documents within a budget; the least recently used one is evicted.

    One cache and those that are `held` always fit, however small the budget. Thread-safe, as long
    as each session's cache is used by one thread at a time. `clock` gives seconds, `adapters` the
    adapter of a name.
    """

    def __init__(
        self,
        make: Callable[[], PromptCache],
        budget_bytes: int = SESSION_BYTES,
        clock: Callable[[], float] = time.monotonic,
        adapters: Callable[[str], Adapter | None] = lambda name: None,
    ) -> None:
        self._make, self._clock, self._adapters = make, clock, adapters
        self.budget_bytes = budget_bytes
        self.evicted = 0
        self._caches: OrderedDict[str, PromptCache] = OrderedDict()
        self._last_used: dict[str, float] = {}
        self._held: Counter[str] = Counter()
        self._unwanted: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def held(self, session: str) -> Iterator[None]:
        """While inside, the session's cache is not evicted, whatever the budget."""
        with self._lock:
            self._held[session] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[session] -= 1
                self._held += Counter()  # drops the zeros
                if session in self._unwanted and not self._held[session]:
                    self._drop(session)
                self._shrink()

    def take(self, session: str, adapter: str = "") -> PromptCache:
        """The session's cache, from now the most recently used, for forwards with the adapter of
        this name ("" is none). That of session "" is empty."""
        found = self.adapter(adapter)
        with self._lock:
            cache = self._caches.pop(session, None) or self._new()
            self._caches[session] = cache
            self._last_used[session] = self._clock()
        if not session:
            cache.rewind(0)
        cache.adapt(found)
        return cache

    def adapter(self, name: str) -> Adapter | None:
        """The adapter of this name, None for "" and for one that is not there."""
        return self._adapters(name) if name else None

    def forget(self, session: str) -> None:
        """Drop the caches of a session and of its parts, held ones as soon as they are released.

        The parts of `a` are the sessions whose names begin with `a#`.
        """
        with self._lock:
            for name in {*self._caches, *self._held}:
                if name == session or name.startswith(session + PART):
                    self._drop(name)

    def forget_unused(self, seconds: float) -> None:
        """Evict the caches of sessions idle for longer than `seconds`."""
        with self._lock:
            before = self._clock() - seconds
            for name in [name for name, used in self._last_used.items() if used < before]:
                if not self._held[name]:
                    self._drop(name)

    def __len__(self) -> int:
        return len(self._caches)

    @property
    def bytes(self) -> int:
        """The memory of all caches."""
        with self._lock:
            return self._bytes()

    def _bytes(self) -> int:
        return sum(cache.kv.nbytes for cache in self._caches.values())

    def _new(self) -> PromptCache:
        """An empty cache: a new one if the budget is enough for one like the largest so far, else
        the buffers of the oldest session."""
        oldest = self._oldest()
        largest = max((cache.kv.nbytes for cache in self._caches.values()), default=0)
        if oldest is None or self._bytes() + largest <= self.budget_bytes:
            return self._make()
        self.evicted += 1
        cache = self._caches.pop(oldest)
        self._last_used.pop(oldest)
        cache.rewind(0)
        return cache

    def _shrink(self) -> None:
        """Evict what exceeds the budget because caches have grown, or were held."""
        while len(self._caches) > 1 and self._bytes() > self.budget_bytes:
            oldest = self._oldest()
            if oldest is None:
                return
            self.evicted += 1
            self._drop(oldest)

    def _drop(self, session: str) -> None:
        if self._held[session]:
            self._unwanted.add(session)
            return
        self._unwanted.discard(session)
        self._caches.pop(session, None)
        self._last_used.pop(session, None)

    def _oldest(self) -> str | None:
        """The least recently used session that is not held."""
        return next((name for name in self._caches if not self._held[name]), None)


@dataclass(frozen=True, slots=True, eq=False)
class Prefill:
    """What the forward over a prompt and drafts of n tokens gave.

    logits: `[1 + n, V]`, of what follows the prompt and each token of the drafts. reused, computed:
    the prompt's tokens that were in the cache, and those that were not. forwards: 0 if none of the
    prompt is read beforehand.
    """

    logits: Tensor
    reused: int
    computed: int
    forwards: int = 1


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the common prefix of two sequences."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
