"""The tokens of one document that the model has already read, and their keys and values."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import torch
from torch import Tensor

from fim_model.decoding.token_tree import TokenTree
from fim_model.network.attention_mask import Attention
from fim_model.network.contract import Network
from fim_model.network.kv_cache import KVCache


class PromptCache:
    """A KV cache that knows its tokens, so that the next prompt reads only what is new."""

    def __init__(self, model: Network, *, capacity: int) -> None:
        self.model = model
        self.kv = KVCache(model.config, capacity=capacity, dtype=model.dtype, device=model.device)
        self.tokens: list[int] = []

    @torch.inference_mode()
    def read(self, prompt: Sequence[int], ahead: TokenTree | Sequence[int] = ()) -> Reading:
        """One causal forward over what the cache does not hold of a non-empty prompt.

        Reused is the longest common prefix with what was read before, short of the last token,
        whose logits are wanted. `ahead` is a draft of what follows, or several, read in the same
        forward: the caller says by `kv.keep` which of their tokens stand. Raises ValueError if all
        that does not fit the cache.
        """
        reused = min(common_prefix(self.tokens, prompt), len(prompt) - 1)
        self.rewind(reused)
        tree = ahead if isinstance(ahead, TokenTree) else TokenTree.of([ahead])
        count, device = len(prompt) - reused, self.model.device
        new = torch.tensor([*prompt[reused:], *tree.tokens], device=device)
        places = [*range(reused, len(prompt)), *tree.positions(len(prompt))]
        pattern = Attention.CAUSAL if tree.is_chain else tree.pattern(count).to(device)
        positions = torch.tensor(places, device=device)
        hidden = self.model(new[None], positions[None], pattern, self.kv)
        self.kv.advance(count)
        self.tokens = list(prompt)
        return Reading(self.model.logits(hidden[0, count - 1 :]).cpu(), reused, count)

    def rewind(self, length: int) -> None:
        """Forget everything behind the first `length` tokens."""
        self.kv.crop(length)
        self.tokens = self.tokens[:length]


SESSION_BYTES = 512 * 2**20
"""What the kept keys and values of all documents may take, unless told otherwise."""


PART = "#"
"""What stands between a session's name and that of a part of it: a document's second prompt, or a
document among those of one editor."""


class SessionStore:
    """The caches of several documents within a budget; the one unused for longest makes room.

    However small the budget, one cache fits it, and those that are `held`. May be used by
    several threads, as long as each session's cache is used by one of them at a time. `clock` gives
    seconds.
    """

    def __init__(
        self,
        make: Callable[[], PromptCache],
        budget_bytes: int = SESSION_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make, self._clock = make, clock
        self.budget_bytes = budget_bytes
        self.evicted = 0
        self._caches: OrderedDict[str, PromptCache] = OrderedDict()
        self._last_used: dict[str, float] = {}
        self._held: Counter[str] = Counter()
        self._unwanted: set[str] = set()
        self._lock = threading.Lock()
        self._bytes_each = 0

    @contextmanager
    def held(self, session: str) -> Iterator[None]:
        """While inside, the session's cache makes room for no other, whatever the budget."""
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

    def take(self, session: str) -> PromptCache:
        """The session's cache, now the latest used one. That of session "" is always empty."""
        with self._lock:
            cache = self._caches.pop(session, None) or self._new()
            self._caches[session] = cache
            self._last_used[session] = self._clock()
        if not session:
            cache.rewind(0)
        return cache

    def forget(self, session: str) -> None:
        """Drop the caches of a session and of its parts; one that is held goes when it is let go.

        The parts of `a` are the sessions whose names begin with `a#`. Others are none of them.
        """
        with self._lock:
            for name in {*self._caches, *self._held}:
                if name == session or name.startswith(session + PART):
                    self._drop(name)

    def forget_unused(self, seconds: float) -> None:
        """Drop the caches that nobody took for so long."""
        with self._lock:
            before = self._clock() - seconds
            for name in [one for one, used in self._last_used.items() if used < before]:
                if not self._held[name]:
                    self._drop(name)

    def __len__(self) -> int:
        return len(self._caches)

    @property
    def bytes(self) -> int:
        """What all caches take, used or not."""
        return len(self._caches) * self._bytes_each

    def _new(self) -> PromptCache:
        """An empty cache: a new one while the budget lasts, then the oldest one's buffers."""
        oldest = self._oldest()
        if oldest is not None and self.bytes + self._bytes_each > self.budget_bytes:
            self.evicted += 1
            cache = self._caches.pop(oldest)
            self._last_used.pop(oldest)
            cache.rewind(0)
            return cache
        cache = self._make()
        self._bytes_each = cache.kv.nbytes
        return cache

    def _shrink(self) -> None:
        """Give back what was beyond the budget because of held caches."""
        while len(self._caches) > 1 and self.bytes > self.budget_bytes:
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
        """The session unused for longest of those that nobody holds."""
        return next((name for name in self._caches if not self._held[name]), None)


class Reading:
    """What reading a prompt and drafts of n tokens gave, and the prompt's cost in tokens.

    logits: `[1 + n, V]`, of what follows the prompt and each token of the drafts.
    """

    __slots__ = ("logits", "prefilled", "reused")

    def __init__(self, logits: Tensor, reused: int, prefilled: int) -> None:
        self.logits, self.reused, self.prefilled = logits, reused, prefilled


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences have in common from the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
