"""Parameters of functions and arguments of calls, read with tree-sitter.

Rows are line numbers in the parsed text, from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fim_server.syntax.occurrences import is_function, last_name, text_of

if TYPE_CHECKING:
    from tree_sitter import Node, Point

RowColumn = tuple[int, int]
"""Row and character index in that row."""

_CONSTRUCTORS = ("__init__", "constructor")
_RECEIVERS = ("self", "cls")
_NO_PARAMETERS = ("comment", "line_comment", "block_comment", "self_parameter")
_REST = ("splat", "rest_pattern", "variadic", "spread")
_CLIMB = 4
"""Maximum number of nodes between a name and the call of it, as in `a.b.name(…)`."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter; calls may omit an `optional` one and must name a `keyword_only` one."""

    name: str
    optional: bool = False
    keyword_only: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """A function's signature, without the receiver (`self`).

    `called` is the name that calls use: for constructors, the class name. `owner` is the class of a
    method ("" if none), which spans the rows `within`. The signature spans the rows `[first, end)`;
    `last` is the function's last row.
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
    """An argument of a call; `keyword` is its name, "" for positional arguments."""

    start: RowColumn
    end: RowColumn
    text: str
    keyword: str = ""


@dataclass(frozen=True, slots=True)
class CallSite:
    """A call's arguments.

    `open` is the place after the opening bracket; `spreads` is true if it has `*` or `...`.
    """

    open: RowColumn
    arguments: tuple[Argument, ...]
    spreads: bool


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A text's lines (without line ends) and its syntax tree."""

    lines: Sequence[str]
    root: Node

    def signature_at(self, row: int) -> Signature | None:
        """The signature that contains a row; None if there is none."""
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
        """The call whose callee is the name at characters `[start, end)` of a row, or None."""
        node = leaf = self._leaf(row, start, end)
        for _ in range(_CLIMB):
            if node is None or leaf is None:
                return None
            arguments = node.child_by_field_name("arguments")
            if arguments is not None and arguments.type in ("arguments", "argument_list"):
                starts_inside = leaf.start_byte >= node.start_byte
                precedes = starts_inside and leaf.end_byte <= arguments.start_byte
                is_callee = precedes and last_name(_callee(node)) == text_of(leaf)
                return self._call(arguments) if is_callee else None
            node = node.parent
        return None

    def place(self, point: Point) -> RowColumn:
        """A tree-sitter point, which counts bytes, in characters."""
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

    def _call(self, argument_list: Node) -> CallSite:
        nodes = [node for node in argument_list.named_children if node.type not in _NO_PARAMETERS]
        spreads = any("splat" in node.type or "spread" in node.type for node in nodes)
        arguments = tuple(
            Argument(
                self.place(node.start_point),
                self.place(node.end_point),
                text_of(node),
                text_of(name) if (name := _keyword(node)) is not None else "",
            )
            for node in nodes
        )
        row, character = self.place(argument_list.start_point)
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
    """The class of which a function is a direct method, with its rows; "" and no rows if none."""
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
        kinds = {node.type, *(child.type for child in node.named_children)}
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
    """The parameter's name; "" for a destructuring parameter."""
    while node is not None:
        if "identifier" in node.type and "type" not in node.type:
            return text_of(node)
        inner = next(
            (
                child
                for field in ("pattern", "left", "declarator")
                if (child := node.child_by_field_name(field)) is not None
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
    children = (call.child_by_field_name(field) for field in fields)
    return next((child for child in children if child is not None), None)


def _keyword(argument: Node) -> Node | None:
    is_named = argument.type == "keyword_argument"
    return argument.child_by_field_name("name") if is_named else None
