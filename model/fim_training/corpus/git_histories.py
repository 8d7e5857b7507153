"""Reads the changes of files from a git history, without a checkout.

Two processes serve a whole history: one `git log --raw` for the names and object ids, read as it is
written, and one `git cat-file --batch` for the texts.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType

from fim_model.loading.attribution import LICENCE_FILE

from fim_training.corpus.folder_sources import licence_of_texts
from fim_training.corpus.python_sources import Verdict

_COMMIT, _FIELD = "\x01", "\x02"
_FORMAT = f"--format={_COMMIT}%H{_FIELD}%P{_FIELD}%s"
_ENTRY = re.compile(f"{_COMMIT}(?=[0-9a-f]{{40,64}}{_FIELD})")
"""How the first line of an entry begins: a subject may contain the marks as well."""

_OFFLINE = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}
"""A partial clone fetches absent objects as they are read; reading a history fetches nothing."""

_REGULAR = ("100644", "100755")
_MAX_MESSAGE = 200


class GitHistoryError(ValueError):
    """A folder that is no usable git history; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that a commit modified: its object ids before and after."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit with one parent. `changes` are the modified files; `files` counts those that were
    added, deleted and renamed as well."""

    id: str
    parent: str
    subject: str
    changes: tuple[FileChange, ...]
    files: int


class GitHistory:
    """The history that leads to HEAD of a clone, bare or not. A context manager: it owns a process.

    Raises GitHistoryError for a folder without commits.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._batch: subprocess.Popen[bytes] | None = None
        self.head = self._text("rev-parse", "--verify", "HEAD").strip()

    @property
    def name(self) -> str:
        """The project: the folder's name without `.git`; of a link, the link's own."""
        where = self.folder.absolute()
        if where.name == ".git":
            where = where.parent
        return (where.resolve() if where.name == ".." else where).name.removesuffix(".git")

    def __enter__(self) -> GitHistory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._batch is not None:
            self._batch.communicate()
            self._batch = None

    def commits(self, newest: int | None = None) -> Generator[Commit]:
        """The commits with exactly one parent, the newest first, at most `newest` of them.

        git lists no further than it is read, and ends when the iterator is closed. Raises
        GitHistoryError where it stops at a damaged object.
        """
        limit = () if newest is None else (f"--max-count={newest}",)
        lines = self._lines(
            "-c", "core.quotePath=false", "log", "--min-parents=1", "--max-parents=1", *limit,
            "--raw", "--no-renames", "--abbrev=40", "--no-color", "--no-show-signature", _FORMAT,
            "HEAD",
        )  # fmt: skip
        head, raw = "", list[str]()
        with closing(lines):
            for line in lines:
                if _ENTRY.match(line):
                    if head:
                        yield _commit(head, raw)
                    head, raw = line, []
                elif line.startswith(":"):
                    raw.append(line)
        if head:
            yield _commit(head, raw)

    def parent_of(self, commit: str) -> str:
        """The id of a commit's only parent."""
        return self._text("rev-parse", "--verify", f"{commit}^").strip()

    def tree(self, commit: str) -> dict[str, str]:
        """The object ids of all regular files of a commit, by path."""
        return _blobs(self._text("ls-tree", "-r", "-z", commit))

    def files(self, commit: str, folder: str) -> dict[str, str]:
        """The object ids of the regular files directly in a folder ("" is the top), by path."""
        listed = self._text("ls-tree", "-z", commit, f"{folder}/" if folder else ".")
        return _blobs(listed)

    def text(self, blob: str) -> str | None:
        """An object's text; None if it is absent or not UTF-8."""
        content = self._content(blob)
        try:
            return None if content is None else content.decode("utf-8")
        except UnicodeDecodeError:
            return None

    @cached_property
    def licence(self) -> Verdict:
        """What the licence files at HEAD say, by the rules of the corpus."""
        listed = self.files(self.head, "")
        texts = {
            path: self.text(blob) or ""
            for path, blob in sorted(listed.items())
            if LICENCE_FILE.fullmatch(path)
        }
        return licence_of_texts(texts)

    def _content(self, blob: str) -> bytes | None:
        if self._batch is None:
            command = ["git", "-C", str(self.folder), "cat-file", "--batch"]
            self._batch = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, **_OFFLINE},
            )  # fmt: skip
        to, answer = self._batch.stdin, self._batch.stdout
        assert to is not None
        assert answer is not None
        to.write(f"{blob}\n".encode())
        to.flush()
        header = answer.readline().split()
        if not header:  # git ends at an object that it would have to fetch
            self._batch.communicate()
            self._batch = None
        if len(header) != 3:
            return None
        content = answer.read(int(header[2]) + 1)[:-1]
        return content if header[1] == b"blob" else None

    def _lines(self, *arguments: str) -> Generator[str]:
        """What git prints, line by line as it comes; closing the generator ends git."""
        command = ["git", "-C", str(self.folder), *arguments]
        with (
            TemporaryFile() as errors,  # not a pipe: a full one that nobody reads would block git
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **_OFFLINE}
            ) as git,
        ):
            assert git.stdout is not None
            try:
                for line in git.stdout:
                    yield line.decode("utf-8", "replace").removesuffix("\n")
                failed = git.wait() != 0
            finally:
                git.kill()  # nothing happens to one that has ended
            if failed:
                errors.seek(0)
                raise self._unreadable(errors.read())

    def _unreadable(self, errors: bytes) -> GitHistoryError:
        said = errors.decode("utf-8", "replace").strip().split("\n")[-1]
        return GitHistoryError(
            f"{self.folder}: no readable git history ({said}); "
            "give the folder of a clone that has commits"
        )

    def _text(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, check=True, env={**os.environ, **_OFFLINE}
            )
        except FileNotFoundError:
            raise GitHistoryError("git was not found; install it to read histories") from None
        except subprocess.CalledProcessError as failed:
            raise self._unreadable(failed.stderr) from None
        return done.stdout.decode("utf-8", "replace")


def _commit(head: str, raw: Sequence[str]) -> Commit:
    """A commit from its entry in `git log --raw`: the first line, and those of its changes."""
    name, parent, subject = head.removeprefix(_COMMIT).split(_FIELD, 2)
    changes = tuple(filter(None, map(_change, raw)))
    return Commit(name, parent, subject[:_MAX_MESSAGE], changes, len(raw))


def _blobs(listed: str) -> dict[str, str]:
    """The regular files of `git ls-tree -z`."""
    found = {}
    for entry in filter(None, listed.split("\0")):
        fields, _, path = entry.partition("\t")
        mode, kind, name = fields.split()
        if kind == "blob" and mode in _REGULAR:
            found[path] = name
    return found


def _change(line: str) -> FileChange | None:
    """The modification of a regular file in a line of `git log --raw`; None for other changes."""
    fields, _, path = line[1:].partition("\t")
    old_mode, new_mode, before, after, status = fields.split()
    regular = old_mode in _REGULAR and new_mode in _REGULAR
    return FileChange(path, before, after) if status == "M" and regular else None
