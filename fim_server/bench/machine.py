"""An anonymous description of the benchmark machine, and the memory of a process."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fim_server.backends.processor import processor_name


@dataclass(frozen=True, slots=True)
class Machine:
    """What a reader needs to judge a figure; nothing that identifies the machine."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    torch: str


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process in MiB, current and peak; None where unknown."""

    rss_mib: float | None
    peak_rss_mib: float | None


def machine_description() -> Machine:
    """A description of this machine; `cores` counts those this process may use."""
    return Machine(
        cpu=processor_name(),
        cores=_usable_cores(),
        memory_gib=_memory_gib(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=_version("torch"),
    )


def memory_of(pid: int) -> Memory:
    """A process's memory: both figures on Linux, only the current one (through `ps`) elsewhere."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return Memory(_rss_by_ps(pid), None)
    return Memory(_status_mib(status, "VmRSS"), _status_mib(status, "VmHWM"))


def _status_mib(status: str, field: str) -> float | None:
    found = re.search(rf"^{field}:\s*(\d+) kB$", status, re.MULTILINE)
    return round(int(found[1]) / 1024, 1) if found else None


def _rss_by_ps(pid: int) -> float | None:
    try:
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
        )
        return round(int(shown.stdout) / 1024, 1)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float:
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0.0
    return round(size / 2**30, 1)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
