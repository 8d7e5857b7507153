"""Parity with `transformers serve` on the same weights, through our remote backend."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fim_model.requests import CompletionRequest
from serving import serving

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
    log = tmp_path_factory.mktemp("serve") / "log"
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with serving([program, "serve", "--dtype", "float32"], environment, log, 180) as url:
        yield url


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
