"""A small random model on disk, and engines that serve it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from engine_home import EngineHome, TcpEngine, new_home, start_tcp_engine

CODE = '''
def add(first, second):
    """The sum of two numbers."""
    return first + second


class Counter:
    def __init__(self, start=0):
        self.value = start

    def increment(self, amount=1):
        self.value += amount
        return self.value
'''


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two layers with a tokenizer trained on CODE.

    Tokens other than words and operators have logit 0, which is never the maximum: the answers are
    single-line text that can be shown, of the requested length.
    """
    import torch
    from fim_model.loading.checkpoint import save_checkpoint
    from fim_model.network.config import ModelConfig
    from fim_model.network.transformer import TriModeTransformer
    from fim_training.base.train_tokenizer import train

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = train([CODE], 400)
    config = ModelConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=64,
        mask_token_id=tokenizer.token_to_id("<|mask|>"),
        block_size=8,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = TriModeTransformer(config)
    words = re.compile(r"[A-Za-z_=+]+")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3)
        for token, number in tokenizer.get_vocab().items():
            if not words.fullmatch(token):
                model.lm_head.weight[number] = 0
    save_checkpoint(model, folder, dtype=torch.float32)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def home(checkpoint: Path) -> Iterator[EngineHome]:
    """A runtime folder for tests that start and kill engines."""
    made = new_home(checkpoint)
    yield made
    made.stop()
    shutil.rmtree(made.folder)


@pytest.fixture(scope="session")
def shared_home(checkpoint: Path) -> Iterator[EngineHome]:
    """An engine shared by all tests that do not change its state."""
    made = new_home(checkpoint)
    made.start()
    made.wait_until_ready()
    yield made
    made.stop()
    shutil.rmtree(made.folder)


@pytest.fixture(scope="session")
def tcp(checkpoint: Path) -> Iterator[TcpEngine]:
    """An engine on a TCP port, shared by all tests that do not change its state."""
    made = new_home(checkpoint)
    yield start_tcp_engine(made)
    made.stop()
    shutil.rmtree(made.folder)


@pytest.fixture(scope="session")
def keyless(tcp: TcpEngine) -> Iterator[str]:
    """The address of a port of the same engine that asks for no key."""
    with tcp.home.opened_port("") as url:
        yield url


@pytest.fixture(scope="session")
def chatting(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of an engine whose model has a chat template."""
    folder = tmp_path_factory.mktemp("chat") / "tiny-instruct"
    shutil.copytree(checkpoint, folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|eot|>"}))
    (folder / "chat_template.jinja").write_text(
        "{% for message in messages %}<|file|>{{ message.role }}\n{{ message.content }}<|eot|>\n"
        "{% endfor %}<|file|>assistant\n"
    )
    made = new_home(folder)
    made.start()
    made.wait_until_ready()
    with made.client() as client:
        yield client
    made.stop()
    shutil.rmtree(made.folder)


@pytest.fixture
def engine(shared_home: EngineHome) -> Iterator[httpx2.Client]:
    """A client of the shared engine."""
    with shared_home.client() as client:
        yield client


@pytest.fixture
def metric(engine: httpx2.Client) -> Callable[[str], float]:
    """A function that reads a metric of the shared engine; 0 if it does not exist yet."""

    def read(name: str) -> float:
        for line in engine.get("/metrics").text.splitlines():
            if line.startswith((name + " ", name + "{")):
                return float(line.rpartition(" ")[2])
        return 0.0

    return read
