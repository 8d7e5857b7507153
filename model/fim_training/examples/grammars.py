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
_GO_KEYWORDS = """
    break case chan const continue default defer else fallthrough for func go goto if import
    interface map package range return select struct switch type var true false nil iota any bool
    byte error float64 int int64 rune string uint8
"""
_RUST_KEYWORDS = """
    as async await break const continue crate dyn else enum extern false fn for if impl in let loop
    match mod move mut pub ref return self Self static struct super trait true type unsafe use where
    while bool char f64 i32 i64 str u8 u32 u64 usize String Option Result Some None Ok Err Vec Box
"""
_JAVA_KEYWORDS = """
    abstract assert boolean break byte case catch char class const continue default do double else
    enum extends final finally float for if implements import instanceof int interface long native
    new null package private protected public record return short static super switch synchronized
    this throw throws true false try var void volatile while String
"""
_CSHARP_KEYWORDS = """
    as async await base bool decimal delegate event foreach get in internal is lock namespace object
    out override params partial readonly ref sealed set string using virtual where yield
"""
_KOTLIN_KEYWORDS = """
    as break by class companion continue data do else false for fun if import in init interface is
    lateinit null object open operator override package private protected public return sealed super
    suspend this throw true try typealias val var vararg when where while
"""
_SWIFT_KEYWORDS = """
    as associatedtype async await break case catch class continue default defer deinit do else enum
    extension false fileprivate for func guard if import in init inout internal is let mutating nil
    override private protocol public return self Self static struct super switch throw throws true
    try typealias var where while weak
"""
_RUBY_KEYWORDS = """
    alias and begin break case class def defined do else elsif end ensure false for if in module
    next nil not or redo require rescue retry return self super then true undef unless until when
    while yield attr_accessor attr_reader private protected public puts raise
"""
_PHP_KEYWORDS = """
    abstract and array as break callable case catch class clone const continue declare default do
    echo else elseif empty enum extends final finally fn for foreach function global if implements
    include instanceof interface isset list match namespace new null or print private protected
    public readonly require return static string switch this throw trait true false try unset use
    var void while yield int bool float
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
_JVM_IMPORTS = (re.compile(r"^import [\w.]+\.(\w+);?$"),)
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
    "go": Grammar(_words(_GO_KEYWORDS)),
    "rust": Grammar(_words(_RUST_KEYWORDS)),
    "java": Grammar(_words(_JAVA_KEYWORDS), _JVM_IMPORTS),
    "csharp": Grammar(_words(_JAVA_KEYWORDS, _CSHARP_KEYWORDS)),
    "kotlin": Grammar(_words(_KOTLIN_KEYWORDS), _JVM_IMPORTS),
    "swift": Grammar(_words(_SWIFT_KEYWORDS)),
    "ruby": Grammar(_words(_RUBY_KEYWORDS)),
    "php": Grammar(_words(_PHP_KEYWORDS)),
    "shell": Grammar(_words(_SHELL_KEYWORDS)),
}
WORDS = Grammar(_words("true false null"))
"""Of text and data, where everything else may be a name."""


def grammar_of(path: str) -> Grammar:
    """The grammar of a file by its suffix; an unknown suffix counts as Python."""
    language = language_of(path)
    return PYTHON if language is None else GRAMMARS.get(language.name, WORDS)
