"""CUDA graphs of the simulated GPU in `stand_in_gpu.py`.

Recording stores the operations and undoes their effects. A replay runs them on the recorded memory:
no Python code in between, no new inputs. Memory that a graph allocated is invalidated after each
run, as when graphs share a pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, UntypedStorage
from torch.utils._pytree import tree_leaves

GARBAGE = 0xFF
"""As a byte: not a number in any float, -1 in any integer."""


@dataclass
class Graph:
    """Replaces `torch.cuda.CUDAGraph`."""

    replays: int = 0
    pool: object = None
    _entries: list[Callable[[], object]] = field(default_factory=list)
    _before: dict[int, tuple[UntypedStorage, UntypedStorage]] = field(default_factory=dict)
    _own: dict[int, UntypedStorage] = field(default_factory=dict)

    def replay(self) -> None:
        self.replays += 1
        for entry in self._entries:
            entry()
        self._spoil()

    @contextmanager
    def recording(self, pool: object = None) -> Iterator[None]:
        """Record operations in the context, and undo their effects at the end."""
        self.pool = pool
        yield
        for storage, old in self._before.values():
            storage.copy_(old)
        self._spoil()

    def before_operation(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Save the contents that an operation will overwrite. Arguments are CPU tensors."""
        for place, argument in enumerate(operation._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[place] if place < len(args) else kwargs.get(argument.name)
                self._remember(value)

    def note_operation(self, operation: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """Record an operation that has run and returned `out`."""
        known = {_address(tensor) for tensor in _tensors((args, kwargs))}
        results = _tensors(out)
        made = {_address(tensor): tensor.untyped_storage() for tensor in results}
        made = {address: storage for address, storage in made.items() if address not in known}
        self._own.update(made)
        if not made and not operation._schema.is_mutable:
            return  # a view shares another tensor's memory

        def again() -> None:
            for old, new in zip(results, _tensors(operation(*args, **kwargs)), strict=True):
                if _address(old) in made:
                    old.copy_(new)

        self._entries.append(again)

    def note_launch(self, launch: Callable[[], object], arguments: Any) -> None:
        """Record a kernel on CPU tensors, any of which it may write."""
        self._remember(arguments)
        self._entries.append(launch)

    def _remember(self, values: Any) -> None:
        for tensor in _tensors(values):
            address, storage = _address(tensor), tensor.untyped_storage()
            if address not in self._own and address not in self._before:
                self._before[address] = storage, storage.clone()

    def _spoil(self) -> None:
        for storage in self._own.values():
            storage.fill_(GARBAGE)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
