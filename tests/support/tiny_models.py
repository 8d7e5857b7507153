"""Tiny models, a tiny tokenizer and tiny sources, shared by tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from fim_model.network.config import ModelConfig
from fim_model.network.rope import RopeConfig
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_training.base.train_tokenizer import train
from fim_training.examples.examples import SourceFile

SOURCES = {
    "shapes/point.py": '''\
"""Points on the plane."""

from math import hypot


class Point:
    """A place, immutable."""

    def __init__(self, x: float, y: float) -> None:
        self.x = x
        self.y = y

    def moved(self, dx: float, dy: float) -> "Point":
        if dx == 0 and dy == 0:
            return self
        return Point(self.x + dx, self.y + dy)

    def distance(self, other: "Point") -> float:
        return hypot(self.x - other.x, self.y - other.y)
''',
    "shapes/path.py": '''\
"""Paths: points in a row. Weglänge in Schritten, 😀 inclusive."""

from shapes.point import Point


def length(points: list[Point]) -> float:
    total = 0.0
    for first, second in zip(points, points[1:]):
        total += first.distance(second)
    return total


def closed(points: list[Point]) -> bool:
    return len(points) > 2 and points[0] == points[-1]


def reversed_path(points: list[Point]) -> list[Point]:
    return points[::-1]
''',
    "text/words.py": """\
import re

WORD = re.compile(r"\\w+")


def count_words(text):
    counts = {}
    for word in WORD.findall(text.lower()):
        counts[word] = counts.get(word, 0) + 1
    return counts


def longest(words):
    best = ""
    for word in words:
        if len(word) > len(best):
            best = word
    return best
""",
}


class Tiny:
    """Creates tiny configs and models."""

    files: ClassVar = [SourceFile(path, text) for path, text in SOURCES.items()]

    @staticmethod
    def config(**changes: object) -> ModelConfig:
        """Two layers, grouped heads, and a total head width above the hidden size."""
        shape: dict[str, object] = {
            "vocab_size": 32,
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "intermediate_size": 40,
            "mask_token_id": 1,
            "block_size": 4,
            "max_position_embeddings": 256,
        }
        return ModelConfig(**(shape | changes))  # type: ignore[arg-type]

    @staticmethod
    def yarn(**changes: object) -> RopeConfig:
        """YaRN as in Ministral-3, with a small window that tests exceed by far."""
        rope: dict[str, object] = {
            "rope_type": "yarn",
            "rope_theta": 1000.0,
            "factor": 16.0,
            "original_max_position_embeddings": 32,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        }
        return RopeConfig(**(rope | changes))  # type: ignore[arg-type]

    @classmethod
    def model(cls, seed: int = 0, *, scale: float = 1.0, **changes: object) -> TriModeTransformer:
        """A model with random weights, large enough that every part affects the logits."""
        model = TriModeTransformer(cls.config(**changes))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in sorted(model.named_parameters()):
                noise = torch.randn(weight.shape, generator=generator)
                if weight.ndim == 1:
                    weight.copy_(1 + 0.3 * noise)
                elif "embed_tokens" in name:
                    weight.copy_(noise * scale)
                else:
                    weight.copy_(noise * (1.5 * scale / weight.shape[1] ** 0.5))
        return model.requires_grad_(False).eval()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One CPU thread: for models this small, more threads only add overhead."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> type[Tiny]:
    return Tiny


@pytest.fixture(scope="session")
def tiny_tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny-tokenizer") / "tokenizer.json"
    train(list(SOURCES.values()) * 3, 340).save(str(path))
    return path


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_tokenizer_file: Path) -> CodeTokenizer:
    return CodeTokenizer.from_file(tiny_tokenizer_file)
