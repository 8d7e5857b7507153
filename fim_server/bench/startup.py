"""From the start of a server process to the answer to `initialize`, and what is imported for it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.console import Group
from rich.table import Table

from fim_server.bench.server_probe import SERVER, ProbeError, initialize_times

GROUPS = {
    "lsprotocol": "lsprotocol",
    "pygls": "pygls, cattrs, attrs",
    "cattrs": "pygls, cattrs, attrs",
    "attr": "pygls, cattrs, attrs",
    "attrs": "pygls, cattrs, attrs",
    "fim_server": "fim-server",
    "fim_model": "fim-server",
}
"""The group that a package's imports are counted in; every other one is in OTHERS."""

OTHERS = "standard library and others"
_TIMEOUT_S = 60.0
_LINE = re.compile(r"^import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StartupReport:
    """Times in milliseconds.

    `interpreter_ms` is the median of processes that do nothing. `imports_ms` is from one process
    that times its imports, which makes them slower: compare its parts with each other.
    """

    starts: int
    initialize_ms: float
    fastest_ms: float
    slowest_ms: float
    interpreter_ms: float
    modules: int
    imports_ms: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_tables(self) -> Group:
        total = Table("start of the server", f"ms, of {self.starts} starts")
        total.add_row("initialize answered, median", f"{self.initialize_ms}")
        total.add_row("  fastest / slowest", f"{self.fastest_ms} / {self.slowest_ms}")
        total.add_row("Python alone, median", f"{self.interpreter_ms}")
        imports = Table(f"imports until then ({self.modules} modules)", "ms, while timed")
        for group, spent in self.imports_ms.items():
            imports.add_row(group, f"{spent}")
        return Group(total, imports)


async def bench_startup(starts: int) -> StartupReport:
    """Start the server `starts` times, and once more to time its imports. Raises ProbeError."""
    imported = imports_until_initialized()
    times = await initialize_times(starts)
    spent: Counter[str] = Counter()
    for name, microseconds in imported.items():
        spent[GROUPS.get(name.partition(".")[0], OTHERS)] += microseconds
    return StartupReport(
        starts=starts,
        initialize_ms=round(median(times), 1),
        fastest_ms=round(min(times), 1),
        slowest_ms=round(max(times), 1),
        interpreter_ms=round(median(_interpreter_ms() for _ in range(starts)), 1),
        modules=len(imported),
        imports_ms={group: round(spent / 1000, 1) for group, spent in spent.most_common()},
    )


def imports_until_initialized() -> dict[str, int]:
    """The modules that a server imports to answer `initialize`, each with its own microseconds.

    The server then finds its stdin closed and ends, before it loads a model. Raises ProbeError.
    """
    python, *arguments = SERVER
    params: dict[str, Any] = {"processId": None, "rootUri": None, "capabilities": {}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    body = json.dumps(request).encode()
    try:
        server = subprocess.run(
            [python, "-X", "importtime", *arguments],
            input=b"Content-Length: %d\r\n\r\n" % len(body) + body,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProbeError(f"timed out after {_TIMEOUT_S:.0f} s waiting for its end") from None
    if b'"capabilities"' not in server.stdout:
        raise ProbeError("the server exited before the answer to initialize")
    lines = _LINE.findall(server.stderr.decode(errors="replace"))
    return {name: int(microseconds) for microseconds, name in lines}


def _interpreter_ms() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", "pass"], check=True)
    return 1000 * (time.perf_counter() - started)
