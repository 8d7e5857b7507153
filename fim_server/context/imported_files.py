"""The files of the workspace that a file imports, by its text and each language's conventions.

Nothing is run, and no folder is searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_IMPORTS = 16

_PYTHON = re.compile(
    r"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]+\(?([\w, \t]*)|import[ \t]+([\w., \t]+))",
    re.MULTILINE,
)
_SCRIPT = re.compile(r"""(?:from|import|require\()\s*['"](\.{1,2}/[^'"\n]+)['"]""")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"', re.MULTILINE)
_SCRIPT_ENDS = ("", ".ts", ".tsx", ".js", ".jsx", ".mjs", "/index.ts", "/index.js")
_SOURCE_FOLDERS = ("", "src", "lib")


def imported_files(
    text: str, suffix: str, file: Path, roots: Sequence[Path]
) -> Iterator[list[Path]]:
    """For each import, the paths at which its file may be, in the order to try them."""
    if suffix in ("py", "pyi"):
        for module in _python_modules(text):
            yield _python_paths(module, file, roots)
    elif suffix in ("js", "jsx", "mjs", "cjs", "ts", "tsx", "mts", "cts"):
        for name in _SCRIPT.findall(text):
            yield [file.parent / f"{name}{end}" for end in _SCRIPT_ENDS]
    elif suffix in ("c", "h", "cpp", "cc", "cxx", "hpp", "hh", "hxx"):
        for name in _INCLUDE.findall(text):
            yield [file.parent / name, *(root / "include" / name for root in roots)]


def _python_modules(text: str) -> Iterator[str]:
    """Dotted names, relative ones with their dots; `from a import b` may mean module `a.b`."""
    for source, names, plain in _PYTHON.findall(text):
        if plain:
            yield from (name.split(" as ")[0].strip() for name in plain.split(","))
            continue
        if source.strip("."):
            yield source
        for name in names.split(","):
            if name := name.strip().split(" ")[0]:
                yield f"{source}{name}" if source.endswith(".") else f"{source}.{name}"


def _python_paths(module: str, file: Path, roots: Sequence[Path]) -> list[Path]:
    name = module.lstrip(".")
    dots = len(module) - len(name)
    if not name.strip("."):  # `import .`, while it is typed
        return []
    inside = Path(*name.split("."))
    if dots:
        folders = [file.parents[dots - 1]] if dots <= len(file.parents) else []
    else:
        folders = [root / source for root in roots for source in _SOURCE_FOLDERS]
        folders += [file.parent]
    return [
        path
        for folder in folders
        for path in (folder / inside.with_suffix(".py"), folder / inside / "__init__.py")
    ]
