"""llama.cpp's server in this process, from the package xllamacpp, for tests of the GGUF export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

WITHOUT = "the package xllamacpp (llama.cpp, prebuilt) is not installed"
TIMEOUT_S = 60.0


class LlamaServer:
    """llama.cpp serving one GGUF file on a free local port, with plain attention in float32."""

    def __init__(self, path: Path, *, context: int = 512) -> None:
        xllamacpp = pytest.importorskip("xllamacpp", reason=WITHOUT)
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = context
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_ram_mib = 0
        params.fit_params = False
        params.verbosity = 0
        self._server = xllamacpp.Server(params)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        request = Request(
            self._server.listening_address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=TIMEOUT_S) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def tokens(self, text: str) -> list[int]:
        """llama.cpp's token ids of a text, special tokens in it taken as text."""
        body = {"content": text, "add_special": False, "parse_special": False}
        ids: list[int] = self.post("/tokenize", body)["tokens"]
        return ids

    def greedy(self, prompt: str | list[Any], count: int, **options: Any) -> dict[str, Any]:
        """The greedy completion of a prompt: a text, or ids and texts."""
        body = {
            "prompt": prompt, "n_predict": count, "temperature": 0, "return_tokens": True,
            "cache_prompt": False,
        }  # fmt: skip
        return self.post("/completion", body | options)
