"""The default model in a real vLLM on a CPU, through our remote backend: the same completions.

vLLM pins packages that this project's environment has in other versions, so it has an environment
of its own, whose Python the variable FIM_VLLM names (docs/serving.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from fim_model.loading.checkpoint import default_checkpoint
from fim_model.loading.llama_export import export_llama
from fim_model.requests import CompletionRequest
from serving import serving

from fim_server.backends.in_process import InProcessBackend
from fim_server.backends.openai import OpenAIBackend

PYTHON = os.environ.get("FIM_VLLM", "")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="vLLM is not installed: FIM_VLLM does not name the Python that has it"
)

SOURCE = '''
class Account:
    """A customer's account."""

    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance

    def deposit(self, amount):
        """Add an amount to the balance."""
        if amount <= 0:
            raise ValueError("amount must be positive")
        self.balance += amount
        return self.balance

    def withdraw(self, amount):
        """Take an amount from the balance."""
        if amount > self.balance:
            raise ValueError("not enough money")
        self.balance -= amount
        return self.balance


def total(accounts):
    result = 0
    for account in accounts:
        result += account.balance
    return result
'''
HOLES = 20
SAME = 18
"""Of HOLES. vLLM spells what was typed since a white space with tokens that it chooses, the engine
since a border of the tokenizer, so that some texts may differ."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("vllm")
    export_llama(default_checkpoint(), folder / "model")
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    command += [str(folder / "model"), "--served-model-name", "fim-server", "--dtype", "float32"]
    command += ["--max-model-len", "2048", "--max-num-seqs", "2", "--enforce-eager"]
    environment = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    with serving(command, environment, folder / "log", 400) as url:
        yield url


def holes() -> list[CompletionRequest]:
    """Twenty cursors in SOURCE: the rest of the line is missing."""
    lines = SOURCE.split("\n")
    places = [(n, line) for n, line in enumerate(lines) if len(line.strip()) > 7]
    found = []
    for rank in range(HOLES):
        number, line = places[3 + rank % (len(places) - 3)]
        indent = len(line) - len(line.lstrip())
        at = indent + 3 + (5 * rank) % (len(line) - indent - 5)
        before = "\n".join([*lines[:number], line[:at]])
        after = "\n".join(["", *lines[number + 1 : number + 6]])
        found.append(CompletionRequest(before, after, mode="ar", max_tokens=32, max_lines=1))
    return found


@pytest.mark.timeout(1200)
async def test_the_default_model_completes_as_in_the_engine(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIM_WEIGHTS", "full")  # vLLM has the same weights in float32
    remote = OpenAIBackend(server, template="fim-server-joined")
    local = InProcessBackend(None, threads=1)
    differ = []
    for backend in (remote, local):
        await backend.start(lambda what, share: None)
    for request in holes():
        theirs, ours = await remote.complete(request), await local.complete(request)
        texts = [[item.text for item in answer.items] for answer in (theirs, ours)]
        if texts[0] != texts[1]:
            differ.append((request.prefix[-20:], *texts))
    for backend in (remote, local):
        await backend.close()
    assert len(differ) <= HOLES - SAME, differ
