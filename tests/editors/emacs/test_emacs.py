"""editors/emacs/fim.el in a real Emacs, with the real command line and a small random model.

FIM_EMACS names the program; without it, `emacs` on PATH. Skipped where there is none.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from engine_fixtures import checkpoint

__all__ = ["checkpoint"]

ROOT = Path(__file__).parents[3]
EMACS = os.environ.get("FIM_EMACS") or shutil.which("emacs")
FIM_EL = ROOT / "editors" / "emacs" / "fim.el"

pytestmark = pytest.mark.skipif(EMACS is None, reason="Emacs is not installed here")

WAIT = """
(defun wait-for-answer ()
  (let ((patience 600))
    (while (and (process-live-p fim--process) (> patience 0))
      (accept-process-output nil 0.1) (setq patience (1- patience)))
    (accept-process-output nil 0.1)))
(defun told (key value) (princ (concat (json-encode (list (cons key value))) "\\n")))
"""


@pytest.fixture
def program(tmp_path: Path, checkpoint: Path) -> Path:
    """A `fim-server` that uses the small model in its own process."""
    config = tmp_path / "config" / "fim-server"
    config.mkdir(parents=True)
    (config / "config.toml").write_text(
        f'backend = "in_process"\nmodel = "{checkpoint}"\nthreads = 1\nmaxTokens = 6\n'
    )
    file = tmp_path / "fim-server"
    path = os.pathsep.join(str(ROOT / part) for part in ("", "model", "kernels"))
    file.write_text(
        f"#!/bin/sh\nexport XDG_CONFIG_HOME='{tmp_path}/config' PYTHONPATH='{path}'\n"
        f"exec '{sys.executable}' -m fim_server \"$@\"\n"
    )
    file.chmod(0o755)
    return file


def emacs(program: Path, code: str) -> dict[str, str]:
    """What a piece of Lisp tells, run after fim.el is loaded."""
    assert EMACS is not None
    lisp = f'(progn (load "{FIM_EL}") (setq fim-program "{program}") {WAIT} {code})'
    command = [EMACS, "--batch", "-Q", "--eval", lisp]
    environment = {**os.environ, "HOME": str(program.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    told = {"messages": done.stderr}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            told |= json.loads(line)
    return told


def test_the_package_compiles_without_warnings(tmp_path: Path) -> None:
    assert EMACS is not None
    copy = shutil.copy(FIM_EL, tmp_path)
    done = subprocess.run(
        [EMACS, "--batch", "-Q", "-f", "batch-byte-compile", copy], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "fim.el:" not in done.stderr, done.stderr


def test_an_unsaved_buffer_gets_ghost_text_which_is_accepted(program: Path) -> None:
    told = emacs(
        program,
        """
        (find-file (concat default-directory "unsaved.py"))
        (insert "def add(first, second):\\n    return ") (save-excursion (insert "\\n"))
        (fim-suggest) (wait-for-answer)
        (told "ghost" (substring-no-properties (overlay-get fim--overlay 'after-string)))
        (told "before" (buffer-string))
        (fim-accept)
        (told "after" (buffer-string))
        (set-buffer-modified-p nil)
        """,
    )
    assert told["ghost"].strip()
    assert told["before"] == "def add(first, second):\n    return \n"
    assert told["after"] == f"def add(first, second):\n    return {told['ghost']}\n"


def test_a_word_and_a_line_of_a_suggestion_are_accepted(program: Path) -> None:
    told = emacs(
        program,
        """
        (with-temp-buffer
          (fim--show '("one two\\n  three" "other"))
          (fim-next)
          (told "next" (substring-no-properties (overlay-get fim--overlay 'after-string)))
          (fim-next)
          (fim-accept-word) (told "word" (buffer-string))
          (fim--show '(" two\\n  three")) (fim-accept-line) (told "line" (buffer-string))
          (fim--show '("\\n  three")) (fim-accept-line) (told "all" (buffer-string)))
        """,
    )
    assert told["next"] == "other"
    assert told["word"] == "one"
    assert told["line"] == "one two"
    assert told["all"] == "one two\n  three"


def test_why_nothing_is_suggested_is_said(program: Path) -> None:
    told = emacs(program, "(with-temp-buffer (fim-suggest) (wait-for-answer))")
    assert "fim: nothing: the document is empty; type the first line" in told["messages"]
