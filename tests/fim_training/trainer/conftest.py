"""A built corpus, as runs read it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def corpus(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for split in ("train", "heldout"):
        with gzip.open(folder / f"{split}.jsonl.gz", "wt", encoding="utf-8") as lines:
            for file in tiny.files:
                row = {"project": "shapes", "path": file.path, "text": file.text}
                lines.write(json.dumps(row) + "\n")
    return folder
