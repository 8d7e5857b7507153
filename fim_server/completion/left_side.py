"""Takes from an answer's start what stands left of the cursor already.

Models repeat the line that they are asked to continue, its indentation, or the word at the cursor.
Pure functions of text with `\\n` line ends; `before` is the text left of the cursor.
"""

from __future__ import annotations

import re

from fim_server.completion.trim import is_word
from fim_server.syntax.brackets import unmatched

MAX_LINES_REPEATED = 8
MAX_LINE_CHARS = 1000
"""Characters left of the cursor in which the end of a line is looked for."""
MIN_NAME_CHARS = 3
"""A shorter start of a name may be repeated in good code: `is` in `isisland`."""

_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*(?:(?:\.|::|->|\?\.)\w+)*(?:\.|::|->|\?\.)?\Z")
_QUOTES = re.compile(r"(?:\"\"\"|'''|[\"'`])\Z")
_OPERATORS = re.compile(r"(?<![=!<>:])(?:[-+*/%&|^:]?=|=>|->|[,:])\Z")
_SPACED = re.compile(r"(?<=\s)[-+*/%&|^<>=!?~]{1,3}\Z")
"""An operator with blanks on both sides: it is binary, and stands once."""
_ONCE = re.compile(r"(?:&&|\|\||::|->|\?\.|[$#]\{|<%|<\?|/\*|<!--|(?<=[^\W\d]|[)\]])\.)\Z")
"""Signs that no code has twice in a row; of a dot, see `_RANGES`."""
_RANGES = frozenset(["haskell", "kotlin", "lua", "perl", "php", "ruby", "rust", "swift", "zig"])
"""Languages with an operator of two dots or more."""
_COMPARED = re.compile(r"(?<![\w.])[^\W\d][\w.]*\s*(?:={1,3}|!={1,2}|[<>:]=)\Z")
_CALLED = re.compile(r"[\w.]+\Z")
_BULLET = re.compile(r"(?:[-*+>]|\d+[.)])\Z")
_SIGIL = re.compile(r"(?:[@$<.]|[#@$<.&\\]\w+)\Z")
_FRAGMENT = re.compile(r"(?<!\w)[^\W\d]\w?\Z")
_KEYWORDS = re.compile(
    r"(?<![\w.])(?:(?:abstract|and|as|assert|async|await|by|case|catch|class|const|def|delete|elif|"
    r"else|elsif|enum|except|export|extends|final|for|foreach|from|func|function|if|implements|"
    r"import|in|instanceof|interface|into|is|join|lambda|let|mut|namespace|new|not|of|or|private|"
    r"protected|public|raise|readonly|return|select|static|struct|switch|then|throw|throws|typeof|"
    r"unless|until|using|values|var|virtual|when|where|while|with|yield)[ \t]+)+\Z",
    re.IGNORECASE,
)
_PARAMETERS = re.compile(r"\b(?:def|fn|func|fun|function|sub|proc)\s+[\w.$:]+\s*\(\Z")
_COMMENT_START = re.compile(r"\s*(?:#|//|--|/\*|\*)[/!*]*\s")
_COMMENT_AFTER = re.compile(r"\s(?:#|//|--|/\*)\s")
_IN_COMMENT = re.compile(r"(?:\A|\s)(?:#|//|--|/\*|\*)")
"""In prose a word may be meant twice."""
_COMMENTS = ("#", "//", "///", "//!", "--", "%", ";", ";;", "*", "/*", "/**")
_TWICE = frozenset(["long", "not"])
"""Words that good code repeats."""
_OPENERS = (":", "{", "(", "[", "=>", "->", "then", "do", "begin", "of", "where")


def without_restated(text: str, before: str, language: str = "") -> str:
    """The answer without a start that repeats the text left of the cursor."""
    head, _, line = before.rpartition("\n")
    text = _without_lines(text, head, line)
    if not line.strip():
        return _without_indentation(text, head, line)
    name = _fragment_again(text, line, before)
    return text[len(name) :] if name else _without_line(text, line, language)


def _without_lines(text: str, head: str, line: str) -> str:
    """The text without first lines that repeat those before the cursor's.

    One line alone counts if it opens the cursor's block, or the cursor's own text follows it.
    """
    lines = text.lstrip("\n").split("\n")
    above = head.split("\n")[-MAX_LINES_REPEATED - 1 :]
    while above and not above[-1].strip():
        above.pop()
    for count in range(min(len(above), len(lines) - 1, MAX_LINES_REPEATED), 0, -1):
        repeated = [row.strip() for row in above[-count:]]
        if [row.strip() for row in lines[:count]] != repeated:
            continue
        if not any(map(is_word, "".join(repeated))):
            continue
        again = line.strip() and lines[count].lstrip().startswith(line.strip())
        opens = not line.strip() and (count > 1 or repeated[-1].endswith(_OPENERS))
        if again or opens:
            return "\n".join(lines[count:])
    return text


def _without_indentation(text: str, head: str, line: str) -> str:
    """The text for a cursor in the indentation `line`, without the indentation given again.

    The text's first line may be indented from the cursor, or from the start of the line. It is the
    latter where the former would be deeper than the line above, which opens no block.
    """
    if not line:
        return text
    code = text.lstrip(" \t")
    given = text[: len(text) - len(code)]
    if not given or not code.strip() or code.startswith("\n"):
        return text
    above = next((row for row in reversed(head.split("\n")) if row.strip()), "")
    deepest = _width(above[: len(above) - len(above.lstrip())])
    if above.rstrip().endswith(_OPENERS):
        # A block may be indented from here, unless the cursor is in the block already.
        if _width(line) <= deepest and not (given.startswith(line) and _width(given) > deepest):
            return text
    elif _width(line + given) <= deepest:
        return text
    return given[len(line) :] + code if given.startswith(line) else code


def _without_line(text: str, line: str, language: str) -> str:
    """The text for a cursor after `line`, which is not blank, without what repeats its end."""
    spaced = line[-1:].isspace()
    code = text.lstrip(" \t")
    again = text.lstrip()
    if end := _restated(again, line) or _restated_tail(again, line, language):
        rest = again[end:]
        return rest.lstrip(" \t") if spaced else rest
    line = line[-MAX_LINE_CHARS:]
    gap = spaced or len(code) < len(text)
    if not spaced and code == text and (name := _name_again(line, text)):
        return text[len(name) :]
    if quotes := _quotes_again(line, text, language):
        return text[len(quotes) :]
    if _PARAMETERS.search(line) and text.startswith("("):
        return text[1:]
    operator = _OPERATORS.search(line.rstrip())
    if gap and operator is not None and code.startswith(operator.group()):
        after = code[len(operator.group()) :]
        if after[:1].isspace() or is_word(after[:1]):
            return after.lstrip(" \t") if spaced else after
    if spaced and code != text and not code.startswith(_COMMENTS):
        return code
    return text


def _restated(code: str, line: str) -> int:
    """The length of the text's start that repeats all of the line's code; 0 if none does."""
    core = line.strip()
    spaced = line != line.rstrip()
    end = _end_of(core, code)
    rest = code[end:]
    if end == 0:
        return 0
    if core == "#" and not spaced and is_word(rest[:1]):
        return end
    if core in _COMMENTS or _BULLET.match(core):
        return end if rest.startswith(" ") and spaced else 0
    if spaced and is_word(core[-1]) and is_word(rest[:1]):
        return 0
    if _SIGIL.match(core):
        return end if is_word(core[-1]) or is_word(rest[:1]) else 0
    words = re.findall(r"[^\W\d]\w*", core)
    if words == [core]:
        return end if spaced and core not in _TWICE else 0
    if not words and core[-1:] in "\"'`":
        return end if code != core and rest.find(core) > 0 else 0
    return end if words and (len(words) > 1 or any(sign in core for sign in "=(:")) else 0


def _restated_tail(code: str, line: str, language: str) -> int:
    """The length of the text's start that repeats what the line ends with; 0 if none does.

    That is a comment's text, keywords, the left side of a comparison, a call with its first
    arguments, an operator, or a sign such as `::`.
    """
    line = line[-MAX_LINE_CHARS:]
    stripped, spaced = line.rstrip(), line[-1:].isspace()
    if comment := _COMMENT_START.match(line):
        text = line[comment.end() :].strip()
        several = len(re.findall(r"\w+", text)) > 1 or text.endswith(":")
        return _end_of(text, code) if several else 0
    if (keywords := _KEYWORDS.search(line)) and not _COMMENT_AFTER.search(line):
        words = keywords.group().split()
        for start in range(len(words)):
            end = _end_of(" ".join(words[start:]), code)
            if end and not is_word(code[end : end + 1]):
                return end if start or words != ["not"] else 0
    tails = [match.group() for match in [_COMPARED.search(stripped)] if match]
    calls = [mark.at for mark in unmatched(line, language) if mark.character == "("]
    if calls and stripped.endswith(",") and (name := _CALLED.search(line[: calls[-1]])):
        tails.append(line[name.start() :])
    for tail in tails:
        if end := _end_of(tail, code):
            return end
    if spaced and (sign := _SPACED.search(stripped)):
        end = _end_of(sign.group(), code)
        if code[end : end + 1] == " ":
            return end
    if sign := _ONCE.search(stripped):
        return 0 if sign.group() == "." and language in _RANGES else _end_of(sign.group(), code)
    return 0


def _end_of(core: str, code: str) -> int:
    """The index after `core` at the start of `code`, with other blanks or none; 0 if not there."""
    at = 0
    for character in core:
        if character.isspace():
            continue
        while code[at : at + 1].isspace() and code[at] != "\n":
            at += 1
        if code[at : at + 1] != character:
            return 0
        at += 1
    return at


def _name_again(line: str, text: str) -> str:
    """The name, or start of a name, at the cursor if the text begins with it again; else ""."""
    if _IN_COMMENT.search(line):
        return ""
    found = _NAME.search(line)
    if found is None:
        return ""
    name = found.group()
    complete = not is_word(name[-1])
    for again in (name,) if complete else (name, re.split(r"\W+", name)[-1]):
        follows = text[len(again) : len(again) + 1]
        if text.startswith(again) and len(again) >= MIN_NAME_CHARS - complete:
            return again if not complete or is_word(follows) else ""
    return ""


def _fragment_again(text: str, line: str, before: str) -> str:
    """One or two letters at the cursor that the text begins with again; else "".

    They are no more than letters unless the text's first name stands in the file, and is no
    continuation of one that does.
    """
    fragment = None if _IN_COMMENT.search(line) else _FRAGMENT.search(line)
    name = re.match(r"\w{3,}", text)
    if fragment is None or name is None or not text.startswith(fragment.group()):
        return ""
    known = re.search(rf"\b{re.escape(name.group())}\b", before[: -len(fragment.group())])
    longer = f"{fragment.group()}{name.group()}"
    return fragment.group() if known and not re.search(rf"\b{re.escape(longer)}\b", before) else ""


def _quotes_again(line: str, text: str, language: str) -> str:
    """The quotes that open a string at the cursor if the text opens it again; else ""."""
    found = _QUOTES.search(line)
    quotes = found.group() if found else ""
    if not quotes or not text.startswith(quotes) or text[len(quotes) :].find(quotes) < 1:
        return ""
    alone = unmatched(line, language)
    opens = bool(alone) and alone[-1].at == len(line) - len(quotes)
    return quotes if opens else ""


def _width(indentation: str) -> int:
    return len(indentation.expandtabs(4))
