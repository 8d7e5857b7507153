"""Files excluded by name, pattern, size or link target are not opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fim_server.access import files
from fim_server.access.exclusions import LINK, OUTSIDE, Exclusions
from fim_server.access.files import read_allowed
from fim_server.access.secret_names import secret_pattern


def put(path: Path, text: str = "x = 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".ENV",
        ".env.local",
        "prod.env",
        "deploy/server.key",
        "tls/cert.pem",
        "id_rsa",
        "id_ed25519.pub",
        ".ssh/config",
        ".aws/credentials",
        "home/.netrc",
        "credentials.json",
        "secrets.yaml",
        "service-account-prod.json",
        "infra/terraform.tfstate",
        ".git/config",
        ".npmrc",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert secret_pattern(name)


@pytest.mark.parametrize(
    "name",
    [".env.example", "environment.py", "secrets.py", "keys.py", "env/main.py", "monkey.py", "a.md"],
)
def test_names_that_only_resemble_secrets(name: str) -> None:
    assert secret_pattern(name) is None


def test_gitignore_rules_of_all_folders(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    put(tmp_path / ".gitignore", "# a comment\n\n*.log\nbuild/\n/top.py\n!kept.log\n")
    put(tmp_path / "pkg/.gitignore", "generated.py\n!noise.log\n")
    put(tmp_path / ".git/info/exclude", "private.py\n")
    rules = Exclusions([tmp_path])

    def refused(name: str) -> str | None:
        return rules.why_not_read(tmp_path / name)

    assert refused("a.log") == ".gitignore: *.log"
    assert refused("pkg/a.log") == ".gitignore: *.log"
    assert refused("kept.log") is None
    assert refused("pkg/noise.log") is None, "the deeper file overrules"
    assert refused("pkg/generated.py") == "pkg/.gitignore: generated.py"
    assert refused("generated.py") is None
    assert refused("top.py") == ".gitignore: /top.py"
    assert refused("pkg/top.py") is None
    assert refused("build/kept.log") == ".gitignore: build/", "a folder cannot be taken back"
    assert refused("private.py") == ".git/info/exclude: private.py"
    assert Exclusions([tmp_path], gitignore=False).why_not_read(tmp_path / "a.log") is None


def test_a_workspace_below_the_repository_root_obeys_its_rules(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    put(tmp_path / ".gitignore", "gen_*.py\n")
    rules = Exclusions([tmp_path / "sub"])
    assert rules.why_not_read(tmp_path / "sub/gen_a.py") == ".gitignore: gen_*.py"
    assert rules.why_not_read(tmp_path / "sub/a.py") is None
    assert rules.why_not_read(tmp_path / "a.py") == OUTSIDE


def test_fimignore_and_the_setting(tmp_path: Path) -> None:
    put(tmp_path / ".fimignore", "legal/\n")
    rules = Exclusions([tmp_path], ["*_pb2.py", "vendor/"])
    assert rules.why_not_read(tmp_path / "legal/a.py") == ".fimignore: legal/"
    assert rules.why_not_read(tmp_path / "x/a_pb2.py") == "setting exclude: *_pb2.py"
    assert rules.why_not_read(tmp_path / "vendor/x/a.py") == "setting exclude: vendor/"
    assert rules.why_not_read(tmp_path / "a.py") is None


def test_a_changed_ignore_file_takes_effect_at_once(tmp_path: Path) -> None:
    rules = Exclusions([tmp_path])
    assert rules.why_not_read(tmp_path / "a.py") is None
    put(tmp_path / ".gitignore", "a.py")
    assert rules.why_not_read(tmp_path / "a.py")
    put(tmp_path / ".gitignore", "!")
    assert rules.why_not_read(tmp_path / "a.py") is None, "a line that is no pattern says nothing"


def test_links_out_of_the_workspace_are_refused(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    put(other / "a.py")
    (root / "link.py").symlink_to(other / "a.py")
    (root / "folder").symlink_to(other)
    (root / "loop.py").symlink_to(root / "loop.py")
    put(root / ".env", "KEY=1")
    (root / "notes.txt").symlink_to(root / ".env")
    put(root / "plain.py")
    (root / "alias.py").symlink_to(root / "plain.py")
    rules = Exclusions([root])
    for name in ("link.py", "folder/a.py"):
        assert rules.why_not_read(root / name) == LINK
        assert rules.why_not_show(root / name) == LINK
        assert read_allowed(root / name, rules) is None
    assert "secrets" in (rules.why_not_read(root / "notes.txt") or "")
    assert read_allowed(root / "loop.py", rules) is None
    assert read_allowed(root / "alias.py", rules) == "x = 1\n"
    assert rules.why_not_read(root / "../other/a.py") == OUTSIDE


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ignore_files_as_editors_on_any_system_write_them(
    encoding: str, end: str, tmp_path: Path
) -> None:
    mark = "\ufeff" if encoding.endswith("e") else ""
    (tmp_path / ".fimignore").write_bytes(f"{mark}private.py{end}other.py{end}".encode(encoding))
    rules = Exclusions([tmp_path])
    for name in ("private.py", "other.py"):
        assert rules.why_not_show(put(tmp_path / name)) == f".fimignore: {name}"
    assert rules.why_not_show(put(tmp_path / "public.py")) is None


def test_a_workspace_may_be_reached_through_a_link(tmp_path: Path) -> None:
    put(tmp_path / "real/a.py")
    (tmp_path / "named").symlink_to(tmp_path / "real")
    rules = Exclusions([tmp_path / "named"])
    assert rules.why_not_read(tmp_path / "named/a.py") is None
    assert rules.why_not_read(tmp_path / "real/a.py") is None


def test_an_open_document_may_be_outside_but_not_a_secret(tmp_path: Path) -> None:
    rules = Exclusions([tmp_path / "root"])
    assert rules.why_not_show(tmp_path / "other/a.py") is None
    assert rules.why_not_show(tmp_path / "other/.env")
    assert Exclusions().why_not_show(tmp_path / "a.py") is None
    assert Exclusions().why_not_read(tmp_path / "a.py") == OUTSIDE


def test_large_binary_and_special_files_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = Exclusions([tmp_path])
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    assert read_allowed(put(tmp_path / "large.py", "x" * 101), rules) is None
    assert read_allowed(put(tmp_path / "fits.py", "x" * 100), rules) == "x" * 100
    (tmp_path / "binary.py").write_bytes(b"x\0y")
    (tmp_path / "latin.py").write_bytes(b"\xe9")
    os.mkfifo(tmp_path / "pipe.py")
    for name in ("binary.py", "latin.py", "pipe.py", "none.py", ""):
        assert read_allowed(tmp_path / name, rules) is None, name
