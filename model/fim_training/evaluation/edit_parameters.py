"""Edit sessions about signatures, made from real code by Python's own syntax: a parameter is added,
removed or renamed in a definition, and its calls and body follow.

Only changes with one right outcome are drawn: an added parameter is one for which every call passes
its name, `x` or `self.x`; calls are those of a module's function, or by `self` of a method.
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
"""A line, counted from 0, and its characters `[start, end)`."""

Edit = tuple[Span, str]
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class ParameterCase:
    """A file's lines before the edit, after the edit of the definition in line `at`, and when calls
    and body are done, too."""

    before: Sequence[str]
    now: Sequence[str]
    done: Sequence[str]
    at: int


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The parameter with index `at` of a function whose calls are all known."""

    lines: list[str]
    function: _Function
    calls: Sequence[ast.Call]
    at: int
    parameter: ast.arg

    def signature(self) -> Span | None:
        """The parameter with its comma; None if that spans several lines."""
        return _with_comma(_spans(self.function.args.args), self.at)

    def given(self) -> list[tuple[Span | None, str]]:
        """What each call passes for the parameter; see `_given`."""
        at = self.at - _has_self(self.function)
        return [_given(call, at, self.parameter.arg) for call in self.calls]


def draw_parameter(text: str, rng: Random) -> ParameterCase | None:
    """A random case made from a text; None if what was drawn makes none."""
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
    """The functions of a text that have calls. Cached: many cases are drawn from one text until one
    fits."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return ()
    if not text.isascii():
        return ()
    return tuple((function, calls) for function, calls in _functions(tree) if calls)


def _added(chosen: _Chosen, rng: Random) -> ParameterCase | None:
    """A case whose outcome is the file as it is: without the parameter before the edit, with it in
    the definition alone after it."""
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
    if any(isinstance(node, inner) for node in ast.walk(function) if node is not function):
        return None
    if len(name) < 3 or _is_documented(function, name):
        return None
    new = REPEATED[0][2](name, lines, rng, PYTHON)
    if not new.isidentifier() or re.search(rf"\b{new}\b", "\n".join(lines)):
        return None
    keywords = [word for call in chosen.calls for word in call.keywords if word.arg == name]
    nodes = ast.walk(function)
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == name]
    spans = [_name_at(word.lineno, word.col_offset, name) for word in keywords]
    spans += [_name_at(use.lineno, use.col_offset, name) for use in uses]
    own = _name_at(parameter.lineno, parameter.col_offset, name)
    now = _edited(lines, [(own, new)])
    done = _edited(now, [(span, new) for span in spans if span[0] != own[0]])
    return ParameterCase(lines, now, done, own[0])


def _functions(tree: ast.Module) -> Iterator[tuple[_Function, list[ast.Call]]]:
    """The functions of a module and the methods of its classes whose names are unique, with their
    calls."""
    nodes = list(ast.walk(tree))
    names = [node.name for node in nodes if isinstance(node, _Function | ast.ClassDef)]
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and not _is_read(node)}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    scopes: list[ast.Module | ast.ClassDef] = [tree, *classes]
    for outer in scopes:
        calls = [node for node in ast.walk(outer) if isinstance(node, ast.Call)]
        for function in outer.body:
            if not isinstance(function, _Function) or function.decorator_list:
                continue
            if names.count(function.name) == 1 and function.name not in bound:
                is_call = _calls_self if outer is not tree else _calls_name
                yield function, [call for call in calls if is_call(call, function.name)]


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
    """The parameters that every call must pass, with their indices."""
    listed = function.args
    if listed.posonlyargs or listed.vararg or listed.kwarg:
        return []
    required = listed.args[: len(listed.args) - len(listed.defaults)]
    return [
        (at, parameter)
        for at, parameter in enumerate(required)
        if parameter.arg not in ("self", "cls")
    ]


def _has_self(function: _Function) -> int:
    return int(bool(function.args.args) and function.args.args[0].arg in ("self", "cls"))


def _given(call: ast.Call, at: int, name: str) -> tuple[Span | None, str]:
    """What a call passes for a parameter: the argument with its comma, and its value's text. None
    if it is not passed by a plain argument on one line."""
    if any(isinstance(argument, ast.Starred) for argument in call.args):
        return None, ""
    listed: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
    keywords = enumerate(call.keywords, len(call.args))
    index = next((n for n, keyword in keywords if keyword.arg == name), at)
    if index >= len(listed) or (index < len(call.args)) is (index != at):
        return None, ""
    argument = listed[index]
    value = argument.value if isinstance(argument, ast.keyword) else argument
    return _with_comma(_spans(listed), index), ast.unparse(value)


def _spans(nodes: Sequence[ast.arg | ast.expr | ast.keyword]) -> list[tuple[Span, int]]:
    """The span of each node, and the line in which it ends."""
    return [
        ((node.lineno - 1, node.col_offset, node.end_col_offset or 0), (node.end_lineno or 1) - 1)
        for node in nodes
    ]


def _with_comma(spans: Sequence[tuple[Span, int]], at: int) -> Span | None:
    """The element `at` of a list with its comma; None if that spans several lines."""
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
    """Whether the docstring contains a parameter: whether it must follow cannot be known."""
    docstring = ast.get_docstring(function, clean=False) or ""
    return re.search(rf"\b{re.escape(name)}\b", docstring) is not None


def _edited(lines: Sequence[str], edits: Sequence[Edit]) -> list[str]:
    done = list(lines)
    for (line, start, end), text in sorted(edits, reverse=True):
        done[line] = done[line][:start] + text + done[line][end:]
    return done
