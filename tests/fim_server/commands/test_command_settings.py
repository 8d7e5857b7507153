"""Every command takes its settings from the same sources: `config.toml`, then the command line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from engine_fixtures import checkpoint, home, tcp
from engine_home import EngineHome, TcpEngine

from fim_server.cli import main
from fim_server.settings.sources import config_file

__all__ = ["checkpoint", "home", "tcp"]

CODE = "def add(first, second):\n    return \n"


@pytest.fixture
def config() -> Iterator[Path]:
    """The user's settings file, removed afterwards."""
    file = config_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    yield file
    file.unlink(missing_ok=True)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    file = tmp_path / "code.py"
    file.write_text(CODE)
    return file


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert isinstance(said, dict)
    return said


def run(home: EngineHome, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fim_server", *arguments]
    return subprocess.run(
        command, env=home.environment, capture_output=True, text=True, timeout=120, **more
    )


def test_complete_asks_the_running_engine(home: EngineHome, code: Path, config: Path) -> None:
    config.write_text(f'model = "{home.model}"\nmaxTokens = 3\n')
    engine = home.start()
    home.wait_until_ready()
    done = run(home, "complete", f"{code}:2:12", "--json")
    assert json.loads(done.stdout)["stats"]["tokens"] <= 3, done.stderr
    with home.client() as client:
        metrics = client.get("/metrics").text
    assert 'fim_request_seconds_count{api="native",outcome="answered"} 1.0' in metrics, metrics
    assert home.engine_pid() == engine.pid


def test_the_engine_loads_the_configured_model(home: EngineHome, config: Path) -> None:
    """`fim-server engine` without --model serves the model of config.toml, on its socket."""
    config.write_text(f'model = "{home.model}"\nthreads = 1\n')
    command = [sys.executable, "-m", "fim_server", "engine"]
    home.processes.append(subprocess.Popen(command, env=home.environment, stderr=subprocess.PIPE))
    assert home.wait_until_ready()["model"] == home.model.name
    done = run(home, "engine", "--model", str(home.model))
    assert "another engine already serves this model" in done.stderr


def test_complete_asks_the_configured_remote_server(
    tcp: TcpEngine,
    code: Path,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config.write_text(
        f'backend = "openai"\nremoteUrl = "{tcp.url}/v1"\nremoteTemplate = "fim-server"\n'
    )
    monkeypatch.setenv("FIM_SERVER_API_KEY", tcp.key)
    monkeypatch.setenv("FIM_SERVER_API_HOST", urlsplit(tcp.url).netloc)
    said = answer(capsys, "complete", f"{code}:2:12", "--json")
    assert said["items"] or said["silence"] in ("blank", "out_of_scope"), said
    assert main(("complete", f"{code}:2:12", "--model", str(tcp.home.model))) == 2
    assert "add --backend engine, or set remoteModel" in capsys.readouterr().err
    assert main(("revise", str(code), "--lines", "2-2")) == 2
    assert "fim-server: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["complete", "edit"])
def test_an_unreachable_remote_server_is_named(
    command: str, code: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text('backend = "openai"\nremoteUrl = "http://127.0.0.1:9/v1"\n')
    patch = code.with_name("edits.patch")
    patch.write_text(
        "--- a/code.py\n+++ b/code.py\n@@ -1,2 +1,2 @@\n-def sum(first, second):\n"
        "+def add(first, second):\n     return \n"
    )
    code.write_text(CODE + "\n\nprint(sum(1, 2))\n")
    more = [f"{code}:2:12"] if command == "complete" else [str(code), "--history", str(patch)]
    assert main((command, *more)) == 2
    assert "127.0.0.1:9" in capsys.readouterr().err


def test_unsaved_text_comes_from_stdin(
    checkpoint: Path,
    code: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code.unlink()
    where = (str(code) + ":2", "--stdin", "--json", "--backend", "in_process")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(CODE.encode())))
    said = answer(capsys, "complete", *where, "--model", str(checkpoint), "--threads", "1")
    assert said["stats"]["forwards"] > 0


def test_alternatives_are_as_many_as_asked_for(
    checkpoint: Path, code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--backend", "in_process", "--model", str(checkpoint), "--threads", "1", "--json")
    for count in (1, 3):
        said = answer(capsys, "complete", f"{code}:2:12", "--alternatives", str(count), *options)
        texts = ["".join(item["text"].split()) for item in said["items"]]
        assert len(texts) <= count
        assert len(set(texts)) == len(texts)


def test_a_bench_measures_the_configured_model(
    checkpoint: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text('model = "/no/such/model"\n')
    data = config.with_name("none.jsonl.gz")
    data.write_bytes(b"")
    assert main(("bench", "modes", "--data", str(data))) == 2
    assert "/no/such/model" in capsys.readouterr().err


def test_the_text_alone_is_printed_for_editors(
    checkpoint: Path, code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--backend", "in_process", "--model", str(checkpoint), "--threads", "1")
    said = answer(capsys, "complete", f"{code}:2:12", *options, "--json")
    assert main(("complete", f"{code}:2:12", *options, "--text")) == 0
    shown = capsys.readouterr().out
    assert shown == (said["items"][0]["text"] if said["items"] else "")
    assert os.linesep not in shown[-1:]
