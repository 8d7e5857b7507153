"""One document that loops, vanishes or is no file must not silence all others.

The real server process with the scripted backend; other open documents and files beside a document
are read for every completion.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_client import RawClient, raw_client

from fim_server.access.exclusions import Exclusions
from fim_server.access.files import files_beside, read_allowed
from fim_server.access.workspace import Workspace, file_of
from fim_server.context.imported_files import imported_files

ODD_URIS = [
    "file:///a\ud800.py",
    "file:///\udc00/b.py",
    "file:///a%00b.py",
    "file:///%ED%A0%80.py",
    "file:///%FF%FE.py",
    "file:///" + "x" * 300 + ".py",
    "file:///" + "d/" * 3000 + "x.py",
    "file://host/share/x.py",
    "file://[",
    "file:relative.py",
    "file:///",
    "file:",
    "FILE:///upper.py",
    "untitled:\ud800",
    "untitled:Untitled-1",
    "vscode-notebook-cell:/n.ipynb#\ud800",
    "git:/x.py?%7B%22ref%22%3A%22~%22%7D",
    "http://[::1/x.py",
    "",
    ":",
    "\0",
]


async def check(client: RawClient, uri: str) -> None:
    """Complete the rest of a line, for which other files are read."""
    client.open(uri, "value = other\n#say x")
    assert await client.complete(uri, 1, 6) == ["x"]


@pytest.mark.parametrize("snippets", [0, 4])
async def test_documents_with_odd_uris_leave_the_others_alone(
    snippets: int, tmp_path: Path
) -> None:
    async with raw_client() as client:
        await client.initialize({"snippets": snippets, "logLevel": "debug"})
        for index, uri in enumerate(ODD_URIS):
            client.open(uri, f"#say {index}")
            await client.complete(uri, 0, 99)
            await check(client, (tmp_path / "good.py").as_uri())
        for uri in ODD_URIS:
            client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        await check(client, (tmp_path / "good.py").as_uri())
        assert await client.leave() == 0
        assert "internal_error" not in client.stderr
        assert "Traceback" not in client.stderr


def loop(file: Path) -> None:
    file.symlink_to(file.name)


def long_loop(file: Path) -> None:
    file.symlink_to("second.py")
    (file.parent / "second.py").symlink_to(file.name)


def loop_of_folders(file: Path) -> None:
    (file.parent / "inner").symlink_to(".")
    file.symlink_to("inner/" * 60 + file.name)


def dangling(file: Path) -> None:
    file.symlink_to("/there/is/no/such/file")


def zeros(file: Path) -> None:
    file.symlink_to("/dev/zero")


def listening(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(file))


def secret(file: Path) -> None:
    file.write_text("secret = other\n")
    file.chmod(0)


def gone(file: Path) -> None:
    """The file's folder vanishes as well."""
    shutil.rmtree(file.parent)


@pytest.mark.parametrize(
    "become",
    [
        loop, long_loop, loop_of_folders, dangling, zeros, listening, secret, gone,
        Path.mkdir, os.mkfifo,
    ],
)  # fmt: skip
async def test_a_file_that_changes_its_kind_while_open(
    become: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    file, good = folder / "odd.py", folder / "good.py"
    good.write_text("import odd\nfrom odd import other\n")
    file.write_text("other = 1\n")
    async with raw_client() as client:
        await client.initialize({"snippets": 4, "logLevel": "debug"})
        client.open(file.as_uri(), "#say odd")
        assert await client.complete(file.as_uri(), 0, 8) == ["odd"]
        file.unlink()
        become(file)
        await check(client, good.as_uri())
        # Open, closed again (the file on disk may be read now), and opened anew.
        client.change(file.as_uri(), 2, (0, 0), (0, 0), " ")
        assert await client.complete(file.as_uri(), 0, 9) in (["odd"], []), "at most excluded"
        await check(client, good.as_uri())
        client.notify("textDocument/didClose", {"textDocument": {"uri": file.as_uri()}})
        client.change(good.as_uri(), 2, (0, 0), (0, 0), "import odd\n")
        assert await client.complete(good.as_uri(), 2, 6) == ["x"]
        assert await client.leave() == 0
        assert "internal_error" not in client.stderr
        assert "Traceback" not in client.stderr


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    exclusions = Exclusions([tmp_path])
    for name, become in {"a": loop, "b": zeros, "c": listening, "d": os.mkfifo}.items():
        become(tmp_path / name)
        assert read_allowed(tmp_path / name, exclusions) is None
    assert read_allowed(tmp_path, exclusions) is None
    (tmp_path / "good.py").write_text("x = 1")
    assert files_beside(tmp_path / "e.py") == [tmp_path / "good.py"]


@pytest.mark.parametrize("pattern", ["[z-a]", "[a-\\d]", "!", "\\", "[\\d-a]"])
def test_a_pattern_that_is_none_does_not_disable_the_others(pattern: str, tmp_path: Path) -> None:
    (tmp_path / ".fimignore").write_text(f"{pattern}\nprivate.py\n{pattern}\n")
    exclusions = Exclusions([tmp_path])
    assert exclusions.why_not_show(tmp_path / "private.py") == ".fimignore: private.py"
    assert exclusions.why_not_show(tmp_path / "public.py") is None


def test_an_ignore_file_that_becomes_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".gitignore")
    (tmp_path / ".fimignore").symlink_to(".fimignore")
    assert Exclusions([tmp_path]).why_not_show(tmp_path / "x.py") is None


@pytest.mark.parametrize("uri", ODD_URIS)
def test_odd_uris_have_a_verdict_and_a_name(uri: str, tmp_path: Path) -> None:
    workspace = Workspace([tmp_path])
    assert isinstance(workspace.why_not_show(uri), str | None)
    assert workspace.shown_path(uri).encode() is not None
    file = file_of(uri)
    assert file is None or file.is_absolute()


def test_secrets_stay_secret_whatever_their_path(tmp_path: Path) -> None:
    loop(tmp_path / "id_rsa")
    workspace = Workspace([tmp_path])
    for uri in (f"file://{tmp_path}/id_rsa", "file:///\ud800/.env", "untitled:\ud800/.env"):
        assert "secrets" in (workspace.why_not_show(uri) or ""), uri


@pytest.mark.parametrize("line", ["import .", "import ..", "from .. import ", "import a..b"])
def test_imports_while_they_are_typed(line: str, tmp_path: Path) -> None:
    for paths in imported_files(line, "py", tmp_path / "a.py", [tmp_path]):
        assert all(path.is_absolute() for path in paths)
