"""Which adapter belongs to a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from fim_model.requests import ADAPTER_FILE, ADAPTER_NAME

from fim_server.access.tuned_workspaces import adapter_name, adapters_folder
from fim_server.access.workspace import Workspace
from fim_server.settings.settings import Settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "project"
    (folder / "part").mkdir(parents=True)
    return folder


def tuned(folder: Path) -> str:
    name = adapter_name(folder)
    place = adapters_folder() / name
    place.mkdir(parents=True)
    (place / ADAPTER_FILE).touch()
    return name


def test_a_file_has_the_adapter_of_its_workspace(project: Path, tmp_path: Path) -> None:
    uri = (project / "part" / "a.py").as_uri()
    workspace = Workspace([project])
    assert workspace.adapter_of(uri) == "", "not tuned"
    name = tuned(project)
    assert ADAPTER_NAME.fullmatch(name)
    assert workspace.adapter_of(uri) == name
    assert Workspace([project / "part"]).adapter_of(uri) == name, "a part of it is open"
    assert workspace.adapter_of((tmp_path / "elsewhere.py").as_uri()) == ""
    assert workspace.adapter_of("untitled:1") == ""
    own = tuned(project / "part")
    assert workspace.adapter_of(uri) == own != name, "the innermost one"


def test_the_setting_switches_it(project: Path) -> None:
    tuned(project)
    uri = (project / "a.py").as_uri()
    assert Workspace([project]).adapter_of(uri)
    assert not Workspace([project], Settings(adapter=False)).adapter_of(uri)


def test_every_path_to_a_folder_gives_one_name(project: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)
    assert adapter_name(tmp_path / "link") == adapter_name(project)
    assert adapter_name(project / "part" / "..") == adapter_name(project)
    assert adapter_name(project) != adapter_name(project / "part")
