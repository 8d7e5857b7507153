"""What an editor excludes counts for commands that run without it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fim_server.access.editor_rules import (
    EditorRules,
    ExclusionsOfAll,
    record_rules,
    recorded_rules,
    rules_folder,
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "project"
    (folder / "part" / "private").mkdir(parents=True)
    (folder / ".gitignore").write_text("built.py\n")
    return folder


def record(root: Path, *exclude: str, client: str = "editor", gitignore: bool = False) -> None:
    record_rules(root, client, EditorRules(str(root), exclude, gitignore))


def readable(root: Path, *names: str) -> list[str]:
    exclusions = ExclusionsOfAll(root, ["own.py"], gitignore=False)
    return [name for name in names if exclusions.why_not_read(root / name) is None]


def test_every_editors_patterns_are_obeyed_until_it_has_none(project: Path) -> None:
    names = ("a.py", "one.py", "two.py", "own.py", "built.py")
    assert readable(project, *names) == ["a.py", "one.py", "two.py", "built.py"]
    record(project, "one.py", client="one")
    record(project, "two.py", client="two", gitignore=True)
    assert readable(project, *names) == ["a.py"]
    record_rules(project, "two", None)
    record_rules(project, "never there", None)
    assert readable(project, *names) == ["a.py", "two.py", "built.py"]


def test_patterns_are_relative_to_the_folder_that_the_editor_opened(project: Path) -> None:
    names = ("x.py", "part/x.py", "private/x.py", "part/private/x.py")
    record(project / "part", "/x.py", "private/")
    assert readable(project, *names) == ["x.py", "private/x.py"]
    assert readable(project / "part", "x.py", "y.py") == ["y.py"]
    record(project.parent, "project/private/", client="another")
    assert readable(project, *names) == ["x.py"]
    record(project.parent / "elsewhere", "*")
    assert readable(project, *names) == ["x.py"]


def test_rules_are_the_users_alone_and_written_once(project: Path) -> None:
    record(project, "one.py")
    [file] = rules_folder().iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(rules_folder().stat().st_mode) == 0o700
    before = file.stat()
    record(project, "one.py")
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert recorded_rules() == [EditorRules(str(project), ("one.py",), gitignore=False)]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"workspace": "/x", "exclude": [1], "gitignore": true}', "[" * 9999]
)
def test_rules_that_cannot_be_read_stop_the_reader(project: Path, text: str) -> None:
    record(project, "one.py")
    [file] = rules_folder().iterdir()
    file.write_text(text)
    with pytest.raises(ValueError, match="what an editor excludes cannot be read"):
        ExclusionsOfAll(project, [], gitignore=True)
