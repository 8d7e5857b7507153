"""Real sequences of edits: the hunks by which commits changed one file.

Used to measure next edits (`evaluation/edit_replay.py`) and to train on them. As a program it
writes the sequences of permissively licensed histories to a file:

    python -m fim_training.examples.hunk_sequences --git CLONE… --out hunks.jsonl.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

from fim_training.corpus.git_histories import Commit, FileChange, GitHistory, GitHistoryError
from fim_training.corpus.held_out import is_held_out
from fim_training.corpus.line_diff import LineHunk, applied, line_hunks

MIN_HUNKS, MAX_HUNKS = 2, 10
MAX_HUNK_LINES = 8
"""Most old and most new lines of each hunk: larger ones are not typed in one go."""

MAX_FILES = 30
"""Most files of a commit; larger ones are mass changes by a program."""

MIN_LINES, MAX_LINES = 8, 5000
MAX_NEIGHBOURS = 8

LANGUAGES = {
    ".py": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".jsx": "javascriptreact",
    ".ts": "typescript",
    ".tsx": "typescriptreact",
    ".lua": "lua",
    ".go": "go",
    ".rs": "rust",
    ".java": "java",
    ".c": "c",
    ".h": "c",
    ".cpp": "cpp",
    ".cc": "cpp",
    ".cs": "csharp",
    ".kt": "kotlin",
    ".swift": "swift",
    ".rb": "ruby",
    ".php": "php",
}
"""Editors' identifiers of the languages, by suffix."""

_MECHANICAL = re.compile(
    r"\b(?:re-?format|reformatted|release[ds]?|bump(?:ed|s)?|version|prettier|gofmt|rustfmt|stylua"
    r"|isort|pyupgrade|autopep8|yapf|pre-commit|clang-format|whitespace|white space|merge|revert"
    r"|dependabot|renovate|blacken(?:ed)?|(?:run|apply|use|with) black|black formatting"
    r"|lint(?:er|ing)?|eslint|ruff format|formatting|fmt|code ?style"
    r"|indent(?:ation)?|trailing spaces?)\b"
    r"|\bv?\d+\.\d+\.\d+",
    re.IGNORECASE,
)
"""Subjects of commits that a program wrote, or that only publish."""


@dataclass(frozen=True, slots=True)
class HunkSequence:
    """How a commit changed one file: `hunks` of `before`, from the top down.

    Lines have no line ends; the last one of a text that ends in one is empty. neighbours: other
    files of the parent's tree in the same language, which may be open beside it.
    """

    project: str
    commit: str
    path: str
    language: str
    before: tuple[str, ...]
    hunks: tuple[LineHunk, ...]
    neighbours: tuple[str, ...] = ()

    @property
    def after(self) -> list[str]:
        """The lines when all is done."""
        return applied(self.before, self.hunks)


def hunk_sequences(
    history: GitHistory,
    count: int | None,
    seed: int,
    *,
    neighbours: bool = True,
    allowed: Callable[[str], bool] = lambda path: True,
    commits: Iterable[Commit] | None = None,
) -> Iterator[HunkSequence]:
    """At most `count` sequences of a history (None: all), one of a commit, determined by the seed.

    Of commits that change MIN_HUNKS to MAX_HUNKS small hunks of a file; none that only changes
    white space, nor those whose subject says that they reformat or release. allowed: whether the
    file at a path may be read, as it was at any time; of others no object is opened. commits: of
    the history, those to look at (None: all).
    """
    rng = Random(f"{seed} {history.name}")
    looked_at = history.commits() if commits is None else commits
    typed = [commit for commit in looked_at if _is_typed(commit)]
    rng.shuffle(typed)
    found = 0
    for commit in typed:
        if found == count:
            return
        order = Random(f"{seed} {commit.id}")
        for change in order.sample(commit.changes, len(commit.changes)):
            sequence = _sequence(history, commit, change) if allowed(change.path) else None
            if sequence is not None:
                around: tuple[str, ...] = ()
                if neighbours:
                    around = _neighbours(history, commit, change, order, allowed)
                found += 1
                yield replace(sequence, neighbours=around)
                break


def _is_typed(commit: Commit) -> bool:
    return bool(commit.changes) and (
        commit.files <= MAX_FILES and _MECHANICAL.search(commit.subject) is None
    )


def _sequence(history: GitHistory, commit: Commit, change: FileChange) -> HunkSequence | None:
    language = LANGUAGES.get(PurePosixPath(change.path).suffix.lower())
    if language is None or "\ufffd" in change.path:  # not UTF-8: no rule could tell what it names
        return None
    before, after = history.text(change.before), history.text(change.after)
    if before is None or after is None or "\r" in before or "\r" in after:
        return None
    old, new = before.split("\n"), after.split("\n")
    if not MIN_LINES <= len(old) <= MAX_LINES:
        return None
    hunks = line_hunks(old, new, 2 * MAX_HUNKS * MAX_HUNK_LINES)
    if hunks is None or not MIN_HUNKS <= len(hunks) <= MAX_HUNKS:
        return None
    if any(max(len(hunk.old), len(hunk.new)) > MAX_HUNK_LINES for hunk in hunks):
        return None
    if all(_is_blank(hunk) for hunk in hunks):
        return None
    return HunkSequence(history.name, commit.id, change.path, language, tuple(old), tuple(hunks))


def _is_blank(hunk: LineHunk) -> bool:
    return "".join("".join(hunk.old).split()) == "".join("".join(hunk.new).split())


def _neighbours(
    history: GitHistory,
    commit: Commit,
    change: FileChange,
    rng: Random,
    allowed: Callable[[str], bool],
) -> tuple[str, ...]:
    """Texts of the files that the commit changes as well, then of others in the same folder, as
    they were before."""
    path = PurePosixPath(change.path)
    suffix = path.suffix
    changed = [
        other.before
        for other in commit.changes
        if other.path.endswith(suffix) and allowed(other.path)
    ]
    folder = "" if str(path.parent) == "." else str(path.parent)
    beside = history.files(commit.parent, folder)
    same = [
        blob for name, blob in sorted(beside.items()) if name.endswith(suffix) and allowed(name)
    ]
    rng.shuffle(same)
    chosen = [blob for blob in dict.fromkeys((*changed, *same)) if blob != change.before]
    texts = (history.text(blob) for blob in chosen[:MAX_NEIGHBOURS])
    return tuple(text for text in texts if text is not None)


# Writing them down.


def write_sequences(clones: Sequence[Path], out: Path, count: int | None, seed: int) -> list[str]:
    """Write the sequences of all permissively licensed histories but those of projects that the
    corpus holds out, and return one line for each history: what was taken, or why not. The first
    record names the histories."""
    said, records, sources = [], list[str](), []
    for clone in clones:
        with GitHistory(clone) as history:
            if not history.licence.permissive:
                said.append(f"{history.name}: left out, {history.licence.licence or 'no licence'}")
                continue
            if is_held_out(history.name):
                said.append(f"{history.name}: left out, its code is held out to measure with")
                continue
            taken = 0
            for sequence in hunk_sequences(history, count, seed, neighbours=False):
                record = asdict(sequence) | {"licence": history.licence.licence}
                del record["neighbours"]
                records.append(json.dumps(record, ensure_ascii=False))
                taken += 1
            sources.append(
                {
                    "project": history.name,
                    "head": history.head,
                    "licence": history.licence.licence,
                    "sequences": taken,
                }
            )
            said.append(f"{history.name}: {taken} sequences, {history.licence.licence}")
    _write(out, {"sources": sources, "seed": seed}, records)
    return said


def write_own(out: Path, sequences: Sequence[HunkSequence]) -> None:
    """Write sequences of the user's own history, of which no licence is asked."""
    records = [json.dumps(asdict(sequence), ensure_ascii=False) for sequence in sequences]
    _write(out, {"sources": []}, records)


def _write(out: Path, head: dict[str, Any], records: Sequence[str]) -> None:
    with gzip.open(out, "wt", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(head) + "\n")
        file.writelines(f"{record}\n" for record in records)


def read_sequences(path: Path) -> Iterator[HunkSequence]:
    """The sequences of a file that `write_sequences` wrote. Raises ValueError for another file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        head = json.loads(file.readline() or "null")
        if not isinstance(head, dict) or "sources" not in head:
            raise ValueError(f"{path}: not a file of hunk sequences; write it with this module")
        for line in file:
            yield sequence_of(json.loads(line))


def sequence_of(record: dict[str, Any]) -> HunkSequence:
    """A sequence from its fields as they are written down, without neighbours. Raises KeyError or
    TypeError where one is missing or of another kind."""
    hunks = (
        LineHunk(hunk["first"], tuple(hunk["old"]), tuple(hunk["new"])) for hunk in record["hunks"]
    )
    return HunkSequence(
        record["project"],
        record["commit"],
        record["path"],
        record["language"],
        tuple(record["before"]),
        tuple(hunks),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Write real hunk sequences of git histories.")
    parser.add_argument("--git", type=Path, nargs="+", required=True, metavar="CLONE")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl.gz")
    parser.add_argument("--commits", type=int, metavar="N", help="at most, of each history")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        said = write_sequences(arguments.git, arguments.out, arguments.commits, arguments.seed)
    except GitHistoryError as unusable:
        sys.stderr.write(f"{unusable}\n")
        return 2
    sys.stdout.writelines(f"{line}\n" for line in said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
