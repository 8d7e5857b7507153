"""What the server imports before it answers `initialize`, in counts: seconds depend on machines."""

import json
import subprocess
import sys

import pytest

from fim_server.bench.startup import imports_until_initialized

NOT_BEFORE_INITIALIZE = (
    "torch",
    "numpy",
    "safetensors",
    "tokenizers",
    "transformers",
    "huggingface_hub",
    "tree_sitter",
    "rich",
    "fim_kernels",
    "fim_training",
    "fim_server.bench",
    "fim_server.edits",
    "fim_model.network",
    "fim_model.decoding",
)

MAX_MODULES = 450
"""Modules that answering `initialize` takes; 403 at the time of writing, with Python 3.11."""

MIN_LIGHT_CLASSES = 400
"""Classes of lsprotocol that are defined with fewer methods: 554 of the release of 2025."""

TYPES = """
import json, sys
import attrs
define = attrs.define
{before}
from fim_server.lsp.quick_types import load_types
light = load_types()
from lsprotocol import types as lsp
from pygls.protocol import default_converter
converter = default_converter()
params = dict(processId=None, rootUri=None, capabilities=dict(window=dict(workDoneProgress=True)))
message = dict(id=1, jsonrpc="2.0", method="initialize", params=params)
request = converter.structure(message, lsp.InitializeRequest)
place = lsp.Range(lsp.Position(0, 1), lsp.Position(2, 3))
try:
    lsp.CodeDescription(href=1)
except TypeError:
    checked = True
else:
    checked = False
print(json.dumps(dict(
    light=light,
    restored={restored},
    again=load_types(),
    sent=converter.unstructure(request, lsp.InitializeRequest),
    equal=place == lsp.Range(lsp.Position(0, 1), lsp.Position(2, 3)),
    unequal=place != lsp.Range(lsp.Position(0, 1), lsp.Position(2, 4)),
    same_text=lsp.MarkupContent(lsp.MarkupKind.PlainText, "a")
    == lsp.MarkupContent(lsp.MarkupKind.PlainText, "a"),
    checked=checked,
    shown="secret" in repr(lsp.TextDocumentItem("file:///a", "python", 1, "secret")),
)))
"""

AS_USUAL = "import lsprotocol.types"
OLD_ATTRS = """
def old(maybe_class=None, **options):
    if "slots" in options:
        raise TypeError("unexpected keyword argument 'slots'")
    return define(maybe_class, **options)
attrs.define = old
"""


def types_after(before: str = "", restored: str = "attrs.define is define") -> dict[str, object]:
    script = TYPES.format(before=before, restored=restored)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    result: dict[str, object] = json.loads(run.stdout)
    return result


def test_initialize_is_answered_before_anything_large_is_imported() -> None:
    imported = imports_until_initialized()
    early = [
        name
        for name in imported
        if any(name == large or name.startswith(f"{large}.") for large in NOT_BEFORE_INITIALIZE)
    ]
    assert early == []
    assert "lsprotocol.types" in imported
    assert len(imported) <= MAX_MODULES


def test_light_types_are_loaded_before_any_other_import_of_lsprotocol() -> None:
    # A module that imports lsprotocol earlier makes `load_types` do nothing.
    names = list(imports_until_initialized())
    assert names.index("fim_server.lsp.quick_types") < names.index("lsprotocol.types")


def test_light_types_behave_as_usual() -> None:
    light, usual = types_after(), types_after(AS_USUAL)
    light_classes = light.pop("light")
    assert isinstance(light_classes, int)
    assert light_classes >= MIN_LIGHT_CLASSES
    assert usual.pop("light") == 0
    assert usual.pop("shown") is True
    assert light.pop("shown") is False  # the user's text is in no printed form
    assert light == usual
    assert light["restored"] is True
    assert light["equal"] is light["unequal"] is light["same_text"] is light["checked"] is True


def test_types_are_defined_as_usual_if_attrs_refuses_an_option() -> None:
    refused = types_after(OLD_ATTRS, restored="attrs.define is old")
    assert refused["light"] == 0
    assert refused["restored"] is True
    assert refused["equal"] is refused["checked"] is refused["shown"] is True


@pytest.mark.parametrize("name", ["lsprotocol.types", "pygls.server", "fim_server.lsp.app"])
def test_the_command_itself_imports_no_types(name: str) -> None:
    # `fim-server lsp` imports the types once garbage collection is off, and lightly.
    script = f"import sys, fim_server.commands.lsp; print({name!r} in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert run.stdout.split() == [b"False"]
