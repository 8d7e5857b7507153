"""The languages with a tree-sitter grammar, and the names of the grammar's node types.

Other languages are treated as plain text: everything works that needs no syntax.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Language as Grammar
    from tree_sitter import Parser


@dataclass(frozen=True, slots=True)
class Language:
    """A language's grammar package and its relevant node types.

    `names` are the editors' identifiers of the language, `suffixes` its file extensions.
    `definitions` are nodes with a `name` (or declarator) that other code may refer to; `blocks`
    are bodies, which signatures omit; `texts` are comments and strings. `indented` languages mark
    blocks by indentation. `grammar` is the function of `package` that returns the grammar.
    """

    names: tuple[str, ...]
    suffixes: tuple[str, ...]
    package: str
    definitions: frozenset[str]
    blocks: frozenset[str]
    texts: frozenset[str]
    comment: str
    indented: bool = False
    grammar: str = "language"


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


_JS_DEFINITIONS = _set(
    "function_declaration generator_function_declaration class_declaration method_definition "
    "variable_declarator"
)
_JS_BLOCKS = _set("statement_block class_body switch_body object")
_JS_TEXTS = _set("comment string template_string regex")
_TS_DEFINITIONS = _JS_DEFINITIONS | _set(
    "interface_declaration type_alias_declaration enum_declaration abstract_class_declaration "
    "function_signature method_signature"
)
_TS_BLOCKS = _JS_BLOCKS | _set("interface_body enum_body object_type")
_C_DEFINITIONS = _set("function_definition struct_specifier enum_specifier union_specifier")
_C_BLOCKS = _set("compound_statement field_declaration_list enumerator_list")
_C_TEXTS = _set("comment string_literal char_literal")

LANGUAGES = (
    Language(
        names=("python",),
        suffixes=("py", "pyi"),
        package="tree_sitter_python",
        definitions=_set("function_definition class_definition"),
        blocks=_set("block"),
        texts=_set("comment string"),
        comment="#",
        indented=True,
    ),
    Language(
        names=("javascript", "javascriptreact"),
        suffixes=("js", "jsx", "mjs", "cjs"),
        package="tree_sitter_javascript",
        definitions=_JS_DEFINITIONS,
        blocks=_JS_BLOCKS,
        texts=_JS_TEXTS,
        comment="//",
    ),
    Language(
        names=("typescript",),
        suffixes=("ts", "mts", "cts"),
        package="tree_sitter_typescript",
        definitions=_TS_DEFINITIONS,
        blocks=_TS_BLOCKS,
        texts=_JS_TEXTS,
        comment="//",
        grammar="language_typescript",
    ),
    Language(
        names=("typescriptreact",),
        suffixes=("tsx",),
        package="tree_sitter_typescript",
        definitions=_TS_DEFINITIONS,
        blocks=_TS_BLOCKS,
        texts=_JS_TEXTS,
        comment="//",
        grammar="language_tsx",
    ),
    Language(
        names=("go",),
        suffixes=("go",),
        package="tree_sitter_go",
        definitions=_set("function_declaration method_declaration type_spec"),
        blocks=_set("block field_declaration_list interface_type literal_value"),
        texts=_set("comment interpreted_string_literal raw_string_literal"),
        comment="//",
    ),
    Language(
        names=("rust",),
        suffixes=("rs",),
        package="tree_sitter_rust",
        definitions=_set("function_item struct_item enum_item trait_item type_item const_item"),
        blocks=_set(
            "block declaration_list field_declaration_list enum_variant_list match_block "
            "field_initializer_list"
        ),
        texts=_set("line_comment block_comment string_literal raw_string_literal"),
        comment="//",
    ),
    Language(
        names=("java",),
        suffixes=("java",),
        package="tree_sitter_java",
        definitions=_set(
            "class_declaration interface_declaration enum_declaration record_declaration "
            "method_declaration constructor_declaration"
        ),
        blocks=_set("block class_body interface_body enum_body constructor_body switch_block"),
        texts=_set("line_comment block_comment string_literal"),
        comment="//",
    ),
    Language(
        names=("c",),
        suffixes=("c", "h"),
        package="tree_sitter_c",
        definitions=_C_DEFINITIONS,
        blocks=_C_BLOCKS,
        texts=_C_TEXTS,
        comment="//",
    ),
    Language(
        names=("cpp",),
        suffixes=("cpp", "cc", "cxx", "hpp", "hh", "hxx"),
        package="tree_sitter_cpp",
        definitions=_C_DEFINITIONS | _set("class_specifier"),
        blocks=_C_BLOCKS,
        texts=_C_TEXTS | _set("raw_string_literal"),
        comment="//",
    ),
)


def language_of(name: str, path: str = "") -> Language | None:
    """The language by an editor's identifier, else by the file's suffix; None if unknown."""
    suffix = path.rpartition(".")[2].lower() if "." in path.rpartition("/")[2] else name.lower()
    return _by_name().get(name.lower()) or _by_suffix().get(suffix)


def parser_for(language: Language) -> Parser | None:
    """A new parser, which belongs to one thread; None if the grammar's package is not installed."""
    grammar = _grammar(language)
    if grammar is None:
        return None
    import tree_sitter

    return tree_sitter.Parser(grammar)


@cache
def _grammar(language: Language) -> Grammar | None:
    """The language's grammar, loaded on first use."""
    try:
        import tree_sitter

        grammar = getattr(import_module(language.package), language.grammar)()
        return tree_sitter.Language(grammar)
    except ImportError:
        return None


@lru_cache(maxsize=1)
def _by_name() -> dict[str, Language]:
    return dict(_pairs((language.names, language) for language in LANGUAGES))


@lru_cache(maxsize=1)
def _by_suffix() -> dict[str, Language]:
    return dict(_pairs((language.suffixes, language) for language in LANGUAGES))


def _pairs(
    keyed: Iterable[tuple[tuple[str, ...], Language]],
) -> Iterable[tuple[str, Language]]:
    for keys, language in keyed:
        for key in keys:
            yield key, language
