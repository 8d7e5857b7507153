"""`fim-server context` and `complete`: the parts of the prompt, and excluded files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import write_tiny_checkpoint

from fim_server.cli import main
from fim_server.settings.sources import config_file

IN_PROCESS = ("--backend", "in_process")
SOURCE = "import shapes\n\n\ndef main():\n    shapes.make_circle(\n\nprint(main())\n"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "main.py").write_text(SOURCE)
    (tmp_path / "shapes.py").write_text("def make_circle(radius):\n    return radius\n")
    (tmp_path / ".env").write_text("KEY=1\n")
    return tmp_path


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    assert isinstance(answer, dict)
    return answer


def at(file: Path, line: int = 5, column: int = 23) -> tuple[str, ...]:
    return (str(file), "--line", str(line), "--column", str(column))


def test_the_parts_in_their_order_with_their_reasons(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = at(project / "main.py")
    answer = output(capsys, "context", *where, "--snippets", "2", "--json")
    snippet, file, suffix, prefix = answer["parts"]
    assert snippet == {
        "part": "snippet",
        "path": "shapes.py",
        "first_line": 1,
        "last_line": 1,
        "why": "defines make_circle, used near the cursor",
        "text": "def make_circle(radius):",
    }
    assert file["part"] == "file"
    assert file["text"].endswith("/main.py")
    assert (suffix["text"], suffix["first_line"]) == ("\n\nprint(main())\n", 5)
    assert prefix["text"] == SOURCE[: SOURCE.index("(\n") + 1]
    assert prefix["text"] + suffix["text"] == SOURCE
    assert answer["max_lines"] == 8, "behind an open bracket"


def test_the_models_tokens(
    project: Path, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tokens contain the parts in the order in which the model reads them."""
    where = at(project / "main.py")
    more = ("--snippets", "2", "--tokens", "--model", checkpoint, "--json")
    answer = output(capsys, "context", *where, *more)
    snippet, _, suffix, prefix = (part["text"] for part in answer["parts"])
    prompt = "".join(answer["tokens"])
    assert prompt.startswith(f"<|file|>shapes.py<|snippet|>{snippet}<|file|>")
    assert prompt.endswith(f"/main.py<|fim_suffix|>{suffix}<|fim_prefix|>{prefix}<|fim_middle|>")


def test_the_text_output_says_why_there_are_no_snippets(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(("context", *at(project / "main.py"))) == 0
    shown = capsys.readouterr().out
    assert "no other files: the setting snippets is 0" in shown
    assert "prefixChars = 1200" in shown


@pytest.mark.parametrize("command", ["context", "complete"])
def test_an_excluded_file_is_not_opened(
    command: str,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file does not exist, so that opening it would be an error."""
    (project / ".env").unlink()
    answer = output(capsys, command, *at(project / ".env", 1, 0), "--json")
    assert answer["silence"] == "excluded"
    assert answer["detail"] == "its name matches a pattern for secrets (*.env)"
    assert main((command, *at(project / ".env", 1, 0))) == 0
    captured = capsys.readouterr()
    assert "excluded" in captured.out + captured.err


def test_the_command_line_overrides_the_users_settings_file(
    project: Path, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('mode = "ar"\nminConfidence = 1.0\nmaxTokens = 2\ntypo = 1\n')
    try:
        where = (*at(project / "main.py"), "--model", checkpoint, *IN_PROCESS, "--json")
        assert main(("complete", *where)) == 0
        captured = capsys.readouterr()
        answer = json.loads(captured.out)
        assert answer["items"] == []
        assert answer["silence"] in ("low_confidence", "blank")
        assert answer["stats"]["mode"] == "ar"
        assert answer["stats"]["tokens"] <= 2
        assert "config.toml: setting 'typo' is unknown" in captured.err
        other = output(capsys, "complete", *where, "--mode", "diffusion")
        assert other["stats"]["mode"] == "diffusion"
    finally:
        file.unlink()
