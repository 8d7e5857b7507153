"""Real sequences of edits from histories: which commits count, and the file that keeps them."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest
from fim_training.corpus.git_histories import GitHistory
from fim_training.examples import hunk_sequences as module
from fim_training.examples.hunk_sequences import (
    MAX_HUNK_LINES,
    hunk_sequences,
    read_sequences,
    write_sequences,
)
from git_clones import write_clone

START = "".join(f"line_{n} = {n}\n" for n in range(30))


def changed(*lines: int, text: str = START, to: str = "done({n})") -> str:
    rows = text.split("\n")
    for n in lines:
        rows[n] = to.format(n=n)
    return "\n".join(rows)


def test_a_commit_with_several_small_hunks(tmp_path: Path) -> None:
    files = {"a.py": START, "b.py": "near = 1\n", "sub/c.py": "far = 1\n", "d.lua": "other"}
    clone = write_clone(tmp_path / "p", [("add", files), ("edit", {"a.py": changed(2, 9)})])
    with GitHistory(clone) as history:
        [sequence] = hunk_sequences(history, 5, 0)
    assert (sequence.path, sequence.language, sequence.project) == ("a.py", "python", "p")
    assert [(hunk.first, hunk.new) for hunk in sequence.hunks] == [
        (2, ("done(2)",)),
        (9, ("done(9)",)),
    ]
    assert "\n".join(sequence.after) == changed(2, 9)
    assert sequence.neighbours == ("near = 1\n",), "of the same folder and language"


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("one hunk", changed(2)),
        ("Reformat with black", changed(2, 9)),
        ("Release 2.1", changed(2, 9)),
        ("white space alone", changed(2, 9, to="    line_{n} = {n}")),
        ("a large hunk", changed(1, *range(9, 10 + MAX_HUNK_LINES))),
        ("many hunks", changed(*range(0, 24, 2))),
        ("other line ends", changed(2, 9).replace("\n", "\r\n")),
    ],
)
def test_commits_that_are_left_out(tmp_path: Path, subject: str, text: str) -> None:
    clone = write_clone(tmp_path / "p", [("add", {"a.py": START}), (subject, {"a.py": text})])
    with GitHistory(clone) as history:
        assert list(hunk_sequences(history, None, 0)) == []


def test_the_draw_is_determined_by_the_seed(tmp_path: Path) -> None:
    edits = [(f"edit {n}", {"a.py": changed(2, 9, to=f"x{n}({{n}})")}) for n in range(8)]
    clone = write_clone(tmp_path / "p", [("add", {"a.py": START}), *edits])

    def drawn(count: int, seed: int) -> list[str]:
        with GitHistory(clone) as history:
            return [sequence.commit for sequence in hunk_sequences(history, count, seed)]

    assert drawn(4, 1) == drawn(4, 1)
    assert drawn(8, 1)[:4] == drawn(4, 1), "more are drawn after the same ones"
    assert drawn(8, 1) != drawn(8, 2)


def test_permissive_histories_are_written_with_their_provenance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = [("add", {"a.py": START}), ("edit", {"a.py": changed(2, 9)})]
    free = write_clone(tmp_path / "free", commits)
    unfree = write_clone(tmp_path / "unfree", commits, "GNU General Public License\n")
    out = tmp_path / "hunks.jsonl.gz"
    measured = write_clone(tmp_path / "rich", commits)
    said = write_sequences([free, unfree, measured], out, None, 0)
    assert said == [
        "free: 1 sequences, MIT",
        "unfree: left out, the text of LICENSE",
        "rich: left out, its code is held out to measure with",
    ]
    with gzip.open(out, "rt", encoding="utf-8") as file:
        head, record = map(json.loads, file)
    [source] = head["sources"]
    assert (source["project"], source["licence"], source["sequences"]) == ("free", "MIT", 1)
    assert len(source["head"]) == len(record["commit"]) == 40
    assert record["licence"] == "MIT"
    [sequence] = read_sequences(out)
    assert "\n".join(sequence.after) == changed(2, 9)
    arguments = ["", "--git", str(tmp_path / "none"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert module.main() == 2
    assert "none" in capsys.readouterr().err


def test_another_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl.gz"
    with gzip.open(other, "wt") as file:
        file.write('{"text": 1}\n')
    with pytest.raises(ValueError, match="not a file of hunk sequences"):
        list(read_sequences(other))
