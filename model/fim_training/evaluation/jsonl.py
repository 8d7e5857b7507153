"""Reads the evaluation data files: gzip-compressed JSON lines of text fields."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path


class EvaluationDataError(ValueError):
    """An unusable data file; the message is one line that names the file and what to do."""


def read_text_fields(path: Path, fields: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the named text fields of every line of a `.jsonl.gz` file, in file order.

    Blank lines and other fields are ignored. Raises EvaluationDataError for a file that is missing,
    truncated, not gzip, not UTF-8, not JSON, empty, or lacks one of `fields`.
    """
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):  # noqa: B007 (kept for the messages)
                if line.strip():
                    yield _fields_of(json.loads(line), fields)
    except FileNotFoundError:
        raise EvaluationDataError(f"{path}: no such file; give the path of a .jsonl.gz") from None
    except json.JSONDecodeError as error:
        reason = f"line {number} is not JSON ({error.msg})"
        raise EvaluationDataError(f"{path}: {reason}; download the file again") from error
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        reason = f"damaged after line {number} ({_first_line(error)})"
        raise EvaluationDataError(f"{path}: {reason}; download the file again") from error
    except _FieldError as error:
        raise EvaluationDataError(f"{path}: line {number} {error}; is it the right file?") from None
    except OSError as error:
        raise EvaluationDataError(f"{path}: cannot be read ({error.strerror})") from error
    if number == 0:
        raise EvaluationDataError(f"{path}: the file is empty; download it again")


class _FieldError(Exception):
    """A line lacks a field."""


def _fields_of(record: object, fields: Sequence[str]) -> dict[str, str]:
    if not isinstance(record, dict):
        raise _FieldError("is not a JSON object")
    for name in fields:
        if not isinstance(record.get(name), str):
            raise _FieldError(f"has no text field {name!r}")
    return {name: record[name] for name in fields}


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
