"""The key-value pairs of a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fim_model.errors import CheckpointError

if TYPE_CHECKING:
    from gguf import GGUFReader


class Metadata:
    """A file's key-value pairs, and errors that name the file."""

    def __init__(self, reader: GGUFReader, path: Path) -> None:
        self._fields, self.path = reader.fields, path

    def get(self, key: str, default: Any = None) -> Any:
        field = self._fields.get(key)
        return default if field is None else field.contents()

    def required(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise CheckpointError(f"{self.path}: the metadata lacks {key!r}")
        return value

    def fail(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {reason}")
