"""The result of a check of `fim-server doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict with a one-line message; `fix` is empty if and only if the verdict is `ok`."""

    topic: str
    verdict: Verdict
    message: str
    fix: str = ""
