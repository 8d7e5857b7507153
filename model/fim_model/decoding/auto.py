"""`--mode auto`: the mode and setting that were measured to be best on this machine.

Which of the modes pays depends on the model and the machine: on a GPU a wide forward is free, on a
CPU it is not. So it is measured once (`fim-server bench modes`) and kept beside the user's other
caches, one file for each model.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fim_model.decoding.commit_rules import parse_rule
from fim_model.decoding.modes import ModeOptions


@dataclass(frozen=True, slots=True)
class ModeChoice:
    """A mode and its setting, in plain values that a file can hold."""

    mode: str = "self_speculation"
    rule: str = "confidence:0.9"
    width_budget: int = 72
    block_size: int | None = None

    def options(self) -> ModeOptions:
        """Raises ValueError for a rule that is unknown."""
        return ModeOptions(parse_rule(self.rule), self.width_budget, self.block_size)


def save_choice(path: Path, choice: ModeChoice) -> None:
    """Keep a measured choice; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(choice), indent=2) + "\n", encoding="utf-8")


def load_choice(path: Path) -> ModeChoice:
    """The measured choice, or the default one where nothing was measured or the file is unfit."""
    try:
        choice = ModeChoice(**json.loads(path.read_text(encoding="utf-8")))
        choice.options()
    except (OSError, ValueError, TypeError):
        return ModeChoice()
    return choice
