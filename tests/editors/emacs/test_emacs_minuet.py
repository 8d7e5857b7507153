"""minuet.el in a real Emacs, with the settings that the engine prints for it, against the engine.

It is not part of this project: FIM_MINUET is the load path, folders with minuet.el, plz.el and
dash.el separated as in PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from engine_fixtures import checkpoint, tcp
from engine_home import TcpEngine

__all__ = ["checkpoint", "tcp"]

EMACS = os.environ.get("FIM_EMACS") or shutil.which("emacs")
LOAD_PATH = os.environ.get("FIM_MINUET")

pytestmark = [
    pytest.mark.skipif(EMACS is None, reason="Emacs is not installed here"),
    pytest.mark.skipif(LOAD_PATH is None, reason="FIM_MINUET names no folders with minuet.el"),
]

CODE = "def add(first, second):\n    return first + second\n\n\ndef twice(number):\n    return "

LISP = """
(progn
  (require 'minuet)
  (load "{config}")
  (setq minuet-request-timeout 120)
  (find-file "{file}")
  (fundamental-mode)
  (goto-char (point-max))
  (minuet-show-suggestion)
  (let ((patience 1200))
    (while (and (null minuet--current-overlay) (> patience 0))
      (accept-process-output nil 0.1) (setq patience (1- patience))))
  (let ((ghost (substring-no-properties (car minuet--current-suggestions))))
    (minuet-accept-suggestion)
    (princ (json-encode (list (cons 'ghost ghost) (cons 'text (buffer-string)))))))
"""


def test_ghost_text_is_shown_and_accepted(tcp: TcpEngine, tmp_path: Path) -> None:
    key = "sk-of-plain-characters"  # plz.el loses quotes and backslashes in a header
    program = [sys.executable, "-m", "fim_server", "engine", "--model", str(tcp.home.model)]
    with tcp.home.opened_port(key) as url:
        port = str(urlsplit(url).port)
        printed = subprocess.run(
            [*program, "--tcp", port, "--api-key", key, "--print-config", "emacs"],
            env=tcp.home.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        told = _told(printed.stdout, tmp_path)
    assert told["ghost"].strip()
    assert told["text"] == CODE + told["ghost"]


def _told(settings: str, folder: Path) -> dict[str, str]:
    assert EMACS is not None
    assert LOAD_PATH is not None
    config, file = folder / "config.el", folder / "code.py"
    config.write_text(settings)
    file.write_text(CODE)
    folders = [part for name in LOAD_PATH.split(os.pathsep) for part in ("-L", name)]
    lisp = LISP.format(config=config, file=file)
    done = subprocess.run(
        [EMACS, "--batch", "-Q", *folders, "--eval", lisp],
        env={**os.environ, "HOME": str(folder)}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return told
