"""Signatures and calls as the syntax has them, read with tree-sitter: which parameters a function
has, and which arguments a call gives. Rows count lines of the text that was parsed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fim_server.syntax.occurrences import is_function, last_name, text_of

if TYPE_CHECKING:
    from tree_sitter import Node, Point

Place = tuple[int, int]
"""Row and character."""

_CONSTRUCTORS = ("__init__", "constructor")
_RECEIVERS = ("self", "cls")
_NO_PARAMETERS = ("comment", "line_comment", "block_comment", "self_parameter")
_REST = ("splat", "rest_pattern", "variadic", "spread")
_CLIMB = 4
"""Nodes between a name and the call of it, as in `a.b.name(…)`."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """optional: a call need not give it. keyword_only: a call gives it by its name."""

    name: str
    optional: bool = False
    keyword_only: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """Of a function; its receiver (`self`) is no parameter.

    called: the name that calls have, a constructor's that of its class. owner: the class that it is
    a method of, in the rows `within`. rows `[first, end)`: the signature; last: the function's last
    row.
    """

    name: str
    called: str
    owner: str
    within: range
    parameters: tuple[Parameter, ...]
    first: int
    end: int
    last: int

    @property
    def is_method(self) -> bool:
        return bool(self.owner) and self.called == self.name


@dataclass(frozen=True, slots=True)
class Argument:
    """What a call gives; keyword: by which name, or ""."""

    start: Place
    end: Place
    text: str
    keyword: str = ""


@dataclass(frozen=True, slots=True)
class CallSite:
    """The arguments of a call; open: the place behind its bracket. spreads: some are in a list."""

    open: Place
    arguments: tuple[Argument, ...]
    spreads: bool


@dataclass(frozen=True, slots=True)
class Source:
    """A text's lines (without ends) and its syntax."""

    lines: Sequence[str]
    root: Node

    def signature_at(self, row: int) -> Signature | None:
        """That of the function in whose signature a row is."""
        if not 0 <= row < len(self.lines):
            return None
        end = len(self.lines[row].rstrip())
        node = self._leaf(row, max(end - 1, 0), end)
        while node is not None:
            found = self._signature(node) if is_function(node) else None
            if found is not None and found.first <= row < found.end:
                return found
            node = node.parent
        return None

    def call_of(self, row: int, start: int, end: int) -> CallSite | None:
        """The call of the name at characters `[start, end)` of a row."""
        node = leaf = self._leaf(row, start, end)
        for _ in range(_CLIMB):
            if node is None or leaf is None:
                return None
            given = node.child_by_field_name("arguments")
            if given is not None and given.type in ("arguments", "argument_list"):
                behind = leaf.end_byte <= given.start_byte and leaf.start_byte >= node.start_byte
                is_callee = behind and last_name(_callee(node)) == text_of(leaf)
                return self._call(given) if is_callee else None
            node = node.parent
        return None

    def place(self, point: Point) -> Place:
        line = self.lines[point.row] if point.row < len(self.lines) else ""
        return point.row, len(line.encode("utf-8", "replace")[: point.column].decode("utf-8"))

    def _leaf(self, row: int, start: int, end: int) -> Node | None:
        line = self.lines[row] if row < len(self.lines) else ""
        low, high = (len(line[:at].encode("utf-8", "replace")) for at in (start, end))
        return self.root.descendant_for_point_range((row, low), (row, high))

    def _signature(self, node: Node) -> Signature | None:
        listed = _parameter_list(node)
        name = _function_name(node)
        if listed is None or not name:
            return None
        owner, within = _class_around(node)
        parameters = tuple(_parameters(listed))
        if parameters and owner and parameters[0].name in _RECEIVERS:
            parameters = parameters[1:]
        called = owner if name in _CONSTRUCTORS and owner else name
        first, end, last = node.start_point.row, listed.end_point.row + 1, node.end_point.row
        return Signature(name, called, owner, within, parameters, first, end, last)

    def _call(self, given: Node) -> CallSite:
        found = [one for one in given.named_children if one.type not in _NO_PARAMETERS]
        spreads = any("splat" in one.type or "spread" in one.type for one in found)
        arguments = tuple(
            Argument(
                self.place(one.start_point),
                self.place(one.end_point),
                text_of(one),
                text_of(name) if (name := _keyword(one)) is not None else "",
            )
            for one in found
        )
        row, character = self.place(given.start_point)
        return CallSite((row, character + 1), arguments, spreads)


def _parameter_list(node: Node | None) -> Node | None:
    while node is not None:
        if (listed := node.child_by_field_name("parameters")) is not None:
            return listed
        node = node.child_by_field_name("declarator")
    return None


def _function_name(node: Node) -> str:
    named = node.child_by_field_name("name") or node.child_by_field_name("declarator")
    parent = node.parent
    if named is None and parent is not None and parent.type == "variable_declarator":
        named = parent.child_by_field_name("name")
    return last_name(named)


def _class_around(node: Node) -> tuple[str, range]:
    """The class that a function is directly a method of, and its rows; "" for none."""
    outer = node.parent
    while outer is not None and not is_function(outer):
        if outer.type.startswith(("class", "impl", "struct", "interface")):
            name = outer.child_by_field_name("name") or outer.child_by_field_name("type")
            if name is not None:
                return last_name(name), range(outer.start_point.row, outer.end_point.row + 1)
        outer = outer.parent
    return "", range(0)


def _parameters(listed: Node) -> Iterator[Parameter]:
    keyword_only = False
    for node in listed.named_children:
        kinds = {node.type, *(one.type for one in node.named_children)}
        takes_rest = any(part in kind for kind in kinds for part in _REST)
        if node.type in _NO_PARAMETERS or node.type == "positional_separator":
            continue
        if node.type == "keyword_separator":
            keyword_only = True
            continue
        optional = (
            takes_rest
            or any(part in node.type for part in ("default", "optional", "assignment_pattern"))
            or node.child_by_field_name("value") is not None
        )
        for name in node.children_by_field_name("name") or [node]:
            yield Parameter(_parameter_name(name), optional, keyword_only)
        keyword_only = keyword_only or takes_rest


def _parameter_name(node: Node | None) -> str:
    """ "" for one that takes its value apart."""
    while node is not None:
        if "identifier" in node.type and "type" not in node.type:
            return text_of(node)
        inner = next(
            (
                one
                for field in ("pattern", "left", "declarator")
                if (one := node.child_by_field_name(field)) is not None
            ),
            None,
        )
        is_wrapper = node.type.endswith(("typed_parameter", "splat_pattern", "rest_pattern"))
        if inner is None and is_wrapper:
            inner = next(iter(node.named_children), None)
        node = inner
    return ""


def _callee(call: Node) -> Node | None:
    fields = ("function", "name", "constructor", "type")
    found = (call.child_by_field_name(field) for field in fields)
    return next((one for one in found if one is not None), None)


def _keyword(argument: Node) -> Node | None:
    is_named = argument.type == "keyword_argument"
    return argument.child_by_field_name("name") if is_named else None
