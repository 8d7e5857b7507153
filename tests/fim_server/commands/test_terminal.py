"""What commands print: in any encoding and width, and without control characters of files."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from tiny_checkpoint import write_tiny_checkpoint

from fim_server.cli import main
from fim_server.commands import doctor, doctor_servers
from fim_server.commands.terminal import print_whole, visible
from fim_server.completion.statistics import Statistics
from fim_server.settings.settings import Settings

ESCAPES = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202egnitirw\x7f\x08"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("terminal") / "model")


def run(*arguments: object, **env: str) -> subprocess.CompletedProcess[bytes]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "fim_server", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)


@dataclass
class Streams:
    """stdout and stderr of commands in this process, with an encoding and strict errors."""

    monkeypatch: pytest.MonkeyPatch

    def run(self, encoding: str, *arguments: object) -> tuple[int, str, str]:
        """The exit code of a command, and what it has printed to stdout and stderr."""
        raw = io.BytesIO(), io.BytesIO()
        for name, stream in zip(("stdout", "stderr"), raw, strict=True):
            self.monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding, "strict"))
        try:
            code = main([str(argument) for argument in arguments])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            printed = [stream.getvalue().decode(encoding) for stream in raw]
            self.monkeypatch.undo()
        return code, printed[0], printed[1]


@pytest.fixture
def streams() -> Streams:
    return Streams(pytest.MonkeyPatch())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_of_the_output(
    encoding: str, model: Path, tmp_path: Path, streams: Streams
) -> None:
    file = tmp_path / "é.py"
    file.write_text("größe = '😀 │ →'\nx = \n", encoding="utf-8")
    place = ("--line", 2, "--column", 4)
    for arguments in (
        ("complete", file, *place, "--model", model, "--max-tokens", 1),
        ("complete", file, *place, "--model", model, "--max-tokens", 1, "--watch"),
        ("context", file, *place),
        ("revise", file, "--lines", "1-2", "--model", model),
        ("models", "inspect", model),
        ("stats",),
    ):
        code, printed, _ = streams.run(encoding, *arguments)
        assert code == 0
        assert printed
    code, _, complaint = streams.run(encoding, "complete", tmp_path / "😀.py", *place)
    assert code == 2
    assert "there is no such file" in complaint


def test_the_encoding_of_a_locale(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("größe = '😀 │ →'\nx = \n", encoding="utf-8")
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = run("context", file, "--line", 2, "--column", 4, **environment)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.isascii()
    assert b"gr??e = '? | >'" in done.stdout or b"gr?e = '? | >'" in done.stdout


def test_escape_codes_of_files_do_not_reach_the_terminal(
    model: Path, tmp_path: Path, streams: Streams
) -> None:
    file = tmp_path / "a.py"
    file.write_text(f"# {ESCAPES}\nx = \n# {ESCAPES}\n", encoding="utf-8")
    patch = tmp_path / "p.patch"
    patch.write_text(
        f"--- a/a.py\n+++ b/a.py\n@@ -1,3 +1,3 @@\n # {ESCAPES}\n-y = \n+x = \n # {ESCAPES}\n",
        encoding="utf-8",
    )
    for arguments in (
        ("complete", file, "--line", 2, "--column", 4, "--model", model),
        ("context", file, "--line", 2, "--column", 4, "--tokens", "--model", model),
        ("revise", file, "--lines", "1-3", "--model", model),
        ("edit", file, "--history", patch, "--model", model),
        ("complete", f"no{ESCAPES}.py", "--line", 2, "--column", 4),
        ("complete", file, "--line", 9, "--column", 4),
    ):
        shown = "".join(map(str, streams.run("utf-8", *arguments)))
        controls = {char for char in shown if not char.isprintable()} - {"\n", "\t"}
        assert not controls, (arguments, controls, shown)


def test_control_characters_become_visible_one_by_one() -> None:
    text = "".join(map(chr, range(0x20))) + ESCAPES + "\u2066é😀"
    assert len(visible(text)) == len(text)
    assert visible("a\tb\nc é😀 │") == "a\tb\nc é😀 │"
    assert visible("\x1b[0m\r") == "␛[0m␍"


def test_json_is_alone(model: Path, tmp_path: Path, streams: Streams) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = \n")
    place = ("--line", 1, "--column", 4, "--model", model, "--json")
    for arguments in (
        ("complete", file, *place),
        ("context", file, *place, "--tokens"),
        ("revise", file, "--lines", "1-1", "--model", model, "--json"),
        ("models", "inspect", model, "--json"),
        ("stats", "--json"),
    ):
        code, printed, complaint = streams.run("ascii", *arguments)
        assert (code, complaint) == (0, ""), arguments
        assert printed.count("\n") == 1
        json.loads(printed)


@pytest.mark.parametrize("columns", ["80", "20"])
def test_statistics_are_whole_in_a_narrow_terminal(columns: str, tmp_path: Path) -> None:
    file = tmp_path / "fim-server" / "statistics.jsonl"
    statistics = Statistics(file, today=lambda: date(2026, 11, 28))
    for name in ("requests", "offered", "characters", "edits_accepted", "silence.low_confidence"):
        statistics.count(name, 1_234_567)
    statistics.flush()
    done = run("stats", XDG_STATE_HOME=str(tmp_path), COLUMNS=columns)
    shown = done.stdout.decode()
    assert shown.count("1234567") == 2 * 4 + 1
    assert "edits accepted" in shown
    assert "2026-11-28" in shown
    assert "…" not in shown


def test_a_table_is_not_cut() -> None:
    table = Table(*(f"column {number}" for number in range(14)), box=None)
    table.add_row(*["123456789"] * 14)
    console = Console(file=io.StringIO(), width=40)
    print_whole(console, table)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("123456789") == 14
    assert console.width == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("engine", "--tcp", "abc"), "argument --tcp: 'abc' is not a whole number"),
        (("engine", "--tcp", "99999"), "argument --tcp: 99999 is not a port number, 1 to 65535"),
        (("engine", "--threads", "0"), "argument --threads: 0 is not a positive number"),
        (("engine", "--threads", "1.5"), "argument --threads: '1.5' is not a whole number"),
        (("engine", "--idle-minutes", "x"), "argument --idle-minutes: 'x' is not a number"),
        (("engine", "--idle-minutes", "nan"), "argument --idle-minutes: nan is not a finite"),
        (("complete", "a", "--line", "x", "--column", "1"), "argument --line: 'x' is not a whole"),
        (("lsp", "--clientProcessId", "x"), "argument --clientProcessId: 'x' is not a whole"),
    ],
)
def test_invalid_arguments_are_named_in_words(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    said = capsys.readouterr().err
    assert message in said
    assert "invalid" not in said


@pytest.mark.parametrize("command", [[], ["complete", "x.py"], ["engine"]])
def test_escape_codes_of_arguments_do_not_reach_the_terminal(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command, "\x1b[31mred\x07"])
    said = capsys.readouterr().err
    assert "red" in said
    assert not set("\x1b\x07") & set(said)


def test_doctor_reports_bad_certificates_and_proxies_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/there/is/no/such/file")
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    path.chmod(0o600)
    assert "left over from a stopped engine" in doctor_servers._socket(path).message
    settings = Settings(backend="openai", remote_url="https://models.example/v1")
    [finding] = doctor_servers.remote(settings)
    assert "the certificates in SSL_CERT_FILE cannot be read" in finding.message
    monkeypatch.setenv("HTTPS_PROXY", "socks4://127.0.0.1:1")
    [finding] = doctor_servers.remote(settings)
    assert "the proxy in HTTPS_PROXY cannot be used" in finding.message
    [finding] = doctor_servers.remote(replace(settings, remote_url="http://[::1/v1"))
    assert "remoteUrl is not an address" in finding.message


@pytest.mark.parametrize("command", ["complete", "context"])
def test_a_file_that_cannot_be_read_is_named(
    command: str, tmp_path: Path, streams: Streams
) -> None:
    (tmp_path / "loop.py").symlink_to("loop.py")
    for file in (tmp_path / "loop.py", tmp_path, tmp_path / ("x" * 300), "a\0b", "\udcff.py"):
        code, printed, complaint = streams.run("utf-8", command, file, "--line", 1, "--column", 0)
        assert (code, printed) == (2, "")
        assert complaint.startswith("fim-server: ")
        assert complaint.count("\n") == 1


def test_doctor_with_a_model_that_is_none() -> None:
    for model in ("~nosuchuser/x", "x" * 300, "/dev/null", "/nope"):
        [finding] = doctor.model(Settings(model=model))
        assert "is not a folder" in finding.message


@pytest.mark.parametrize("stream", [">&-", "2>&-", "<&-", ">/dev/full"])
def test_closed_and_full_streams(stream: str) -> None:
    command = ["sh", "-c", f'exec "$@" {stream}', "sh", sys.executable, "-m", "fim_server", "stats"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert b"Exception ignored" not in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m fim_server --help | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=120, check=False)
    assert b"BrokenPipe" not in done.stderr
    assert b"Traceback" not in done.stderr
