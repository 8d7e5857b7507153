"""Edit sessions about signatures, out of real code by Python's own syntax: a parameter came, went
or got another name in a definition, and what calls and body become.

Only what can be known is asked: a parameter that came is one for which every call gives what has
its name, `x` or `self.x`; calls are those of a function of the module or, by `self`, of its class.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from fim_training.examples.grammars import PYTHON
from fim_training.examples.synthetic_edits import REPEATED

Span = tuple[int, int, int]
"""A line from 0, and its characters `[start, end)`."""

Edit = tuple[Span, str]
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class ParameterCase:
    """A file's lines in three states: before the edit, when the definition in line `at` is edited,
    and when all is done."""

    before: Sequence[str]
    now: Sequence[str]
    done: Sequence[str]
    at: int


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A parameter, the one `at` of its function, whose calls are known, in a file's lines."""

    lines: list[str]
    function: _Function
    calls: Sequence[ast.Call]
    at: int
    parameter: ast.arg

    def signature(self) -> Span | None:
        """What goes with the parameter; None where that takes more than a line."""
        return _gone(_spans(self.function.args.args), self.at)

    def given(self) -> list[tuple[Span | None, str]]:
        """What each call gives for it, as `_given` tells."""
        at = self.at - _has_self(self.function)
        return [_given(call, at, self.parameter.arg) for call in self.calls]


def draw_parameter(text: str, rng: Random) -> ParameterCase | None:
    """A case in a text; None where what was drawn gives none."""
    found = _called_functions(text)
    if not found:
        return None
    function, calls = rng.choice(found)
    parameters = _plain_parameters(function)
    if not parameters:
        return None
    at, parameter = rng.choice(parameters)
    draw = rng.choice((_added, _removed, _renamed))
    return draw(_Chosen(text.split("\n"), function, calls, at, parameter), rng)


@lru_cache(maxsize=64)
def _called_functions(text: str) -> tuple[tuple[_Function, list[ast.Call]], ...]:
    """Kept, since many cases are drawn from a file until one fits."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return ()
    return tuple(one for one in _functions(tree) if one[1]) if text.isascii() else ()


def _added(chosen: _Chosen, rng: Random) -> ParameterCase | None:
    """The file as it is, is what is wanted; before, neither definition nor calls had it."""
    lines, name = chosen.lines, chosen.parameter.arg
    signature, given = chosen.signature(), chosen.given()
    same = (name, f"self.{name}")
    if signature is None or any(span is None or text not in same for span, text in given):
        return None
    without = [(span, "") for span, _ in given if span is not None]
    now = _edited(lines, without)
    before = _edited(lines, [*without, (signature, "")])
    return ParameterCase(before, now, lines, signature[0])


def _removed(chosen: _Chosen, rng: Random) -> ParameterCase | None:
    lines, signature = chosen.lines, chosen.signature()
    spans = [span for span, _ in chosen.given() if span is not None]
    if signature is None or len(spans) < len(chosen.calls):
        return None
    if _is_documented(chosen.function, chosen.parameter.arg):
        return None
    now = _edited(lines, [(signature, "")])
    done = _edited(lines, [(signature, ""), *((span, "") for span in spans)])
    return ParameterCase(lines, now, done, signature[0])


def _renamed(chosen: _Chosen, rng: Random) -> ParameterCase | None:
    lines, function, parameter = chosen.lines, chosen.function, chosen.parameter
    name = parameter.arg
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.JoinedStr)
    if any(isinstance(one, inner) for one in ast.walk(function) if one is not function):
        return None
    if len(name) < 3 or _is_documented(function, name):
        return None
    new = REPEATED[0][2](name, lines, rng, PYTHON)
    if not new.isidentifier() or re.search(rf"\b{new}\b", "\n".join(lines)):
        return None
    keywords = [word for call in chosen.calls for word in call.keywords if word.arg == name]
    uses = [one for one in ast.walk(function) if isinstance(one, ast.Name) and one.id == name]
    spans = [_name_at(one.lineno, one.col_offset, name) for one in keywords]
    spans += [_name_at(one.lineno, one.col_offset, name) for one in uses]
    own = _name_at(parameter.lineno, parameter.col_offset, name)
    now = _edited(lines, [(own, new)])
    done = _edited(now, [(span, new) for span in spans if span[0] != own[0]])
    return ParameterCase(lines, now, done, own[0])


def _functions(tree: ast.Module) -> Iterator[tuple[_Function, list[ast.Call]]]:
    """The functions of a module and the methods of its classes that have their names for
    themselves, with the calls of them."""
    names = [one.name for one in ast.walk(tree) if isinstance(one, _Function | ast.ClassDef)]
    bound = {one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and not _is_read(one)}
    classes = [one for one in tree.body if isinstance(one, ast.ClassDef)]
    scopes: list[ast.Module | ast.ClassDef] = [tree, *classes]
    for outer in scopes:
        calls = [one for one in ast.walk(outer) if isinstance(one, ast.Call)]
        for function in outer.body:
            if not isinstance(function, _Function) or function.decorator_list:
                continue
            if names.count(function.name) == 1 and function.name not in bound:
                is_call = _calls_self if outer is not tree else _calls_name
                yield function, [one for one in calls if is_call(one, function.name)]


def _calls_name(call: ast.Call, name: str) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == name


def _calls_self(call: ast.Call, name: str) -> bool:
    target = call.func
    if not isinstance(target, ast.Attribute) or target.attr != name:
        return False
    return isinstance(target.value, ast.Name) and target.value.id == "self"


def _is_read(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Load)


def _plain_parameters(function: _Function) -> list[tuple[int, ast.arg]]:
    """Those that a call must give, with their places."""
    listed = function.args
    if listed.posonlyargs or listed.vararg or listed.kwarg:
        return []
    required = listed.args[: len(listed.args) - len(listed.defaults)]
    return [(at, one) for at, one in enumerate(required) if one.arg not in ("self", "cls")]


def _has_self(function: _Function) -> int:
    return int(bool(function.args.args) and function.args.args[0].arg in ("self", "cls"))


def _given(call: ast.Call, at: int, name: str) -> tuple[Span | None, str]:
    """What a call gives for a parameter: what goes with it, and its text; None if that is not told
    by a plain argument of one line."""
    if any(isinstance(one, ast.Starred) for one in call.args):
        return None, ""
    listed: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
    place = next((n for n, one in enumerate(call.keywords, len(call.args)) if one.arg == name), at)
    if place >= len(listed) or (place < len(call.args)) is (place != at):
        return None, ""
    one = listed[place]
    value = one.value if isinstance(one, ast.keyword) else one
    return _gone(_spans(listed), place), ast.unparse(value)


def _spans(nodes: Sequence[ast.arg | ast.expr | ast.keyword]) -> list[tuple[Span, int]]:
    """Where each stands, and the line in which it ends."""
    return [
        ((one.lineno - 1, one.col_offset, one.end_col_offset or 0), (one.end_lineno or 1) - 1)
        for one in nodes
    ]


def _gone(spans: Sequence[tuple[Span, int]], at: int) -> Span | None:
    """What goes with one of a list: its comma, too. None where that takes more than a line."""
    (line, start, end), last = spans[at]
    if at + 1 < len(spans):
        (other, end, _), _ = spans[at + 1]
        last = max(last, other)
    elif at:
        (_, _, start), other = spans[at - 1]
        line = min(line, other)
    return (line, start, end) if line == last == spans[at][1] == spans[at][0][0] else None


def _name_at(lineno: int, column: int, name: str) -> Span:
    return lineno - 1, column, column + len(name)


def _is_documented(function: _Function, name: str) -> bool:
    """Whether the docstring tells of a parameter: what becomes of that is a matter of taste."""
    docstring = ast.get_docstring(function, clean=False) or ""
    return re.search(rf"\b{re.escape(name)}\b", docstring) is not None


def _edited(lines: Sequence[str], edits: Sequence[Edit]) -> list[str]:
    done = list(lines)
    for (line, start, end), text in sorted(edits, reverse=True):
        done[line] = done[line][:start] + text + done[line][end:]
    return done
