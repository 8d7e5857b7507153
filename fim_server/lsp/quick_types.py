"""Load the types of lsprotocol in half the time, before anything else imports them.

lsprotocol declares some 400 classes with `attrs.define`, and attrs writes and compiles methods for
each of them when the module is imported: most of the time from the start of the server to the
answer to `initialize`. `attrs.define` has documented options that leave out what a server does not
use:

* `repr=False`: no printed form, which nothing here logs, since it would contain the user's code.
* `slots=False`: the class is not created a second time to give it slots.
* `on_setattr=NO_OP`: no check when an attribute is assigned; the checks of `__init__` stay.

Only a process that runs the language server does this, and only if lsprotocol was not imported yet.
If a release of attrs refuses an option, or lsprotocol stops calling `attrs.define`, the types are
defined as usual; `tests/fim_server/lsp/test_startup.py` notices.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import attrs

_TYPES = "lsprotocol.types"


def load_types() -> int:
    """Import `lsprotocol.types` and return the number of classes that were defined lightly."""
    if _TYPES in sys.modules:
        return 0
    define = attrs.define
    light = _Light(define)
    attrs.define = light  # type: ignore[assignment]
    try:
        import lsprotocol.types  # noqa: F401 - a statement, so that -X importtime times it
    finally:
        attrs.define = define
    return light.classes


class _Light:
    """`attrs.define` with fewer generated methods, for classes that ask for nothing special."""

    def __init__(self, define: Callable[..., Any]) -> None:
        self._define = define
        self.classes = 0

    def __call__(self, maybe_class: type | None = None, **options: Any) -> Any:
        if maybe_class is None or options:
            return self._define(maybe_class, **options)
        try:
            light = self._define(
                maybe_class, repr=False, slots=False, on_setattr=attrs.setters.NO_OP
            )
        except TypeError:  # an option that this release of attrs does not have
            return self._define(maybe_class)
        self.classes += 1
        return light
