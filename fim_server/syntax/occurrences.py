"""Occurrences of a name with their syntactic roles, read with tree-sitter.

The roles distinguish local names from attributes, keyword arguments, words in comments, and locals
of other functions. This is not name resolution: an undecidable occurrence counts as a plain name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from fim_server.syntax.languages import Language

if TYPE_CHECKING:
    from tree_sitter import Node

RECEIVERS = ("self", "this", "cls")
"""Names by which methods refer to their object or class."""

_INTERPOLATES = ("interpolation", "template_substitution")
_MEMBERS = ("field_identifier", "property_identifier", "shorthand_property_identifier")
_ASSIGNS = ("assign", "for", "range", "declaration")
_BOUND = ("pattern", "declarator", "alias")
_GROUPS = ("tuple", "list", "pattern_list", "identifier_list", "expression_list")
_TAKES_NAMES = {"assignment": "left", "augmented_assignment": "left", "call": "function"}
_NAMES_IN_TEXT = re.compile(r"__all__(?:\.\w+)?|(?:typing\.|t\.)?(?:cast|TypeVar|ForwardRef)")
"""What is assigned or called with the names of things as text."""
_LAST_NAME = re.compile(r"([^\W\d]\w*)\W*$")


class Role(StrEnum):
    NAME = "name"
    ATTRIBUTE = "attribute"
    """The name of an object's attribute or key."""
    KEYWORD = "keyword"
    """The name of a keyword argument in a call."""
    TEXT = "text"
    """A word in a string or comment."""
    OTHER = "other"
    """Anything else, such as a keyword of the language or a number."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function: its range of bytes `[start, end)` and its name, "" if anonymous."""

    start: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An occurrence of a name at characters `[start, end)` of a line.

    `binds`: the name gets its value here. `parameter`: it is a parameter of the innermost function.
    `defines`: it names a definition. `quoted`: the string that it stands in names it, as an entry
    of `__all__` or an annotation in quotes. `functions` are the enclosing ones, innermost first.
    `of` is the object of an attribute, or the function called with a keyword argument.
    """

    line: int
    start: int
    end: int
    role: Role = Role.NAME
    binds: bool = False
    parameter: bool = False
    defines: bool = False
    quoted: bool = False
    functions: tuple[Function, ...] = ()
    of: str = ""

    @property
    def function(self) -> Function | None:
        """The innermost enclosing function; None at module level."""
        return self.functions[0] if self.functions else None


def occurrences(
    name: str, lines: Sequence[str], root: Node | None, language: Language | None, first: int = 0
) -> list[Occurrence]:
    """All occurrences of a name in `lines` (without line ends).

    `root` is the syntax tree of the lines, None if unknown: then every occurrence is a plain name.
    `first` is the number of the first line.
    """
    pattern = whole_name(name)
    found = []
    for number, line in enumerate(lines):
        for match in pattern.finditer(line):
            place = Occurrence(number, match.start(), match.end())
            if root is not None and language is not None:
                place = _read(place, line, root, language)
            found.append(replace(place, line=number + first))
    return found


def whole_name(name: str) -> re.Pattern[str]:
    """Finds a name where it is not part of a longer one."""
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")


def is_in_text(
    root: Node, row: int, character: int, lines: Sequence[str], language: Language
) -> bool:
    """Whether a character of a row stands in a string or comment."""
    at = len(lines[row][:character].encode("utf-8", "replace"))
    return _is_in_text(root.descendant_for_point_range((row, at), (row, at)), language)


def _read(place: Occurrence, line: str, root: Node, language: Language) -> Occurrence:
    start, end = (len(line[:at].encode("utf-8", "replace")) for at in (place.start, place.end))
    leaf = root.descendant_for_point_range((place.line, start), (place.line, end))
    if leaf is None:
        return place
    where = place.line, place.start, place.end
    if _is_in_text(leaf, language):
        functions = tuple(_functions(leaf))
        return Occurrence(*where, Role.TEXT, quoted=_is_quoted(leaf), functions=functions)
    parent = leaf.parent
    if parent is None:
        return place
    if "identifier" not in leaf.type:
        return Occurrence(*where, Role.OTHER, functions=tuple(_functions(leaf)))
    if _is_field(leaf, "name") and (parent.type in language.definitions or is_function(parent)):
        outside = tuple(_functions(parent.parent))
        if outside and parent.type.endswith("declarator"):
            return Occurrence(*where, Role.NAME, binds=True, functions=outside)
        in_class = _is_in_class(parent, language)
        role = Role.ATTRIBUTE if in_class and not outside else Role.NAME
        binds = not is_function(parent)
        return Occurrence(*where, role, binds, defines=True, functions=outside)
    functions = tuple(_functions(leaf))
    if parent.type == "keyword_argument" and _is_field(leaf, "name"):
        return Occurrence(*where, Role.KEYWORD, functions=functions, of=_callee(parent))
    if (of := _object(leaf)) is not None:
        return Occurrence(*where, Role.ATTRIBUTE, functions=functions, of=of)
    if _is_imported(leaf):
        return Occurrence(*where, Role.NAME, binds=True, functions=functions)
    binds, parameter = _binding(leaf)
    return Occurrence(*where, Role.NAME, binds, parameter, functions=functions)


def _is_in_text(node: Node | None, language: Language) -> bool:
    while node is not None and node.type not in _INTERPOLATES:
        if node.type in language.texts:
            return True
        node = node.parent
    return False


def _is_quoted(leaf: Node) -> bool:
    """Whether a string of Python is an entry of `__all__`, an annotation or the name of a type."""
    node: Node | None = leaf
    while node is not None and node.type != "block" and not node.type.startswith("comment"):
        field = _TAKES_NAMES.get(node.type)
        taker = None if field is None else node.child_by_field_name(field)
        if node.type == "type" or (taker and _NAMES_IN_TEXT.fullmatch(text_of(taker))):
            return True
        node = node.parent
    return False


def _is_field(node: Node, field: str) -> bool:
    return node.parent is not None and node.parent.child_by_field_name(field) == node


def is_function(node: Node) -> bool:
    kind = node.type
    named = any(part in kind for part in ("function", "method", "constructor", "lambda", "closure"))
    return named and node.child_by_field_name("body") is not None


def _functions(node: Node | None) -> Iterator[Function]:
    while node is not None:
        if is_function(node):
            name = node.child_by_field_name("name") or node.child_by_field_name("declarator")
            yield Function(node.start_byte, node.end_byte, last_name(name))
        node = node.parent


def _is_in_class(node: Node, language: Language) -> bool:
    """Whether a definition is a direct member of a class."""
    outer = node.parent
    while outer is not None and not is_function(outer):
        if outer.type in language.definitions:
            return True
        outer = outer.parent
    return False


def _is_imported(leaf: Node) -> bool:
    """Whether a name is imported here; false for the module it is imported from."""
    node = leaf
    while (parent := node.parent) is not None and not is_function(parent):
        if _is_field(node, "module_name") or _is_field(node, "source"):
            return False
        if parent.type.startswith(("import", "use_declaration", "using_declaration")):
            return True
        node = parent
    return False


def _object(leaf: Node) -> str | None:
    """The object before the dot of an attribute; None if the name is not an attribute."""
    parent = leaf.parent
    if parent is None:
        return None
    is_member = leaf.type in _MEMBERS or any(
        parent.type == kind and _is_field(leaf, field)
        for kind, field in (("attribute", "attribute"), ("field_access", "field"))
    )
    called = parent.type == "method_invocation" and _is_field(leaf, "name")
    if called and parent.child_by_field_name("object") is not None:
        is_member = True
    if not is_member:
        return None
    owner = next(iter(parent.named_children), None)
    return "" if owner is None or owner == leaf else text_of(owner)


def _callee(argument: Node) -> str:
    call = argument.parent.parent if argument.parent is not None else None
    return "" if call is None else last_name(call.child_by_field_name("function"))


def _binding(leaf: Node) -> tuple[bool, bool]:
    """Whether a name is bound where it stands, and whether as a parameter."""
    node = leaf
    while (parent := node.parent) is not None:
        if any(_is_field(node, field) for field in ("value", "type", "default_value", "right")):
            return False, False
        if "parameter" in parent.type:
            return True, True
        if any(node in parent.children_by_field_name(field) for field in _BOUND):
            return True, False
        if node in parent.children_by_field_name("left"):
            return any(part in parent.type for part in _ASSIGNS), False
        is_name = _is_field(node, "name")
        if is_name and parent.type in ("variable_declarator", "named_expression"):
            return True, False
        is_part = parent.type in _GROUPS or parent.type.endswith(("pattern", "pattern_target"))
        if is_name or not is_part:
            return False, False
        node = parent
    return False, False


def last_name(node: Node | None) -> str:
    """The last identifier in a node's text, before any parenthesis; "" if there is none."""
    match = None if node is None else _LAST_NAME.search(text_of(node).partition("(")[0])
    return match[1] if match else ""


def text_of(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")
