"""FILE:LINE:COLUMN, --line and --column, and stdin: which position is meant, and clear errors."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from lsprotocol import types as lsp

from fim_server.commands.file_position import position_of
from fim_server.commands.usage_error import UsageError

TEXT = "one\n  two\nthree"


def place(file: str, line: int | None = None, column: int | None = None) -> lsp.Position:
    given = argparse.Namespace(file=file, line=line, column=column, stdin=False)
    where = position_of(given)
    return where.in_text(where.read())


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "a.py"
    path.write_text(TEXT)
    return str(path)


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        (":2:3", (1, 2)),
        (":2:3:", (1, 2)),
        (":2", (1, 5)),
        (":1:1", (0, 0)),
        (":3:6", (2, 5)),
    ],
)
def test_positions_as_compilers_print_them(
    file: str, suffix: str, expected: tuple[int, int]
) -> None:
    assert place(file + suffix) == lsp.Position(*expected)


def test_line_and_column_as_options(file: str) -> None:
    assert place(file, 2, 2) == place(f"{file}:2:3") == lsp.Position(1, 2)
    assert place(file, 2) == lsp.Position(1, 5)


def test_a_file_with_a_colon_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "odd:3"
    path.write_text(TEXT)
    assert place(f"{path}:2:1") == lsp.Position(1, 0)
    assert place(str(path), 1, 1) == lsp.Position(0, 1)


@pytest.mark.parametrize(
    ("suffix", "options", "message"),
    [
        ("", {}, "name a position"),
        ("", {"column": 1}, "name a position"),
        (":2:0", {}, "columns count from 1"),
        (":9:1", {}, "line 9 is outside the file's 1 to 3"),
        (":2:9", {}, "column 8 is outside line 2's 0 to 5"),
        (":2:1", {"line": 1}, "leave out --line and --column"),
    ],
)
def test_errors_name_the_way_out(
    file: str, suffix: str, options: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        place(file + suffix, **options)  # type: ignore[arg-type]
