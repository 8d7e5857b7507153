"""What a client announces beyond the specification, in `capabilities.experimental.fim`.

Clients log a warning about each notification that they do not know, so only announced ones are
sent.
"""

from __future__ import annotations

from typing import Any

from lsprotocol import types as lsp

NEXT_EDIT = "nextEdit"
"""The client shows the edits of `fim/nextEdit`."""
REPLACE_REST = "replaceRest"
"""The client shows an item whose range covers the rest of the cursor's line."""
INSTRUCT = "instruct"
"""The client asks for an instruction when the command of `EDIT_WITH_INSTRUCTION` runs in it."""
STATUS = "status"
"""The client knows `didChangeStatus`."""


def announces(capabilities: lsp.ClientCapabilities, name: str) -> bool:
    """Whether `experimental.fim` has this feature."""
    return at(at(capabilities.experimental, "fim"), name) is True


def knows_status(params: lsp.InitializeParams) -> bool:
    """Whether the client handles `didChangeStatus`.

    That are those that say so, older releases of our plugins, which announce next edits alone, and
    clients of Copilot's protocol, which introduce themselves in the initialization options.
    """
    capabilities, options = params.capabilities, params.initialization_options
    own = at(capabilities.experimental, "fim")
    if (said := at(own, STATUS)) is not None:
        return said is True
    plugin = at(at(options, "editorPluginInfo"), "name")
    return isinstance(plugin, str) or at(own, NEXT_EDIT) is not None


def at(value: Any, key: str) -> Any:
    """A field of a JSON object that pygls may have converted to an object with attributes."""
    return value.get(key) if isinstance(value, dict) else getattr(value, key, None)
