"""Checkpoints by id: the real hub client with a local hub server, and without a hub."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from checkpoints import nld_checkpoint
from fim_model.loading.hub import HubError, local_folder

ID = "someone/tiny-diffusion"
COMMIT = "a" * 40


@dataclass
class Hub:
    """Serves a folder as a model repository, with the endpoints that the client uses.

    fetched: bytes sent of each file. cut, cuts: close the next `cuts` connections after `cut` bytes
    of a large weight. claimed: size to claim for every weight. status: error with which to answer
    every request.
    """

    folder: Path
    fetched: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    cut: int | None = None
    cuts: int = 0
    claimed: int | None = None
    status: int | None = None
    port: int = 0

    def files(self) -> dict[str, Path]:
        return {
            str(path.relative_to(self.folder)): path
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def size(self, name: str) -> int:
        real = self.files()[name].stat().st_size
        return self.claimed if self.claimed and name.endswith(".safetensors") else real


def handler_for(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            hub.requests += 1
            path = urlparse(self.path).path
            if hub.status is not None:
                self.error(hub.status)
            elif not path.startswith((f"/api/models/{ID}", f"/{ID}/resolve/")):
                self.error(404, "RepoNotFound")
            elif path.startswith("/api"):
                self.send_json(self.tree() if "/tree/" in path else self.info())
            else:
                self.send_file(path.split("/", 5)[5] if path.count("/") > 4 else "", body)

        def info(self) -> dict[str, Any]:
            siblings = [{"rfilename": name} for name in hub.files()]
            return {"id": ID, "modelId": ID, "sha": COMMIT, "siblings": siblings, "tags": [],
                    "private": False, "downloads": 0}  # fmt: skip

        def tree(self) -> list[dict[str, Any]]:
            return [
                {"type": "file", "path": name, "size": hub.size(name), "oid": etag(path)}
                for name, path in hub.files().items()
            ]

        def send_file(self, name: str, body: bool) -> None:
            path = hub.files().get(name)
            if path is None:
                self.error(404, "EntryNotFound")
                return
            content, start = path.read_bytes(), 0
            if given := self.headers.get("Range"):
                start, _, end = given.removeprefix("bytes=").partition("-")
                start = int(start)
                content = content[start : int(end) + 1 if end else None]
            self.send_response(206 if given else 200)
            self.send_header("ETag", f'"{etag(path)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            size = hub.size(name) if not given else len(content)
            self.send_header("Content-Length", str(size))
            if given:
                whole = hub.size(name)
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            self.end_headers()
            if not body:
                return
            large = name.endswith(".safetensors") and len(content) > (hub.cut or 0)
            if hub.cut is not None and hub.cuts and large:
                content = content[: hub.cut]
                hub.cuts -= 1
                self.close_connection = True
            hub.fetched[name] = hub.fetched.get(name, 0) + len(content)
            self.wfile.write(content)

        def send_json(self, what: Any) -> None:
            content = json.dumps(what).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def error(self, status: int, code: str = "") -> None:
            self.send_response(status)
            if code or status == 403:
                self.send_header("X-Error-Code", code or "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


def etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "repository"
    nld_checkpoint(folder)
    # Files that must never be fetched.
    (folder / "modeling_nemotron_labs_diffusion.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "consolidated.safetensors").write_bytes(b"a second copy")
    served = Hub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(served))
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()


SCRIPT = """
import json, sys
from fim_model.errors import CheckpointError
from fim_model.loading.hub import on_this_machine, resolve
told = []
before = on_this_machine(sys.argv[1])
def check(folder):
    told.append(["check", sorted(p.name for p in folder.rglob("*") if p.is_file())])
    if "refuse" in sys.argv:
        raise CheckpointError("not this one")
try:
    folder = resolve(sys.argv[1], check=check, progress=lambda what, share: told.append(share))
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    result = {"folder": str(folder), "files": files}
    assert on_this_machine(sys.argv[1]) == folder
except CheckpointError as error:
    result = {"error": str(error)}
result["torch"] = "torch" in sys.modules
result["before"] = before and str(before)
print(json.dumps({**result, "told": told}))
"""


def run(tmp_path: Path, port: int, name: str = ID, *more: str, **env: str) -> dict[str, Any]:
    """Call `resolve` in a subprocess, because the client reads its settings on import."""
    settings = {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path / "home"),
        "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "HF_HUB_ETAG_TIMEOUT": "5",
    }  # fmt: skip
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, *more],
        env=ours | settings | env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)  # stdout must contain nothing else
    assert "\n" not in result.get("error", "")
    assert not result["torch"]
    return result


JSON_FILES = ["adapter_config.json", "config.json", "model.safetensors.index.json",
              "tokenizer.json"]  # fmt: skip


def test_metadata_is_fetched_first_and_only_needed_files(tmp_path: Path, hub: Hub) -> None:
    result = run(tmp_path, hub.port)
    assert result["told"][0] == ["check", JSON_FILES]
    assert result["files"] == [
        "config.json",
        "linear_spec_lora/adapter_config.json",
        "linear_spec_lora/adapter_model.safetensors",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]
    shares = result["told"][1:]
    assert len(shares) > 1
    assert shares == sorted(set(shares)), "rising, however many files come at once"
    assert shares[-1] == 1.0


def test_an_unusable_checkpoint_is_refused_before_its_weights(tmp_path: Path, hub: Hub) -> None:
    result = run(tmp_path, hub.port, ID, "refuse")
    assert result["error"] == "not this one"
    assert not [name for name in hub.fetched if name.endswith(".safetensors")]


def test_files_are_cached_and_work_offline(tmp_path: Path, hub: Hub) -> None:
    first = run(tmp_path, hub.port)
    folder = first["folder"]
    assert first["before"] is None
    hub.fetched.clear()
    again = run(tmp_path, hub.port)
    assert again["folder"] == again["before"] == folder
    assert hub.fetched == {}
    hub.requests = 0
    assert run(tmp_path, hub.port, HF_HUB_OFFLINE="1")["folder"] == folder
    assert hub.requests == 0
    assert run(tmp_path, 9, ID)["folder"] == folder  # nothing listens on that port


def test_a_broken_download_is_resumed(tmp_path: Path, hub: Hub) -> None:
    """The client writes chunks of 10 MiB; the chunks written before are not sent again."""
    nld_checkpoint(hub.folder, vocab_size=2**17)
    hub.cut, hub.cuts = 11 * 2**20, 1
    assert len(run(tmp_path, hub.port)["files"]) == 7
    assert hub.cuts == 0
    size = sum(path.stat().st_size for name, path in hub.files().items() if name in hub.fetched)
    assert size < sum(hub.fetched.values()) <= size + 2**20


def test_after_a_failed_download_whole_files_are_kept(tmp_path: Path, hub: Hub) -> None:
    hub.cut, hub.cuts = 20_000, 100
    (hub.folder / "model-00002-of-00002.safetensors").rename(hub.folder / "later")
    first = run(tmp_path, hub.port)
    assert "the download failed" in first["error"]
    assert "files that are whole are not fetched again" in first["error"]
    assert run(tmp_path, hub.port, HF_HUB_OFFLINE="1")["error"].startswith(ID)
    hub.cuts = 0
    hub.fetched.clear()
    assert len(run(tmp_path, hub.port)["files"]) == 6
    assert not {"config.json", "tokenizer.json"} & hub.fetched.keys()


def test_disk_space_is_checked_before_the_download(tmp_path: Path, hub: Hub) -> None:
    hub.claimed = 10**15
    result = run(tmp_path, hub.port)
    assert "3000000.0 GB are to be downloaded" in result["error"]
    assert "HF_HOME" in result["error"]
    assert not [name for name in hub.fetched if name.endswith(".safetensors")]


def test_errors_name_an_unknown_id_a_gated_one_and_a_failing_hub(tmp_path: Path, hub: Hub) -> None:
    unknown = run(tmp_path, hub.port, "someone/else")["error"]
    assert unknown.startswith("someone/else: there is no such folder, and no such model")
    hub.status = 403
    assert "accept its terms" in run(tmp_path, hub.port)["error"]
    hub.status = 500
    assert run(tmp_path, hub.port)["error"].startswith(ID)


@pytest.mark.parametrize("env", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_an_unreachable_hub_is_reported(tmp_path: Path, env: dict[str, str]) -> None:
    result = run(tmp_path, 9, ID, **env)
    assert result["error"].startswith(f"{ID}: there is no such folder, the hub cannot be reached")
    assert result["told"] == []


def test_a_local_folder_takes_precedence_over_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ID).mkdir(parents=True)
    assert local_folder(ID) == Path(ID)
    assert local_folder("another/one") is None


NAMES_OF_NOTHING = ["nowhere", "/no/such/folder", "a/b/c", "./x", "../up/there", "~no-such-user/x"]


@pytest.mark.parametrize("name", [*NAMES_OF_NOTHING, ""])
def test_a_name_that_is_neither_folder_nor_id_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="there is no such checkpoint folder") as caught:
        local_folder(str(tmp_path / "gone") if name == "" else name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_pipe_in_a_checkpoint_is_named_instead_of_read(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(HubError, match=rf"{name}: is no file but a pipe"):
        local_folder(tmp_path)


def test_a_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    with pytest.raises(HubError, match="a checkpoint is a folder"):
        local_folder(str(tmp_path / "model.bin"))
    (tmp_path / "model.gguf").touch()
    assert local_folder(str(tmp_path / "model.gguf")) == tmp_path / "model.gguf"
