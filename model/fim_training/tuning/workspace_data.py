"""What a workspace gives to training, and what is held out of it.

Held out are a tenth of the files, those of the lowest checksums of their paths, and the newest
commits. Nothing that those changed may be learned: where a history is used, the files to train on
are as they were before the oldest commit that is held out. Of the history only changes of files
count that the workspace has at the same path, so that its rules are those of the tree, and nothing
is learned of a held-out file under a path that it had before.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from fim_training.corpus.corpus_languages import PYTHON, language_of
from fim_training.corpus.filters import path_reason, read_source, reject_reason
from fim_training.corpus.git_histories import Commit, GitHistory
from fim_training.corpus.python_sources import standard_library
from fim_training.evaluation.heldout_holes import Document
from fim_training.examples.examples import SourceFile
from fim_training.examples.hunk_sequences import (
    HunkSequence,
    hunk_sequences,
    sequence_of,
    write_own,
)

EDITS = "edits.jsonl.gz"
"""The file of a corpus with the edits of commits; there is none without any."""

HELD_OUT = 10
"""Of this many files, and of this many commits, one is held out."""

MOST_COMMITS = 2000
"""Commits whose edits are read, the newest ones."""

MOST_HELD_OUT_COMMITS = 40
LEAST_HELD_OUT_COMMITS = 8
"""With fewer commits of several small hunks nothing of the history is held out or measured."""

REPLAY_SHARE = 0.25
"""Text of the standard library for each character of the workspace, against forgetting."""

WORKSPACE, GENERAL = "workspace", "general"


@dataclass(frozen=True, slots=True)
class WorkspaceData:
    """files, edits: to train on. held_out, held_out_edits: to measure gains. replay, general: the
    standard library, to train on and to measure forgetting."""

    files: list[SourceFile]
    edits: list[HunkSequence]
    held_out: list[Document]
    held_out_edits: list[HunkSequence]
    replay: list[SourceFile]
    general: list[Document]

    def write(self, folder: Path) -> None:
        """As a corpus that the trainer reads."""
        folder.mkdir(parents=True, exist_ok=True)
        held_out = [SourceFile(d.path, d.text, d.project) for d in self.held_out]
        splits = {"train": [*self.files, *self.replay], "heldout": held_out or self.files}
        for split, files in splits.items():
            with gzip.open(folder / f"{split}.jsonl.gz", "wt", encoding="utf-8") as lines:
                for file in files:
                    row = {"project": file.project, "path": file.path, "text": file.text}
                    lines.write(json.dumps(row) + "\n")
        if self.edits:
            write_own(folder / EDITS, self.edits)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Any) -> WorkspaceData:
        """Raises KeyError, TypeError or AttributeError for what `as_json` does not give."""

        def sequences(name: str) -> list[HunkSequence]:
            return [sequence_of(record) for record in raw[name]]

        def sources(name: str) -> list[SourceFile]:
            return [SourceFile(**record) for record in raw[name]]

        def documents(name: str) -> list[Document]:
            return [Document(**record) for record in raw[name]]

        return cls(
            sources("files"), sequences("edits"), documents("held_out"),
            sequences("held_out_edits"), sources("replay"), documents("general"),
        )  # fmt: skip


def workspace_data(
    texts: Mapping[str, str],
    history: GitHistory | None,
    obey: Callable[[], None] = lambda: None,
    *,
    prefix: str = "",
    seed: int = 0,
) -> WorkspaceData:
    """Everything of a workspace. Raises ValueError where there is too little to learn from.

    texts: the files that may be read, by path below the workspace. obey: called at each commit and
    each file of the history, may raise to end the reading. prefix: the workspace below the
    repository, "" or with a slash at its end.
    """
    texts = {path: text for path, text in texts.items() if _is_source(path, text)}
    sequences = []
    if history is not None:
        sequences = _sequences(history, {prefix + path for path in texts}, obey, seed)
    count = min(len(sequences) // HELD_OUT, MOST_HELD_OUT_COMMITS)
    count = count if count >= LEAST_HELD_OUT_COMMITS else 0
    newest = sequences[:count]
    names = set(sorted(texts, key=_checksum)[: -(-len(texts) // HELD_OUT)])
    held_out = [Document(WORKSPACE, path, texts[path]) for path in sorted(names)]
    to_read = {path: text for path, text in texts.items() if path not in names}
    if history is not None and newest:
        to_read = _before(history, newest[-1].commit, to_read, prefix, obey)
    files = [SourceFile(path, text, WORKSPACE) for path, text in to_read.items()]
    size = sum(len(file.text) for file in files)
    if not files or not held_out or size < LEAST_CHARS:
        raise ValueError(
            f"{len(files)} files of {size:,} characters are too little to learn from "
            f"(at least {LEAST_CHARS:,}, and files to measure with)"
        )
    edits = [s for s in sequences[count:] if s.path.removeprefix(prefix) not in names]
    replay, general = _standard_library(size * REPLAY_SHARE, seed)
    return WorkspaceData(files, edits, held_out, newest, replay, general)


LEAST_CHARS = 20_000


def _sequences(
    history: GitHistory, paths: Container[str], obey: Callable[[], None], seed: int
) -> list[HunkSequence]:
    """The edits of these files, by path below the repository, in the newest commits; the newest
    first."""

    def allowed(path: str) -> bool:
        obey()
        return path in paths

    commits = list[Commit]()
    with closing(history.commits(MOST_COMMITS)) as listed:
        for commit in listed:
            obey()
            commits.append(commit)
    found = hunk_sequences(history, None, seed, neighbours=False, allowed=allowed, commits=commits)
    ranks = {commit.id: rank for rank, commit in enumerate(commits)}
    return sorted(filter(_is_source_edit, found), key=lambda sequence: ranks[sequence.commit])


def _is_source_edit(sequence: HunkSequence) -> bool:
    """Whether the file was hand-written source before and after the edit: it may have been
    generated once."""
    return all(
        _is_source(sequence.path, "\n".join(lines)) for lines in (sequence.before, sequence.after)
    )


def _before(
    history: GitHistory,
    commit: str,
    paths: Iterable[str],
    prefix: str,
    obey: Callable[[], None],
) -> dict[str, str]:
    """The texts of these files of the workspace before a commit, of those that were source then."""
    blobs = history.tree(history.parent_of(commit))
    found = {}
    for path in paths:
        obey()
        blob = blobs.get(prefix + path)
        text = None if blob is None else history.text(blob)
        if text is not None and _is_source(path, text):
            found[path] = text
    return found


def _checksum(path: str) -> int:
    return zlib.crc32(path.encode("utf-8", "surrogatepass"))


def _is_source(path: str, text: str) -> bool:
    language = language_of(path)
    return (
        language is not None
        and path_reason(path, language) is None
        and reject_reason(text, language) is None
        and "\r" not in text
    )


def _standard_library(size: float, seed: int) -> tuple[list[SourceFile], list[Document]]:
    """Files to replay, of about so many characters, and others to measure with."""
    files = list(standard_library().files)
    Random(seed).shuffle(files)
    replay, general = list[SourceFile](), list[Document]()
    for file in files:
        ours = _checksum(file.path) % HELD_OUT > 0
        if size <= 0 if ours else len(general) >= MOST_GENERAL:
            continue
        text = read_source(file.location)
        if text is None or path_reason(file.path, PYTHON) or reject_reason(text, PYTHON):
            continue
        if ours:
            replay.append(SourceFile(file.path, text, GENERAL))
            size -= len(text)
        else:
            general.append(Document(GENERAL, file.path, text))
    return replay, general


MOST_GENERAL = 60
"""Files of the standard library to measure with."""
