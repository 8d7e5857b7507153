"""`fim-server engine --print-config CLIENT`: settings that work when they are used."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from engine_home import EngineHome, TcpEngine

from fim_server.commands.client_config import CLIENTS, Port

KEY = 'sk-it\'s-"quoted"-\\'
PORT = Port(8099, KEY, "tiny")
FETCHED = Path(__file__).parents[3] / ".cache" / "neovim" / "0.12" / "bin"
NEOVIM = shutil.which("nvim") or shutil.which("nvim", path=str(FETCHED))
WITHOUT_ADDRESS = "sidekick"


def printed(home: EngineHome, *arguments: str) -> tuple[str, str]:
    """What the command prints on stdout and on stderr."""
    command = [sys.executable, "-m", "fim_server", "engine", "--model", str(home.model)]
    done = subprocess.run(
        [*command, *arguments], env=home.environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_every_client_s_settings_have_the_address() -> None:
    for name, config in CLIENTS.items():
        assert config.where
        if name != WITHOUT_ADDRESS:
            assert "http://127.0.0.1:8099" in config.text(PORT), name


def test_no_key_is_printed_where_none_is_asked_for() -> None:
    text = CLIENTS["curl"].text(Port(8099, "", "tiny"))
    assert "Authorization" not in text
    assert "ZED_" not in CLIENTS["zed"].text(Port(8099, "", "tiny"))


@pytest.mark.parametrize("client", ["llama.vscode", "zed"])
def test_settings_in_json(client: str) -> None:
    text = CLIENTS[client].text(PORT)
    lines = [line for line in text.splitlines() if not line.startswith("//")]
    settings = json.loads("\n".join(lines))
    if client == "zed":
        chosen = settings["edit_predictions"]["open_ai_compatible_api"]
        assert chosen["api_url"] == "http://127.0.0.1:8099/v1/completions"
        assert settings["edit_predictions"]["provider"] == "open_ai_compatible_api"
        shell = text.splitlines()[0].removeprefix("// start Zed with ")
        name = shell.partition("=")[0]
        said = subprocess.run(["sh", "-c", f'{shell}; printf %s "${name}"'], capture_output=True)
        assert said.stdout.decode() == KEY
    else:
        assert settings["llama-vscode.endpoint"] == "http://127.0.0.1:8099"
        assert settings["llama-vscode.api_key"] == settings["llama-vscode.api_key_chat"] == KEY


def test_settings_in_yaml() -> None:
    yaml = pytest.importorskip("yaml", reason="the package PyYAML is not installed")
    [model] = yaml.safe_load(CLIENTS["continue"].text(PORT))["models"]
    assert (model["apiBase"], model["apiKey"]) == ("http://127.0.0.1:8099/v1", KEY)
    assert model["useLegacyCompletionsEndpoint"] is True


@pytest.mark.skipif(NEOVIM is None, reason="no Neovim: neither on the path nor in .cache/neovim")
def test_settings_in_lua_and_vim_script(tmp_path: Path) -> None:
    """Neovim runs them, with the plugin's `setup` replaced by one that tells what it was given."""
    minuet, llama, out = (tmp_path / name for name in ("minuet.lua", "llama.vim", "out.json"))
    minuet.write_text(CLIENTS["minuet"].text(PORT))
    llama.write_text(CLIENTS["llama.vim"].text(PORT))
    sidekick = tmp_path / "sidekick.lua"
    sidekick.write_text(CLIENTS["sidekick"].text(PORT))
    driver = tmp_path / "driver.lua"
    driver.write_text(
        "local given = {}\n"
        "for _, name in ipairs({ 'minuet', 'fim', 'sidekick' }) do\n"
        "  package.preload[name] = function()\n"
        "    return { setup = function(options) given[name] = options end }\n"
        "  end\n"
        "end\n"
        f"dofile({json.dumps(str(minuet))})\n"
        f"dofile({json.dumps(str(sidekick))})\n"
        f"vim.cmd.source({json.dumps(str(llama))})\n"
        "local fim = given.minuet.provider_options.openai_fim_compatible\n"
        "fim.api_key = fim.api_key()\n"
        "given.llama = vim.g.llama_config\n"
        f"vim.fn.writefile({{ vim.json.encode(given) }}, {json.dumps(str(out))})\n"
    )
    assert NEOVIM is not None
    command = [NEOVIM, "--clean", "--headless", "-l", str(driver)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert out.exists(), done.stderr
    given = json.loads(out.read_text())
    assert given["llama"]["endpoint_fim"] == "http://127.0.0.1:8099/infill"
    assert given["llama"]["endpoint_inst"] == "http://127.0.0.1:8099/v1/chat/completions"
    fim = given["minuet"]["provider_options"]["openai_fim_compatible"]
    assert fim["end_point"] == "http://127.0.0.1:8099/v1/completions"
    assert given["llama"]["api_key"] == fim["api_key"] == KEY
    assert given["fim"] == {"next_edit": "sidekick"}


@pytest.mark.skipif(shutil.which("emacs") is None, reason="Emacs is not installed")
def test_settings_in_emacs_lisp(tmp_path: Path) -> None:
    settings = tmp_path / "settings.el"
    settings.write_text(CLIENTS["emacs"].text(PORT))
    stub = (
        "(defvar minuet-openai-fim-compatible-options (list :end-point nil :api-key nil))"
        "(defmacro minuet-set-optional-options (&rest _) nil)"
        "(provide 'minuet)"
    )
    show = (
        "(princ (funcall (plist-get minuet-openai-fim-compatible-options :api-key)))"
        "(princ (plist-get minuet-openai-fim-compatible-options :end-point))"
    )
    command = ["emacs", "--batch", "--eval", f"(progn {stub})", "--load", str(settings)]
    done = subprocess.run([*command, "--eval", f"(progn {show})"], capture_output=True, text=True)
    assert done.stdout == KEY + "http://127.0.0.1:8099/v1/completions", done.stderr


def test_curl_runs_against_the_port_and_key_in_use(tcp: TcpEngine) -> None:
    """The command prints the address and key of the running engine, and the shell runs it."""
    text, said = printed(tcp.home, "--print-config", "curl")
    assert f"http://{urlsplit(tcp.url).netloc}/v1/completions" in text
    assert "no engine serves" not in said
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=60)
    answer = json.loads(done.stdout)
    assert answer["choices"][0]["text"]
    assert answer["model"] == tcp.home.model.name
    wrong = subprocess.run(
        ["sh", "-c", text.replace("Bearer sk", "Bearer xx")], capture_output=True
    )
    assert "the API key is wrong" in wrong.stdout.decode()


def test_the_port_of_several_that_is_asked_for(tcp: TcpEngine, keyless: str) -> None:
    port = keyless.rpartition(":")[2]
    text, _ = printed(tcp.home, "--print-config", "curl", "--tcp", port)
    assert keyless in text
    assert "Authorization" not in text
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["choices"]


def test_without_an_engine_the_command_says_how_to_start_one(home: EngineHome) -> None:
    text, said = printed(home, "--print-config", "llama.vim", "--api-key", "mine")
    assert "http://127.0.0.1:8012/infill" in text
    assert "'mine'" in text
    assert "no engine serves port 8012 now" in said
    assert "fim-server engine --tcp 8012 --api-key" in said
    assert "mine" not in said
