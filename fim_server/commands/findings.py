"""What a check of `fim-server doctor` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line; `fix` is empty exactly if the verdict is ok."""

    topic: str
    verdict: Verdict
    message: str
    fix: str = ""
