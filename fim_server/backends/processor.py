"""The name of this machine's processor."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def processor_name() -> str:
    """As the system calls it, such as `AMD EPYC 9654 96-Core Processor`; "unknown" if it does
    not."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine() or "unknown"
