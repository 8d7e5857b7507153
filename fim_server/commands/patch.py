"""A person's edits out of a unified diff, for those who ask without an editor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fim_server.documents.documents import Snapshot, without_end
from fim_server.edits.history import Hunk

if TYPE_CHECKING:
    from unidiff import PatchedFile
    from unidiff.patch import Line


class PatchError(ValueError):
    """A diff that cannot be used; one line that says why."""


def hunks_of(patch: str, snapshot: Snapshot) -> list[Hunk]:
    """The hunks of a diff whose changes are made already, in its order, at second 0.

    Those of the document are found in it. Raises PatchError for what is no unified diff, and for
    one that does not fit the document.
    """
    from unidiff import PatchSet, UnidiffParseError

    try:
        files = PatchSet(patch)
    except UnidiffParseError as unreadable:
        raise PatchError(f"it is not a unified diff ({unreadable})") from unreadable
    if not any(list(file) for file in files):
        raise PatchError("it has no changes; write one with `git diff` or `diff -u`")
    found = []
    for file in files:
        uri = snapshot.uri if snapshot.uri.endswith(f"/{file.path}") else f"patch:{file.path}"
        hunks = list(_hunks(file, uri))
        if uri == snapshot.uri:
            _check(hunks, snapshot)
        found += hunks
    return found


def _hunks(file: PatchedFile, uri: str) -> Iterator[Hunk]:
    """Every run of removed and added lines, where it stands in the new file."""
    for hunk in file:
        line = max(hunk.target_start - 1, 0)
        run: list[Line] = []
        for one in hunk:
            if one.is_context:
                yield from _run(run, uri, line)
                line += sum(changed.is_added for changed in run) + 1
                run = []
            elif one.is_added or one.is_removed:
                run.append(one)
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
                f"its change at line {hunk.first + 1} is not in the file; the diff must be of "
                "edits that were made already"
            )
