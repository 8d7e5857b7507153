"""Which projects are kept to measure with, and never trained on."""

from __future__ import annotations

import zlib

from fim_training.corpus.folder_sources import NPM
from fim_training.corpus.python_sources import canonical_name

# Whole projects, so that validation measures unseen code bases and not unseen files of known ones.
HELD_OUT_PROJECTS = frozenset(
    (
        "attrs", "click", "flask", "greenlet", "httpx", "httpx2", "jinja2", "networkx", "pygls",
        "requests", "rich",
    )
)  # fmt: skip
HELD_OUT_NPM = 8
"""Of this many npm packages one is held out, by the checksum of its name."""


def is_held_out(project: str) -> bool:
    """Whether a project (by any spelling of its name) is kept for validation."""
    if project.startswith(NPM):
        return zlib.crc32(project.encode()) % HELD_OUT_NPM == 0
    return canonical_name(project) in HELD_OUT_PROJECTS
