"""DreamOn's and LLaDA's layouts end to end: commands and the engine over HTTP, in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from canvas_checkpoints import dream, llada
from engine_home import EngineHome, new_home
from fim_model.infiller import Infiller
from fim_model.requests import CompletionRequest

from fim_server.cli import main

PREFIX, SUFFIX = "def area(width, height):\n    return ", "\n\nprint(area(2, 3))\n"
LOUD = {"<|expand|>": 1.5, "area": 1.0} | {word: 1.6 for word in "abcdefghij"}


@pytest.fixture(scope="module")
def dream_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose holes are mostly letters, so that they can be shown."""
    loud = {name: factor for name, factor in LOUD.items() if name != "area"}
    return dream(tmp_path_factory.mktemp("dream_on"), loud=loud).folder
