"""The inside of the sandbox; `sandbox.py` starts it as `PROGRAM FD CPU_SECONDS MEMORY_BYTES`.

Runs in its own process and imports nothing of this project. It lowers its own hard limits, forbids
what a graded program never needs, runs PROGRAM as `__main__` and writes one word to FD: `passed`,
`memory`, or the name of the exception. A program that leaves early writes nothing, so that
`os._exit(0)` before the tests is not a pass.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

_HARMLESS = frozenset({"os.listdir", "os.scandir", "os.walk", "os.fwalk"})
_FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "tempfile.", "ctypes.", "pty.")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def lower_limits(cpu_seconds: int, memory_bytes: int) -> None:
    """Bound CPU time and address space; allow no file growth, no core dump, no new process."""
    limits = {
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def forbid_side_effects(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook: no writing, no deleting, no processes, no network."""
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        writes = isinstance(mode, str) and not set(mode).isdisjoint("wax+")
        if writes or (isinstance(flags, int) and flags & _WRITING):
            raise PermissionError(f"sandbox: opening {arguments[0]!r} for writing")
    elif event.startswith(_FORBIDDEN) and event not in _HARMLESS:
        raise PermissionError(f"sandbox: {event}")


def run(source: bytes) -> str:
    """Execute `source` as a main program and name the outcome."""
    try:
        exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
    except MemoryError:
        return "memory"
    except BaseException as error:  # SystemExit before the end of the tests is a failure as well
        return type(error).__name__
    return "passed"


def main() -> None:
    program, verdict, cpu_seconds, memory_bytes = sys.argv[1:]
    source = Path(program).read_bytes()
    lower_limits(int(cpu_seconds), int(memory_bytes))
    sys.addaudithook(forbid_side_effects)
    os.write(int(verdict), run(source).encode("utf-8", "replace"))


if __name__ == "__main__":
    main()
