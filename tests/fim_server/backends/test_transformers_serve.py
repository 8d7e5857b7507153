"""Parity with `transformers serve` on the same weights, through our remote backend."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fim_model.requests import CompletionRequest

from fim_server.backends.in_process import InProcessBackend
from fim_server.backends.openai import OpenAIBackend

pytest.importorskip("fastapi", reason="transformers serve needs fastapi")
pytest.importorskip("accelerate", reason="transformers serve needs accelerate")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`transformers serve` in float32, the precision of the engine on a CPU."""
    program = shutil.which("transformers")
    if program is None:
        pytest.skip("the command `transformers` is not on the path")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 180
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield url + "/v1"
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url + "/health").is_success
    except httpx2.TransportError:
        return False


async def test_transformers_serve_gives_the_same_text(server: str, checkpoint: Path) -> None:
    """Greedy AR, by transformers in the server and by our decoding core in the engine."""
    remote = OpenAIBackend(server, model=str(checkpoint), template="fim-server")
    local = InProcessBackend(str(checkpoint), threads=1)
    for backend in (remote, local):
        await backend.start(lambda what, share: None)
    for prefix, suffix in (("def add(a, b):\n    return ", "\n\nx = 1\n"), ("x = ", "")):
        request = CompletionRequest(prefix, suffix, mode="ar", max_tokens=16)
        theirs, ours = await remote.complete(request), await local.complete(request)
        assert theirs.items[0].text == ours.items[0].text != ""
        assert theirs.stats is not None
        assert ours.stats is not None
        assert theirs.stats.prefill_tokens == ours.stats.prefill_tokens
    for backend in (remote, local):
        await backend.close()
