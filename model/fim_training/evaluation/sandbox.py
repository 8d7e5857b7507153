"""Runs a generated program in a subprocess that cannot hang, fill the memory or touch a file.

It stops accidents of a model (endless loops, huge lists, a stray `os.remove`), not an attacker who
knows it: run hostile code in a virtual machine. POSIX only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_CHILD = Path(__file__).with_name("sandbox_child.py")
_INHERITED_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG")


@dataclass(frozen=True, slots=True)
class Limits:
    """Wall time bounds a program that sleeps, CPU time one that computes, MiB of address space."""

    wall_seconds: float = 20.0
    cpu_seconds: int = 5
    memory_mib: int = 512


@dataclass(frozen=True, slots=True)
class Verdict:
    """`detail` is the exception's name for `failed`, else empty."""

    outcome: Literal["passed", "failed", "time", "memory", "crashed"]
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


def run_program(source: str, limits: Limits | None = None) -> Verdict:
    """Run Python `source` to its end, alone in an empty folder that is removed afterwards.

    Passed means that the last statement was reached and no exception left the program. Raises
    OSError if no process can be started, and RuntimeError on a system without POSIX limits.
    """
    if os.name != "posix":
        raise RuntimeError("running generated programs needs POSIX limits; use Linux or macOS")
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="fim-sandbox-") as folder:
        program = Path(folder, "program.py")
        program.write_text(source, encoding="utf-8", errors="surrogatepass", newline="")
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as verdict:
            try:
                process = _start(program, writing, limits)
            finally:
                os.close(writing)  # the child has its own: end of file when it is gone
            returncode = _wait(process, limits.wall_seconds)
            word = verdict.read(100).decode("utf-8", "replace")
    return _verdict(word, returncode)


def _start(program: Path, verdict_fd: int, limits: Limits) -> subprocess.Popen[bytes]:
    """Start the child in its own process group: isolated, no site packages, no terminal."""
    arguments = [program, verdict_fd, limits.cpu_seconds, limits.memory_mib * 2**20]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", str(_CHILD), *map(str, arguments)],
        cwd=program.parent,
        env={name: os.environ[name] for name in _INHERITED_ENVIRONMENT if name in os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(verdict_fd,),
        start_new_session=True,
    )


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The return code, or None after killing the whole group at the time limit."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _verdict(word: str, returncode: int | None) -> Verdict:
    if returncode is None or returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return Verdict("time")
    if word == "passed":
        return Verdict("passed")
    if word == "memory":
        return Verdict("memory")
    return Verdict("failed", word) if word else Verdict("crashed")
