"""What synthetic edits need to know of a language: its keywords and its import statements."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fim_training.corpus.corpus_languages import language_of


@dataclass(frozen=True, slots=True)
class Grammar:
    """imports: patterns of whole lines that import one name, their first group."""

    keywords: frozenset[str]
    imports: tuple[re.Pattern[str], ...] = ()

    def names(self, found: list[str]) -> list[str]:
        """The names without keywords."""
        return [name for name in found if name not in self.keywords]

    def imported(self, line: str) -> str | None:
        """The name that a line imports, None for other lines."""
        for pattern in self.imports:
            if match := pattern.match(line):
                return match[1]
        return None


PYTHON = Grammar(
    frozenset(keyword.kwlist), (re.compile(r"^(?:from [\w.]+ )?import ([A-Za-z_]\w*)$"),)
)

_C_KEYWORDS = """
    alignas alignof auto bool break case char const constexpr continue default do double else enum
    extern false float for goto if inline int long register restrict return short signed sizeof
    static struct switch true typedef typeof union unsigned void volatile while
    define elif endif error ifdef ifndef include pragma undef
"""
_CPP_KEYWORDS = """
    catch class concept const_cast decltype delete dynamic_cast explicit export final friend mutable
    namespace new noexcept nullptr operator override private protected public reinterpret_cast
    requires static_assert static_cast template this throw try typeid typename using virtual
"""
_JAVASCRIPT_KEYWORDS = """
    async await break case catch class const continue debugger default delete do else export extends
    false finally for function if import in instanceof let new null of return static super switch
    this throw true try typeof undefined var void while yield
"""
_TYPESCRIPT_KEYWORDS = """
    abstract any as boolean declare enum implements infer interface is keyof module namespace never
    number object private protected public readonly string symbol type unknown
"""
_LUA_KEYWORDS = """
    and break do else elseif end false for function goto if in local nil not or repeat return then
    true until while self
"""
_SHELL_KEYWORDS = """
    case do done elif else esac export fi for function if in local readonly return select set shift
    then unset until while echo exit
"""

_SCRIPT_IMPORTS = (
    re.compile(r"^import (?:type )?(?:\* as )?(\w+) from ['\"][^'\"]+['\"];?$"),
    re.compile(r"^import (?:type )?\{ (\w+) \} from ['\"][^'\"]+['\"];?$"),
    re.compile(r"^(?:const|let|var) (\w+) = require\(['\"][^'\"]+['\"]\);?$"),
)
_LUA_IMPORTS = (re.compile(r"^local (\w+) = require[ (]*['\"][^'\"]+['\"]\)?$"),)


def _words(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in text.split())


GRAMMARS: Mapping[str, Grammar] = {
    "python": PYTHON,
    "javascript": Grammar(_words(_JAVASCRIPT_KEYWORDS), _SCRIPT_IMPORTS),
    "typescript": Grammar(_words(_JAVASCRIPT_KEYWORDS, _TYPESCRIPT_KEYWORDS), _SCRIPT_IMPORTS),
    "lua": Grammar(_words(_LUA_KEYWORDS), _LUA_IMPORTS),
    "c": Grammar(_words(_C_KEYWORDS)),
    "cpp": Grammar(_words(_C_KEYWORDS, _CPP_KEYWORDS)),
    "shell": Grammar(_words(_SHELL_KEYWORDS)),
}
WORDS = Grammar(_words("true false null"))
"""Of text and data, where everything else may be a name."""


def grammar_of(path: str) -> Grammar:
    """The grammar of a file by its suffix; an unknown suffix counts as Python."""
    language = language_of(path)
    return PYTHON if language is None else GRAMMARS.get(language.name, WORDS)
