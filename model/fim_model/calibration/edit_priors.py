"""How much speaks for an edit before the model is asked, in nats, for each checkpoint.

A model's gain says how much likelier it finds a new text than the old one. How far that can be
trusted differs: a small model hardly judges what follows from an edit, and what it writes by itself
is mostly wrong. So log prior odds are added, fitted on projects the model never saw (`fim-server
eval edits --sweep --write`).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from fim_model.errors import CheckpointError
from fim_model.requests import DRAFT_PRIOR, OWN_PRIOR

EDIT_PRIORS = "edit_priors.json"
"""Where a checkpoint folder keeps them."""


@dataclass(frozen=True, slots=True)
class EditPriors:
    """Nats added to the gain of a draft (what does again what a person did), and to that of what
    the model wrote by itself."""

    draft: float = DRAFT_PRIOR
    own: float = OWN_PRIOR

    @classmethod
    def read(cls, folder: Path) -> EditPriors:
        """A checkpoint's own, or the defaults. Raises CheckpointError for a file that is none."""
        path = folder / EDIT_PRIORS
        if not path.is_file():
            return cls()
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            found = cls(float(raw["draft"]), float(raw["own"]))
            if not (math.isfinite(found.draft) and math.isfinite(found.own)):
                raise ValueError("a number is not finite")
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            raise CheckpointError(
                f"{path} has no priors of edits ({wrong!r}): it needs the numbers draft and own; "
                "write it anew with fim-server eval edits --sweep --write, or delete it"
            ) from None
        return found

    def write(self, folder: Path) -> None:
        (folder / EDIT_PRIORS).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")
