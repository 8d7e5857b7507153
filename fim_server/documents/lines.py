"""A document's lines as a persistent sequence: a changed copy shares all that did not change.

The lines are the leaves of a tree whose nodes have at most `WIDTH` parts. Replacing some lines
copies the nodes on the path to them, so it costs O(WIDTH log n), whatever the length of the
document; and what differs between two versions is found by skipping the nodes that they share.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice, pairwise
from typing import Any, overload

WIDTH = 128
"""Most parts of a node."""

_MIN_WIDTH = WIDTH // 4
"""Nodes with fewer parts are joined with a neighbour."""

Range = tuple[int, int, int, int]
"""Lines `[first, end)` of one sequence in place of lines `[first, end)` of another."""


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """Lines (`height` 0), or nodes of the next lower height.

    ends: for each part, the number of lines up to its end; empty for lines.
    """

    parts: tuple[Any, ...]
    height: int
    ends: tuple[int, ...]
    characters: int

    @classmethod
    def of(cls, parts: tuple[Any, ...], height: int) -> _Node:
        if not height:
            return cls(parts, 0, (), sum(map(len, parts)))
        ends = tuple(accumulate(part.size for part in parts))
        return cls(parts, height, ends, sum(part.characters for part in parts))

    @property
    def size(self) -> int:
        """The number of lines."""
        return self.ends[-1] if self.height else len(self.parts)

    def start(self, at: int) -> int:
        """The number of lines before a part of a branch."""
        return self.ends[at - 1] if at else 0


class Lines(Sequence[str]):
    """Immutable lines, with their line ends; slices are lists."""

    __slots__ = ("_root",)

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._root = _rooted(_grouped(tuple(lines), 0))

    @classmethod
    def of(cls, lines: Sequence[str]) -> Lines:
        """The same lines; copied unless they are Lines already."""
        return lines if isinstance(lines, Lines) else cls(lines)

    @property
    def characters(self) -> int:
        """The number of characters of all lines, known without reading them."""
        return self._root.characters

    def __len__(self) -> int:
        return self._root.size

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            first, end, step = at.indices(len(self))
            if step != 1:
                return [self[index] for index in range(first, end, step)]
            return list(islice(self.downward(first), max(end - first, 0)))
        index = at + len(self) if at < 0 else at
        if not 0 <= index < len(self):
            raise IndexError(f"line {at} of {len(self)}")
        node = self._root
        while node.height:
            part = bisect_right(node.ends, index)
            index -= node.start(part)
            node = node.parts[part]
        line: str = node.parts[index]
        return line

    def __iter__(self) -> Iterator[str]:
        return self.downward(0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Lines):
            return NotImplemented
        return len(self) == len(other) and not changed_ranges(self, other)

    __hash__ = None  # type: ignore[assignment]

    def downward(self, first: int) -> Iterator[str]:
        """The lines from number `first` on."""
        return chain.from_iterable(_leaves(self._root, first))

    def upward(self, end: int) -> Iterator[str]:
        """The lines above line `end`, the nearest first."""
        return chain.from_iterable(_leaves_upward(self._root, min(end, len(self))))

    def spliced(self, first: int, end: int, new: Sequence[str]) -> Lines:
        """A copy with lines `[first, end)` replaced by `new`."""
        changed = Lines.__new__(Lines)
        changed._root = _rooted(_spliced(self._root, first, end, tuple(new)))
        return changed


def downward(lines: Sequence[str], first: int) -> Iterator[str]:
    """The lines from number `first` on; only those that are taken are read."""
    if isinstance(lines, Lines):
        return lines.downward(first)
    return (lines[at] for at in range(first, len(lines)))


def upward(lines: Sequence[str], end: int) -> Iterator[str]:
    """The lines above line `end`, the nearest first; only those that are taken are read."""
    if isinstance(lines, Lines):
        return lines.upward(end)
    return (lines[at] for at in range(end - 1, -1, -1))


def changed_ranges(before: Sequence[str], after: Sequence[str]) -> list[Range]:
    """What differs between two versions of a document, from the top down: ranges that begin and end
    with different lines, as far as the versions share their storage. In between all lines are
    equal."""
    if not isinstance(before, Lines) or not isinstance(after, Lines):
        before, after = Lines.of(before), Lines.of(after)
    found: list[Range] = []
    for first, end, new_first, new_end in _unshared([before._root], [after._root], 0, 0):
        head, tail = common_ends(before[first:end], after[new_first:new_end])
        trimmed = (first + head, end - tail, new_first + head, new_end - tail)
        if trimmed[0] < trimmed[1] or trimmed[2] < trimmed[3]:
            found.append(trimmed)
    return found


def common_ends(before: Sequence[Any], after: Sequence[Any]) -> tuple[int, int]:
    """The length of the common beginning, and of the common end of what follows it."""
    shorter = min(len(before), len(after))
    pairs = enumerate(zip(before, after, strict=False))
    head = next((at for at, (old, new) in pairs if old != new), shorter)
    ends = enumerate(zip(reversed(before), reversed(after), strict=False))
    tail = next((at for at, (old, new) in ends if at == shorter - head or old != new), shorter)
    return head, min(tail, shorter - head)


def _rooted(nodes: list[_Node]) -> _Node:
    """One node above nodes of the same height."""
    while len(nodes) > 1:
        nodes = _grouped(tuple(nodes), nodes[0].height + 1)
    root = nodes[0] if nodes else _Node.of((), 0)
    while root.height and len(root.parts) == 1:
        root = root.parts[0]
    return root


def _grouped(parts: tuple[Any, ...], height: int) -> list[_Node]:
    """As few nodes as hold these parts, of about the same width."""
    count = -(-len(parts) // WIDTH)
    borders = [at * len(parts) // count for at in range(count + 1)] if count else []
    return [_Node.of(parts[low:high], height) for low, high in pairwise(borders)]


def _spliced(node: _Node, first: int, end: int, new: tuple[str, ...]) -> list[_Node]:
    """Nodes of the same height with lines `[first, end)` of this one replaced."""
    if not node.height:
        return _grouped((*node.parts[:first], *new, *node.parts[end:]), 0)
    last = len(node.parts) - 1
    low = min(bisect_right(node.ends, first), last)
    high = min(max(bisect_right(node.ends, end), low), last)
    if low == high:
        start = node.start(low)
        changed = _spliced(node.parts[low], first - start, end - start, new)
    else:
        left, right = node.parts[low], node.parts[high]
        changed = [
            *_spliced(left, first - node.start(low), left.size, new),
            *_spliced(right, 0, end - node.start(high), ()),
        ]
    if any(len(part.parts) < _MIN_WIDTH for part in changed):
        # Narrow nodes are joined with what stands beside them, so that the tree stays low.
        above, below = max(low - (high == last), 0), min(high + 1, last)
        beside = [*node.parts[above:low], *changed, *node.parts[high + 1 : below + 1]]
        low, high = above, below
        joined = tuple(chain.from_iterable(part.parts for part in beside))
        changed = _grouped(joined, node.height - 1)
    return _grouped((*node.parts[:low], *changed, *node.parts[high + 1 :]), node.height)


def _leaves(node: _Node, first: int) -> Iterator[tuple[str, ...]]:
    """The lines of a node from its line `first` on, leaf by leaf."""
    if not node.height:
        yield node.parts[first:] if first else node.parts
        return
    low = bisect_right(node.ends, first)
    for at in range(low, len(node.parts)):
        yield from _leaves(node.parts[at], first - node.start(at) if at == low else 0)


def _leaves_upward(node: _Node, end: int) -> Iterator[tuple[str, ...]]:
    """The lines of a node above its line `end`, reversed, leaf by leaf."""
    if not node.height:
        yield node.parts[:end][::-1]
        return
    high = min(bisect_right(node.ends, end), len(node.parts) - 1)
    for at in range(high, -1, -1):
        part = node.parts[at]
        yield from _leaves_upward(part, end - node.start(at) if at == high else part.size)


def _unshared(old: list[_Node], new: list[_Node], at: int, new_at: int) -> Iterator[Range]:
    """The ranges of two runs of nodes, beginning at lines `at` and `new_at`, outside of the nodes
    that both have."""
    places = {id(node): index for index, node in enumerate(new)}
    matched: list[tuple[int, int]] = []
    for index, node in enumerate(old):
        place = places.get(id(node))
        if place is not None and (not matched or place > matched[-1][1]):
            matched.append((index, place))
    low, new_low = 0, 0
    for high, new_high in [*matched, (len(old), len(new))]:
        gap, new_gap = old[low:high], new[new_low:new_high]
        size, new_size = (sum(node.size for node in nodes) for nodes in (gap, new_gap))
        height = max((node.height for node in (*gap, *new_gap)), default=0)
        if height and gap and new_gap:
            yield from _unshared(_opened(gap, height), _opened(new_gap, height), at, new_at)
        elif gap or new_gap:
            yield at, at + size, new_at, new_at + new_size
        if high < len(old):
            size += old[high].size
            new_size += old[high].size
        at, new_at = at + size, new_at + new_size
        low, new_low = high + 1, new_high + 1


def _opened(nodes: list[_Node], height: int) -> list[_Node]:
    """The nodes with those of this height replaced by their parts."""
    opened: list[_Node] = []
    for node in nodes:
        opened.extend(node.parts if node.height == height else (node,))
    return opened
