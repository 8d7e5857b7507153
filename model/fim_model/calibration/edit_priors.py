"""How much a checkpoint's judgement of edits counts.

A model's gain is the log-likelihood of a new text minus that of the old one. How reliable it is
differs by model: small ones are poor judges of edits, and mostly wrong in edits of their own. So a
draft's gain has a weight, fitted on replayed commits (`fim-server eval edits --git … --with-model
--fit --write`), and what the model writes itself has prior odds.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from fim_model.errors import CheckpointError
from fim_model.requests import DRAFT_WEIGHT, OWN_PRIOR

EDIT_PRIORS = "edit_priors.json"
"""The file's name in a checkpoint folder."""


@dataclass(frozen=True, slots=True)
class EditPriors:
    """Nats of evidence for each nat that a rule's draft gains, and nats added to the gain of an
    edit that the model wrote."""

    draft_weight: float = DRAFT_WEIGHT
    own: float = OWN_PRIOR

    @classmethod
    def read(cls, folder: Path) -> EditPriors:
        """A checkpoint's priors, or the defaults. Raises CheckpointError for an invalid file."""
        path = folder / EDIT_PRIORS
        if not path.is_file():
            return cls()
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            found = cls(float(raw["draft_weight"]), float(raw["own"]))
            if not (math.isfinite(found.draft_weight) and math.isfinite(found.own)):
                raise ValueError("a number is not finite")
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            raise CheckpointError(
                f"{path} has no priors of edits ({wrong!r}): it needs the numbers draft_weight "
                "and own; write it anew with fim-server eval edits --git CLONE --with-model --fit "
                "--write, or delete it"
            ) from None
        return found

    def write(self, folder: Path) -> None:
        (folder / EDIT_PRIORS).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")
