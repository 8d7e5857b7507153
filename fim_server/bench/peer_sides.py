"""A child process that completes for `bench peers`, and the lines of JSON between it and the bench.

Both engines run behind the same pipe in a process of their own, so that load time and memory are
theirs alone. Neither this module nor `llama_cpp_side.py` needs torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from fim_server.bench.machine import Memory, memory_of

OURS, LLAMA_CPP = "fim_server.bench.our_side", "fim_server.bench.llama_cpp_side"
"""The modules that child processes run."""

_CLOSE_S = 20.0


class SideError(ValueError):
    """A side failed; the one-line message says which and why."""


class Side:
    """A running side. ready: what it said about itself; ready_ms: from its start until then."""

    def __init__(self, module: str, options: dict[str, Any], environment: dict[str, str]) -> None:
        """Start the side and wait until it is loaded. Raises SideError."""
        self._name = module.rpartition(".")[2]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **environment},
            text=True,
        )
        try:
            self.ready = self.ask(**options)
        except BaseException:
            self.close()
            raise
        self.ready_ms = 1000 * (time.perf_counter() - self.started)

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send a message and wait for its answer. Raises SideError."""
        assert self._process.stdin is not None  # both are pipes
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SideError(f"{self._name} ended unexpectedly: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SideError(answer["error"])
        return answer

    def memory(self) -> Memory:
        return memory_of(self._process.pid)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(_CLOSE_S)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.poll()}"


class Channel:
    """The child's end: messages on stdin, answers on what was stdout.

    Anything else that is written to stdout, as libraries do, goes to stderr.
    """

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Each message until the bench closes the pipe."""
        for line in sys.stdin:
            yield json.loads(line)

    def send(self, answer: dict[str, Any]) -> None:
        self._out.write(json.dumps(answer) + "\n")
        self._out.flush()

    def fail(self, reason: str) -> None:
        self.send({"error": reason})
