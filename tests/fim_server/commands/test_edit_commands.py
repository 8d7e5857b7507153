"""`fim-server edit` and `revise` on a small random model: arguments and output."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from tiny_checkpoint import write_tiny_checkpoint

from fim_server.cli import main
from fim_server.commands.patch import PatchError, hunks_of
from fim_server.documents.documents import Encoding, Snapshot, split_lines

CODE = "def add(first, second):\n    return first + second\n\n\nprint(add(1, 2))\n"
PATCH = """\
--- a/code.py
+++ b/code.py
@@ -1,2 +1,2 @@
-def sum(first, second):
+def add(first, second):
     return first + second
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("model")))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text(CODE)
    (tmp_path / "edits.patch").write_text(PATCH)
    return tmp_path / "code.py"


def test_edit_proposes_edits_that_follow_from_a_patch(
    file: Path, model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(PATCH.replace("-def sum", "-def plus")))
    for history in (str(file.with_name("edits.patch")), "-"):
        arguments = [
            "edit",
            str(file),
            "--history",
            history,
            "--model",
            model,
            "--threads",
            "1",
            "--backend",
            "in_process",
        ]
        assert main([*arguments, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert set(answer) == {"edits", "silent", "stats"}
        for edit in answer["edits"]:
            assert edit["old"] == CODE.split("\n")[edit["line"] - 1 :][: len(edit["old"])]
            assert edit["new"] != edit["old"]
            assert edit["gain"] >= 2
    monkeypatch.setattr("sys.stdin", io.StringIO(PATCH))
    assert main(arguments) == 0
    assert "regions" in capsys.readouterr().out
    assert file.read_text() == CODE, "shown, not applied"


def test_revise_shows_the_models_version_of_lines(
    file: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "revise",
        str(file),
        "--lines",
        "1-2",
        "--model",
        model,
        "--threads",
        "1",
        "--backend",
        "in_process",
    ]
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["old"] == CODE.split("\n")[:2]
    assert answer["way"] == "refill"
    assert (answer["gain"] == 0) == (answer["old"] == answer["new"])
    assert main(arguments) == 0
    assert "refill" in capsys.readouterr().out
    assert main([*arguments, "--watch"]) == 0
    assert "return" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["revise", "code.py", "--lines", "x"], "--lines x: expected A-B"),
        (["revise", "code.py", "--lines", "3-2"], "--lines 3-2: code.py has lines 1 to 5"),
        (["revise", "code.py", "--lines", "0-2"], "has lines 1 to 5"),
        (["revise", "code.py", "--lines", "5-6"], "has lines 1 to 5"),
        (["revise", "none.py", "--lines", "1"], "none.py: there is no such file"),
        (["edit", "code.py", "--history", "none"], "none: there is no such file"),
        (["edit", "code.py", "--history", "code.py"], "code.py: it has no changes"),
        (["edit", "code.py", "--history", "old.patch"], "its change at line 1 is not in the file"),
        (["edit", "code.py", "--history", "bad.patch"], "bad.patch: it is not a unified diff"),
        (
            ["edit", ".env", "--history", "edits.patch"],
            ".env: excluded (its name matches a pattern for secrets",
        ),
    ],
)
def test_invalid_input_is_a_one_line_error_with_exit_code_2(
    arguments: list[str],
    said: str,
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(file.parent)
    Path("old.patch").write_text(PATCH.replace("+def add", "+def plus"))
    Path("bad.patch").write_text("--- a/code.py\n+++ b/code.py\n@@ -1,3 +1,3 @@\n-x\n")
    Path(".env").write_text("SECRET=1\n")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_patch_of_several_files_with_deletions_and_crlf() -> None:
    text = "a\r\nb2\r\nc\r\n"
    snapshot = Snapshot("file:///p/code.py", "python", 1, 1, Encoding.UTF32, split_lines(text))
    patch = (
        "--- a/other.py\n+++ b/other.py\n@@ -1,1 +1,1 @@\n-x\n+y\n"
        "--- a/code.py\n+++ b/code.py\n@@ -1,5 +1,3 @@\n a\n-b\n+b2\n c\n-d\n-e\n"
    )
    hunks = hunks_of(patch, snapshot)
    assert [(hunk.uri, hunk.first, hunk.old, hunk.new) for hunk in hunks] == [
        ("patch:other.py", 0, ("x",), ("y",)),
        ("file:///p/code.py", 1, ("b",), ("b2",)),
        ("file:///p/code.py", 3, ("d", "e"), ()),
    ]
    with pytest.raises(PatchError, match="no changes"):
        hunks_of("", snapshot)


def test_edit_says_why_a_place_is_left_alone(
    file: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A renamed function with a call beside it: one place, and a reason where nothing is shown."""
    patch = file.with_name("rename.patch")
    patch.write_text(PATCH.replace("-def sum", "-def plus"))
    file.write_text(CODE.replace("print(add(1, 2))", "print(plus(1, 2))\nprint(plus(3, 4))"))
    options = [
        "--history",
        str(patch),
        "--model",
        model,
        "--threads",
        "1",
        "--backend",
        "in_process",
    ]
    options += ["--backend", "in_process"]
    assert main(["edit", str(file), *options, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["stats"]["regions"] > 0
    assert len(answer["edits"]) + len(answer["silent"]) == answer["stats"]["regions"]
    for silence in answer["silent"]:
        assert silence["line"] >= 1
        assert "minEditGain asks for" in silence["why"] or "leave it as it is" in silence["why"]


def test_edit_says_that_no_rule_expects_a_change(
    file: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = file.with_name("lonely.patch")
    patch.write_text(
        "--- a/code.py\n+++ b/code.py\n@@ -1,1 +1,2 @@\n+unrelated = 1\n def add(first, second):\n"
    )
    file.write_text("unrelated = 1\n" + CODE)
    options = ["--history", str(patch), "--model", model, "--backend", "in_process"]
    assert main(["edit", str(file), *options]) == 0
    assert "no rule expects another change" in capsys.readouterr().out
