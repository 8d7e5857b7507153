"""`fim-server completion`: the scripts in the shells that are installed here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fim_server.cli import main

QUESTIONS = {
    "co": {"complete", "context", "completion"},
    "bench la": {"latency"},
    "complete --mode d": {"diffusion"},
    "complete x.py --back": {"--backend"},
    "complete --backend": {"--backend"},
}


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(("completion", shell)) == 0
    return capsys.readouterr().out


def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fim-server.bash"
    file.write_text(script("bash", capsys))
    for question, expected in QUESTIONS.items():
        words = " ".join(f"'{word}'" for word in question.split(" "))
        code = (
            f"source {file}; COMP_WORDS=(fim-server {words}); "
            'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _fim_server; echo "${COMPREPLY[*]}"'
        )
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) == expected, question


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed here")
def test_fish_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fim-server.fish"
    file.write_text(script("fish", capsys))
    for question, expected in QUESTIONS.items():
        code = f"source {file}; complete -C 'fim-server {question}'"
        done = subprocess.run(["fish", "-N", "-c", code], capture_output=True, text=True)
        found = {line.split("\t")[0] for line in done.stdout.splitlines()}
        assert expected <= found, (question, done.stderr)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_every_command_is_named(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    for name in ("lsp", "engine", "complete", "doctor", "stats", "latency", "inspect", "--watch"):
        assert name.lstrip("-") in text
