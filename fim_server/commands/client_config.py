"""What `fim-server engine --print-config CLIENT` prints: how other programs use the engine's port.

Keys are printable ASCII without spaces, so a JSON string is also one of Lua, Emacs Lisp and YAML.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass

DEFAULT_PORT = 8012
"""llama.vim's and llama.vscode's own default."""

NO_KEY = "none"
"""What clients that insist on a key send to an engine that asks for none."""

_ZED_KEY = "ZED_OPEN_AI_COMPATIBLE_EDIT_PREDICTION_API_KEY"


@dataclass(frozen=True, slots=True)
class Port:
    """An engine's port for other programs; `key` is "" where none is asked for."""

    number: int
    key: str
    model: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.number}"


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """A client's settings: where they belong, and their text for a port."""

    where: str
    text: Callable[[Port], str]


def _llama_vim(port: Port) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    return f"""\
let g:llama_config = {{
    \\ 'endpoint_fim': {quoted(port.url + "/infill")},
    \\ 'endpoint_inst': {quoted(port.url + "/v1/chat/completions")},
    \\ 'api_key': {quoted(port.key)},
    \\ }}
"""


def _llama_vscode(port: Port) -> str:
    settings = {}
    for role in ("", "_chat", "_tools"):
        settings[f"llama-vscode.endpoint{role}"] = port.url
        settings[f"llama-vscode.api_key{role}"] = port.key
    return _json(settings)


def _minuet(port: Port) -> str:
    return f"""\
require('minuet').setup({{
  provider = 'openai_fim_compatible',
  n_completions = 1,
  provider_options = {{
    openai_fim_compatible = {{
      name = 'fim-server',
      end_point = {_text(port.url + "/v1/completions")},
      model = {_text(port.model)},
      api_key = function()
        return {_text(port.key or NO_KEY)}
      end,
      optional = {{ max_tokens = 64, temperature = 0 }},
    }},
  }},
}})
"""


def _sidekick(port: Port) -> str:
    return """\
-- sidekick.nvim shows next edits of a language server. `fim-server lsp`, which this plugin starts,
-- finds the engine by its socket: it needs neither address nor key.
require('fim').setup({ next_edit = 'sidekick' })
require('sidekick').setup({})
"""


def _continue(port: Port) -> str:
    return f"""\
name: fim-server
version: 0.0.1
schema: v1
models:
  - name: fim-server
    provider: openai
    model: {_text(port.model)}
    apiBase: {port.url}/v1
    apiKey: {_text(port.key or NO_KEY)}
    useLegacyCompletionsEndpoint: true
    roles:
      - autocomplete
    defaultCompletionOptions:
      temperature: 0
      maxTokens: 64
"""


def _zed(port: Port) -> str:
    predictions = {
        "provider": "open_ai_compatible_api",
        "open_ai_compatible_api": {
            "api_url": f"{port.url}/v1/completions",
            "model": port.model,
            "prompt_format": "qwen",
            "max_output_tokens": 64,
        },
    }
    # Zed reads the key from its environment, and comments in its settings are allowed.
    note = f"// start Zed with {_ZED_KEY}={shlex.quote(port.key)}\n" if port.key else ""
    return note + _json({"edit_predictions": predictions})


def _emacs(port: Port) -> str:
    options = "minuet-openai-fim-compatible-options"
    return f"""\
(setq minuet-provider 'openai-fim-compatible
      minuet-n-completions 1)
(with-eval-after-load 'minuet
  (plist-put {options} :name "fim-server")
  (plist-put {options} :end-point {_text(port.url + "/v1/completions")})
  (plist-put {options} :model {_text(port.model)})
  (plist-put {options} :api-key (lambda () {_text(port.key or NO_KEY)}))
  (minuet-set-optional-options {options} :max_tokens 64)
  (minuet-set-optional-options {options} :temperature 0))
"""


def _curl(port: Port) -> str:
    body = {
        "prompt": "def mean(values):\n    return ",
        "suffix": "\n\nprint(mean([1, 2, 3]))\n",
        "max_tokens": 32,
        "temperature": 0,
    }
    lines = [f"curl --silent {port.url}/v1/completions", "-H 'Content-Type: application/json'"]
    if port.key:
        lines.append(f"-H {shlex.quote(f'Authorization: Bearer {port.key}')}")
    return " \\\n  ".join([*lines, f"-d {shlex.quote(json.dumps(body))}"]) + "\n"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json(settings: object) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


CLIENTS: dict[str, ClientConfig] = {
    "llama.vim": ClientConfig("your vimrc, or a file that Neovim sources", _llama_vim),
    "llama.vscode": ClientConfig("VS Code's settings.json", _llama_vscode),
    "minuet": ClientConfig("your init.lua (minuet-ai.nvim)", _minuet),
    "sidekick": ClientConfig(
        "your init.lua (sidekick.nvim, with fim-server's Neovim plugin)", _sidekick
    ),
    "continue": ClientConfig("~/.continue/config.yaml", _continue),
    "zed": ClientConfig("Zed's settings.json", _zed),
    "emacs": ClientConfig(
        "your init.el (minuet.el); fim-server's own fim.el needs no address", _emacs
    ),
    "curl": ClientConfig("a shell", _curl),
}
