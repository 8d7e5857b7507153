"""How likely a person takes a suggestion, told from the probabilities its tokens had.

A model's own probabilities are of tokens, and too sure of themselves. A logistic regression on what
they say about a whole suggestion, fitted on projects the model never saw
(`python -m fim_model.evaluation.calibrate`), is a probability that can be trusted: of what is shown
with 0.7, seven in ten are right.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from fim_model.errors import CheckpointError

CALIBRATION = "calibration.json"
"""Where a checkpoint folder keeps it."""

Features = tuple[float, float, float, float]
"""Of a suggestion: mean, sum, least log-probability of its tokens, and whether a limit cut it."""


def features(nats: Sequence[float], cut: bool) -> Features:
    """nats: the log-probability of each token when it was committed, the end's included."""
    return sum(nats) / len(nats), sum(nats), min(nats), float(cut)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The regression's weights, one for each of `Features`, and the confidence worth showing."""

    bias: float
    mean: float
    total: float
    least: float
    cut: float
    show_above: float

    def __call__(self, nats: Sequence[float], cut: bool) -> float:
        """The probability (0..1) that the suggestion is what was wanted."""
        bias, *weights = astuple(self)[:-1]
        odds = bias + sum(w * x for w, x in zip(weights, features(nats, cut), strict=True))
        return 1 / (1 + math.exp(min(-odds, 700)))

    @classmethod
    def read(cls, folder: Path) -> Calibration | None:
        """A checkpoint's own, or None. Raises CheckpointError for a file that is none."""
        path = folder / CALIBRATION
        if not path.is_file():
            return None
        names = [field.name for field in fields(cls)]
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{name: float(raw[name]) for name in names})
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            raise CheckpointError(
                f"{path} is no calibration ({wrong!r}): it needs the numbers {', '.join(names)}; "
                "write it anew with python -m fim_model.evaluation.calibrate, or delete it"
            ) from None

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=2)
        (folder / CALIBRATION).write_text(text + "\n", encoding="utf-8")
