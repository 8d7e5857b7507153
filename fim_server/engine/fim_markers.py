"""FIM markers in a prompt: clients that know a model's format write it out themselves.

Such a prompt becomes a hole again, which is asked for in the format of the model that is loaded.
The formats are those of `backends/templates.py`, and what llama.cpp, Continue, Twinny and Zed
send: with a space around Code Llama's markers, with files before the hole, in either order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fim_model.requests import Snippet


@dataclass(frozen=True, slots=True)
class Hole:
    """The text around a hole, the file's path, and pieces of other files."""

    prefix: str
    suffix: str
    path: str = ""
    snippets: Sequence[Snippet] = ()


@dataclass(frozen=True, slots=True)
class _Markers:
    """Texts before prefix, suffix and middle; `middle` is "" where nothing follows the prefix.

    spaced: whether one space beside a marker belongs to it.
    """

    prefix: str
    suffix: str
    middle: str
    spaced: bool = False


_FORMATS = (
    _Markers("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    _Markers("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    _Markers("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    _Markers("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    _Markers("<|fim▁begin|>", "<|fim▁hole|>", "<|fim▁end|>"),
    _Markers("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    _Markers("[PREFIX]", "[SUFFIX]", "[MIDDLE]"),
    _Markers("[PREFIX]", "[SUFFIX]", ""),
    _Markers("<|fim_prefix|>", "<|fim_suffix|>", ""),
    _Markers("<PRE>", "<SUF>", "<MID>", spaced=True),
)
"""Qwen, StarCoder, SantaCoder, DeepSeek (and as it is often typed), GLM, Codestral, this project's
joined layout (suffix first, nothing after the prefix), Code Llama."""

_FILE = re.compile(r"<\|file_sep\|>|<file_sep>|<\|file_separator\|>|<\|file\|>|<filename>")
_REPOSITORY = re.compile(r"^(?:<\|repo_name\|>|<repo_name>|<reponame>)[^\n<]*\n?")
_CODESTRAL_FILE = re.compile(r"^\+\+\+\+\+ (.*)$", re.M)
_BEGINS = ("<s>", "<|endoftext|>", "<｜begin▁of▁sentence｜>", "<|begin_of_text|>")


def marked_hole(prompt: str) -> Hole | None:
    """The hole that a prompt asks for with a model's markers, None for a plain prompt."""
    for markers in _FORMATS:
        if hole := _parsed(prompt, markers):
            return hole
    return None


def _parsed(prompt: str, markers: _Markers) -> Hole | None:
    middle = prompt.rfind(markers.middle) if markers.middle else len(prompt)
    first, second = prompt.find(markers.prefix), prompt.find(markers.suffix)
    if min(first, second, middle) < 0 or max(first, second) > middle:
        return None
    suffix_first = second < first
    if suffix_first:
        # What the user's text spells is less likely to be at the outer ends.
        first = prompt.rfind(markers.prefix, 0, middle)
        before = prompt[:second]
        suffix = prompt[second + len(markers.suffix) : first]
        prefix = prompt[first + len(markers.prefix) : middle]
    elif not markers.middle:
        return None
    else:
        second = prompt.rfind(markers.suffix, 0, middle)
        before = prompt[:first]
        prefix = prompt[first + len(markers.prefix) : second]
        suffix = prompt[second + len(markers.suffix) : middle]
    after = prompt[middle + len(markers.middle) :]
    if markers.spaced:
        prefix = prefix.removeprefix(" ").removesuffix(" ")
        suffix, after = suffix.removesuffix(" "), after.removeprefix(" ")
    if after and prefix.strip():
        return None  # text after the middle marker: the hole is begun, or this is no FIM prompt
    return _with_files(Hole(prefix + after, suffix), before)


def _with_files(hole: Hole, before: str) -> Hole:
    """The hole with the files that stand before its markers."""
    for begin in _BEGINS:
        before = before.removeprefix(begin)
    before = _REPOSITORY.sub("", before)
    pieces = _FILE.split(before)
    snippets = [Snippet("", pieces[0].strip("\n"))] if pieces[0].strip() else []
    for piece in pieces[1:]:
        path, _, text = piece.partition("\n")
        snippets.append(Snippet(path.strip(), text.strip("\n")))
    path = ""
    if pieces[1:] and not snippets[-1].text:
        path = snippets.pop().path
    snippets = [snippet for snippet in snippets if snippet.text]
    return _without_codestral_files(replace(hole, path=path, snippets=tuple(snippets)))


def _without_codestral_files(hole: Hole) -> Hole:
    """Continue shows Codestral other files before the prefix, each after `+++++ path`."""
    names = list(_CODESTRAL_FILE.finditer(hole.prefix))
    if not names or names[0].start():
        return hole
    ends = [*(name.start() for name in names[1:]), len(hole.prefix)]
    texts = [hole.prefix[name.end() + 1 : end] for name, end in zip(names, ends, strict=True)]
    snippets = tuple(
        Snippet(name[1], text.strip("\n")) for name, text in zip(names, texts[:-1], strict=False)
    )
    return Hole(texts[-1], hole.suffix, names[-1][1], (*hole.snippets, *snippets))
