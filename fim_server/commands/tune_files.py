"""The files of a workspace from which an adapter may learn: source code that no rule excludes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fim_server.access.exclusions import Exclusions
from fim_server.access.files import read_allowed

SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", "dist-packages"})
MOST_CHARS = 40_000_000
"""Characters in all; of a larger workspace no more are read."""


def source_texts(
    root: Path, exclusions: Exclusions, obey: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """Texts with plain line ends by path below `root`; only of languages that training knows.

    Every file is asked for by name before it is opened. Hidden folders are left out. obey: called
    at each file, may raise to end the reading.
    """
    from fim_training.corpus.corpus_languages import language_of

    found: dict[str, str] = {}
    size = 0
    for where, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in SKIPPED)
        for name in sorted(files):
            obey()
            path = Path(where, name)
            if language_of(name) is None or path.is_symlink():
                continue
            text = read_allowed(path, exclusions)
            if text is not None:
                found[path.relative_to(root).as_posix()] = text.replace("\r\n", "\n")
                size += len(text)
            if size > MOST_CHARS:
                return found
    return found
