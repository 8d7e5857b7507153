"""Proxy between an editor and its language server that logs every message.

`python tee.py LOG COMMAND...` runs the server and writes one JSON line per message to LOG:
`{"from": "editor" | "server", "at": seconds, "message": {...}}`. It exits when the server does,
with the same exit code. Tests thus learn what the server sent without relying on the plugin under
test.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO, TextIO


def main() -> int:
    with Path(sys.argv[1]).open("a", encoding="utf-8") as log:
        return run(sys.argv[2:], log)


def run(command: list[str], log: TextIO) -> int:
    """Run the server and return its exit code in the shell's convention."""
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None
    lock = threading.Lock()

    def keep(sender: str, message: object) -> None:
        with lock:
            line = {"from": sender, "at": time.time(), "message": message}
            log.write(json.dumps(line) + "\n")
            log.flush()

    keep("tee", {"pid": server.pid})
    arguments = ("editor", sys.stdin.buffer, server.stdin, keep)
    threading.Thread(target=pump, args=arguments, daemon=True).start()
    pump("server", server.stdout, sys.stdout.buffer, keep)
    code = server.wait()
    return code if code >= 0 else 128 - code


def pump(sender: str, source: BinaryIO, target: BinaryIO, keep) -> None:  # type: ignore[no-untyped-def]
    """Forward messages until the source is closed."""
    while header := source.readline():
        length = int(header.split(b":")[1])
        blank = source.readline()
        while blank not in (b"\r\n", b""):
            blank = source.readline()
        body = source.read(length)
        keep(sender, json.loads(body))
        try:
            target.write(b"Content-Length: %d\r\n\r\n%s" % (length, body))
            target.flush()
        except BrokenPipeError:
            return
    target.close()


if __name__ == "__main__":
    sys.exit(main())
