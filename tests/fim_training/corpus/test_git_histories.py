"""Reading the changes of files from a git history, and shortest line diffs."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fim_training.corpus.git_histories import GitHistory, GitHistoryError
from fim_training.corpus.line_diff import LineHunk, applied, line_distance, line_hunks
from git_clones import git, write_clone


def test_the_changes_of_commits(tmp_path: Path) -> None:
    clone = write_clone(
        tmp_path / "tools.git",
        [
            ("add", {"a.py": "x = 1\n", "lib/ä b.py": "y = 1\n"}),
            ("change: two", {"a.py": "x = 2\n", "c.py": "new\n"}),
        ],
    )
    with GitHistory(clone) as history:
        assert history.name == "tools"
        assert history.head == git(clone, "rev-parse", "HEAD").strip()
        assert history.licence.licence == "MIT"
        last, first = history.commits()
        assert (last.subject, last.files, first.changes) == ("change: two", 2, ())
        [change] = last.changes
        assert change.path == "a.py"
        assert (history.text(change.before), history.text(change.after)) == ("x = 1\n", "x = 2\n")
        assert {*history.files(last.parent, "lib")} == {"lib/ä b.py"}
        assert history.text("0" * 40) is None


def test_a_link_to_a_clone_names_the_project(tmp_path: Path) -> None:
    clone = write_clone(tmp_path / "store" / "repo", [("add", {"a.py": "x = 1\n"})])
    (tmp_path / "tools").symlink_to(clone)
    for way in ("tools", "store/../tools", "tools/.git"):
        with GitHistory(tmp_path / way) as history:
            assert history.name == "tools", way


def test_the_history_is_listed_as_far_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = [(f"edit {n}", {"a.py": f"x = {n}\n"}) for n in range(5)]
    clone = write_clone(tmp_path / "a", edits)
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            started.append(self)

    with GitHistory(clone) as history:
        monkeypatch.setattr(subprocess, "Popen", Watched)
        assert [commit.subject for commit in history.commits(2)] == ["edit 4", "edit 3"]
        commits = history.commits()
        assert next(commits).subject == "edit 4"
        assert started[-1].returncode is None
        commits.close()
    assert started[-1].returncode is not None, "git has ended"


def test_a_history_with_a_lost_commit(tmp_path: Path) -> None:
    clone = write_clone(tmp_path / "a", [(f"edit {n}", {"a.py": f"{n}\n"}) for n in range(3)])
    lost = git(clone, "rev-parse", "HEAD~2").strip()
    (clone / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    with (
        GitHistory(clone) as history,
        pytest.raises(GitHistoryError, match=r"no readable git history \(.*give the folder"),
    ):
        list(history.commits())


def test_odd_subjects_and_names(tmp_path: Path) -> None:
    clone = write_clone(
        tmp_path / "a",
        [
            ("one", {"ä b.py": "x = 1\n"}),
            ("odd \x01 subject \x02 of mine", {"ä b.py": "x = 2\n"}),
        ],
    )
    git(clone, "config", "color.ui", "always")
    with GitHistory(clone) as history:
        last, _ = history.commits()
    assert last.subject == "odd \x01 subject \x02 of mine"
    assert [change.path for change in last.changes] == ["ä b.py"]


def test_nothing_is_fetched_for_a_partial_clone(tmp_path: Path) -> None:
    source = write_clone(tmp_path / "a", [("one", {"a.py": "x = 1\n"}), ("two", {"a.py": "y\n"})])
    git(source, "config", "uploadpack.allowFilter", "true")
    git(source, "config", "uploadpack.allowAnySHA1InWant", "true")
    partial = tmp_path / "partial"
    git(source, "clone", "-q", "--filter=blob:none", f"file://{source}", str(partial))
    with GitHistory(partial) as history:
        last, _ = history.commits()
        [change] = last.changes
        assert history.text(change.before) is None
        assert history.text(change.after) == "y\n", "what is there is read after that as well"
    git(partial, "cat-file", "-e", change.before)  # fetched, when git may


def test_a_merge_is_left_out(tmp_path: Path) -> None:
    clone = write_clone(tmp_path / "a", [("one", {"a.py": "x = 1\n"})])
    branch = git(clone, "branch", "--show-current").strip()
    who = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    git(clone, "checkout", "-q", "-b", "side", "HEAD~1")
    git(clone, *who, "commit", "-q", "--allow-empty", "-m", "side")
    git(clone, *who, "merge", "-q", "-m", "both", branch)
    with GitHistory(clone) as history:
        assert {commit.subject for commit in history.commits()} == {"one", "side"}


def test_a_copyleft_history_and_one_without_a_licence(tmp_path: Path) -> None:
    for name, text in (("gpl", "GNU General Public License"), ("none", "")):
        with GitHistory(write_clone(tmp_path / name, [], text)) as history:
            assert not history.licence.permissive


def test_a_folder_without_history(tmp_path: Path) -> None:
    with pytest.raises(GitHistoryError, match="give the folder of a clone that has commits"):
        GitHistory(tmp_path)


def test_a_diff_is_a_shortest_one() -> None:
    rng = Random(0)
    for _ in range(400):
        before, after = ([rng.choice("abc") for _ in range(rng.randint(0, 8))] for _ in "12")
        shortest = len(before) + len(after) - 2 * _common(before, after)
        assert line_distance(before, after, 20) == shortest
        assert shortest == 0 or line_distance(before, after, shortest - 1) is None
        hunks = line_hunks(before, after, 20)
        assert hunks is not None
        assert applied(before, hunks) == after
        assert sum(len(hunk.old) + len(hunk.new) for hunk in hunks) == shortest
        assert all(above.end < below.first for above, below in pairwise(hunks))


def test_a_diff_above_the_limit() -> None:
    assert line_hunks(["a"], ["b"], 1) is None
    assert line_hunks(["a"], ["b"], 2) == [LineHunk(0, ("a",), ("b",))]


def _common(first: list[str], second: list[str]) -> int:
    """The length of a longest common subsequence, by the textbook's table."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            same = table[i][j] + 1
            table[i + 1][j + 1] = same if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]
