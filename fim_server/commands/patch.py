"""Read an edit history from a unified diff, for commands that run without an editor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fim_server.documents.documents import Snapshot, without_end
from fim_server.edits.history import Hunk

if TYPE_CHECKING:
    from unidiff.patch import Line, PatchedFile


class PatchError(ValueError):
    """A diff that cannot be used; the one-line message says why."""


def hunks_of(patch: str, snapshot: Snapshot) -> list[Hunk]:
    """The hunks of an already applied diff, in its order, with timestamp 0.

    Hunks of the snapshot's file are checked against its text. Raises PatchError if the patch is not
    a unified diff, or does not match the snapshot.
    """
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    try:
        files = PatchSet(patch)
    except UnidiffParseError as unreadable:
        raise PatchError(f"it is not a unified diff ({unreadable})") from unreadable
    if not any(list(file) for file in files):
        raise PatchError("it has no changes; create one with `git diff` or `diff -u`")
    found = []
    for file in files:
        uri = snapshot.uri if snapshot.uri.endswith(f"/{file.path}") else f"patch:{file.path}"
        hunks = list(_hunks(file, uri))
        if uri == snapshot.uri:
            _check(hunks, snapshot)
        found += hunks
    return found


def _hunks(file: PatchedFile, uri: str) -> Iterator[Hunk]:
    """Each contiguous change of a file, positioned by its line in the new file."""
    for hunk in file:
        line = max(hunk.target_start - 1, 0)
        run: list[Line] = []
        for entry in hunk:
            if entry.is_context:
                yield from _run(run, uri, line)
                line += sum(changed.is_added for changed in run) + 1
                run = []
            elif entry.is_added or entry.is_removed:
                run.append(entry)
        yield from _run(run, uri, line)


def _run(lines: Sequence[Line], uri: str, first: int) -> Iterator[Hunk]:
    old = tuple(without_end(line.value) for line in lines if line.is_removed)
    new = tuple(without_end(line.value) for line in lines if line.is_added)
    if lines:
        yield Hunk(uri, first, old, new, 0.0)


def _check(hunks: Sequence[Hunk], snapshot: Snapshot) -> None:
    for hunk in hunks:
        if tuple(map(without_end, snapshot.lines[hunk.first : hunk.end])) != hunk.new:
            raise PatchError(
                f"its change at line {hunk.first + 1} is not in the file; the diff must be "
                "already applied"
            )
