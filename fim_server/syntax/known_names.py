"""Names in a text that stand nowhere else: not in the document, nor in its neighbours, and neither
built into the language."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from fim_server.syntax.languages import Language
from fim_server.syntax.occurrences import Occurrence, Role, occurrences

if TYPE_CHECKING:
    from tree_sitter import Node

_NAME = re.compile(r"(?<!\w)[^\W\d]\w*")
_WORD = re.compile(r"\w")
_IMPORTS = ("import", "use_declaration", "using_declaration", "preproc_include", "package")

_SCRIPT = """
    Array ArrayBuffer BigInt Boolean Buffer DataView Date Error Function Infinity Intl JSON Map Math
    NaN Number Object Promise Proxy RangeError Reflect RegExp Set String Symbol SyntaxError
    TypeError URL URLSearchParams Uint8Array WeakMap WeakRef WeakSet arguments clearInterval
    clearTimeout console decodeURIComponent document encodeURIComponent exports fetch global
    globalThis isNaN module navigator parseFloat parseInt process queueMicrotask require
    setImmediate setInterval setTimeout structuredClone undefined window
    assign bind call catch charAt charCodeAt concat constructor create defineProperty entries error
    every filter find findIndex finally flat flatMap forEach freeze from fromEntries get has
    hasOwnProperty includes indexOf isArray join keys length log map match message name next now of
    parse pop prototype push race reduce reject replace resolve reverse set shift size slice some
    sort splice split startsWith endsWith stringify substring test then toLowerCase toString
    toUpperCase trim unshift value valueOf values warn
    abs ceil floor max min pow random round sqrt
"""
_TYPES = """
    Awaited Exclude Extract InstanceType Iterable Iterator NonNullable Omit Parameters Partial Pick
    PromiseLike Readonly ReadonlyArray Record Required ReturnType any bigint boolean never null
    number object string symbol unknown void
"""
_C = """
    EOF FILE INT_MAX NULL abort assert bool calloc errno exit false fprintf free int16_t int32_t
    int64_t int8_t intptr_t malloc memcmp memcpy memmove memset printf ptrdiff_t realloc size_t
    snprintf ssize_t stderr stdin stdout strcmp strcpy strlen strncmp true uint16_t uint32_t
    uint64_t uint8_t uintptr_t
"""
_CPP = """
    back begin cbegin cend cerr clear cout data empty emplace emplace_back end endl erase find first
    front function get insert make_pair make_shared make_unique map move nullptr optional pair
    push_back reserve second shared_ptr size std string string_view swap unique_ptr unordered_map
    vector
"""
_PYTHON_METHODS = """
    append clear copy count decode difference discard encode endswith extend find format get group
    index insert intersection isdigit items join keys lower lstrip match partition pop popitem read
    readline remove replace reverse rfind rpartition rsplit rstrip self setdefault sort split
    splitlines startswith strip sub title union update upper values write
"""
_OF_PACKAGE: Mapping[str, str] = {
    "tree_sitter_python": " ".join([*dir(builtins), _PYTHON_METHODS]),
    "tree_sitter_javascript": _SCRIPT,
    "tree_sitter_typescript": _SCRIPT + _TYPES,
    "tree_sitter_c": _C,
    "tree_sitter_cpp": _C + _CPP,
    "tree_sitter_go": """
        any append bool byte cap close complex128 complex64 copy delete error false float32 float64
        int int16 int32 int64 int8 iota len make max min new nil panic print println recover rune
        string true uint uint16 uint32 uint64 uint8 uintptr Error String
    """,
    "tree_sitter_rust": """
        Box Clone Copy Debug Default Drop Eq Err Fn FnMut FnOnce From Hash Into Iterator None Ok
        Option Ord PartialEq PartialOrd Rc Result Self Send Some String Sync ToString Vec as_ref
        as_str bool char clone collect default f32 f64 filter from get i16 i32 i64 i8 insert into
        is_empty iter len map new next push self str to_owned to_string u16 u32 u64 u8 unwrap
        unwrap_or usize isize
    """,
    "tree_sitter_java": """
        ArrayList Boolean Character Class Double Exception HashMap IllegalArgumentException
        IllegalStateException Integer Iterable Iterator List Long Map Math NullPointerException
        Object Override Runnable RuntimeException Set String StringBuilder System Thread Throwable
        Void add append contains equals err get hashCode isEmpty length of out print println put
        remove size toString valueOf
    """,
}


@dataclass(frozen=True, slots=True)
class Unknown:
    """Names that stand nowhere else: those of variables, functions and types, and those of
    attributes and keyword arguments."""

    names: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str]:
        return iter((*self.names, *self.attributes))


@lru_cache(maxsize=16)
def built_in(package: str) -> frozenset[str]:
    """Names that a language has everywhere, by its grammar's package: globals, common methods."""
    return frozenset(_OF_PACKAGE.get(package, "").split())


def new_names(before: str, text: str, after: str, others: Sequence[str]) -> Iterator[str]:
    """The names that `text`, between `before` and `after`, makes or completes, if they stand
    nowhere in these and in no other text."""
    head, tail = _trailing_word(before), _leading_word(after)
    whole = head + text + tail
    seen: set[str] = set()
    for match in _NAME.finditer(whole):
        name = match.group()
        if match.end() <= len(head) or match.start() >= len(whole) - len(tail) or name in seen:
            continue
        seen.add(name)
        sides = before[: len(before) - len(head)], after[len(tail) :]
        if not any(stands_in(name, place) for place in (*sides, *others)):
            yield name


def unknown(
    names: Sequence[str], root: Node, completed: str, span: tuple[int, int], language: Language
) -> Unknown:
    """Which of the names, found in characters `span` of a completed document, are used there and
    neither bound there nor built in. `root` is its syntax tree."""
    lines = completed.split("\n")
    first = completed.count("\n", 0, span[0])
    rows = range(first, completed.count("\n", 0, span[1]) + 1)
    known = built_in(language.package)
    plain, attributes = [], []
    for name in names:
        if name in known:
            continue
        places = [each for each in occurrences(name, lines, root, language) if each.line in rows]
        if any(each.binds or each.defines or each.parameter for each in places):
            continue
        roles = {each.role for each in places if not _is_imported_from(each, lines, root)}
        if Role.NAME in roles:
            plain.append(name)
        elif Role.ATTRIBUTE in roles or Role.KEYWORD in roles:
            attributes.append(name)
    return Unknown(tuple(plain), tuple(attributes))


def _is_imported_from(place: Occurrence, lines: Sequence[str], root: Node) -> bool:
    """Whether a name is part of an import: a module's name need not stand anywhere else."""
    line = lines[place.line]
    start, end = (len(line[:at].encode("utf-8", "replace")) for at in (place.start, place.end))
    node = root.descendant_for_point_range((place.line, start), (place.line, end))
    while node is not None:
        if node.type.startswith(_IMPORTS):
            return True
        node = node.parent
    return False


def stands_in(name: str, text: str) -> bool:
    """Whether a name stands in a text as a whole word."""
    at = text.find(name)
    while at >= 0:
        end = at + len(name)
        if not _WORD.match(text[at - 1 : at] or " ") and not _WORD.match(text[end : end + 1]):
            return True
        at = text.find(name, end)
    return False


def _trailing_word(text: str) -> str:
    start = len(text)
    while start > 0 and _WORD.match(text[start - 1]):
        start -= 1
    return text[start:]


def _leading_word(text: str) -> str:
    end = 0
    while end < len(text) and _WORD.match(text[end]):
        end += 1
    return text[:end]
