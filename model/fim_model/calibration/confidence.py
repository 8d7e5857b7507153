"""The calibrated probability that a suggestion is right, from its tokens' log-probabilities.

A model's own probabilities are per token and overconfident. A logistic regression on features of
the whole suggestion, fitted on projects the model never saw (`fim-server eval gate`), corrects
that: of suggestions with confidence 0.7, seven in ten are right. The same file has the weights of
what only a front-end can see; this package passes them on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from fim_model.copies import Copied
from fim_model.errors import CheckpointError
from fim_model.requests import Gate

CALIBRATION = "calibration.json"
"""The file's name in a checkpoint folder."""


def features(nats: Sequence[float], cut: bool) -> tuple[float, ...]:
    """Features of generated text: its log-probabilities' mean, sum and minimum; whether it was cut.

    nats: the log-probability of each token when it was committed, the end's included.
    """
    return *_of_tokens(nats), float(cut)


def copy_features(nats: Sequence[float], copied: Copied) -> tuple[float, ...]:
    """Features of a copy: its tokens' log-probabilities, and how alike the two contexts are."""
    counts = (copied.matched, copied.behind, copied.distance, copied.places)
    return *_of_tokens(nats), *map(math.log1p, counts), float(copied.elsewhere)


def _of_tokens(nats: Sequence[float]) -> tuple[float, float, float]:
    return sum(nats) / len(nats), sum(nats), min(nats)


@dataclass(frozen=True, slots=True)
class CopyWeights:
    """The weights of `copy_features`; fields with a default are missing in older files."""

    bias: float
    mean: float
    total: float
    least: float
    matched: float
    behind: float
    distance: float
    places: float = 0.0
    elsewhere: float = 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """The weights of `features`, those of `copy_features`, and the threshold for showing.

    gate: the weights of a front-end's evidence, which are not used here; None without any.
    """

    bias: float
    mean: float
    total: float
    least: float
    cut: float
    show_above: float
    copies: CopyWeights | None = None
    gate: Gate | None = None

    def __call__(self, nats: Sequence[float], cut: bool) -> float:
        """The probability (0..1) that generated text is what was wanted."""
        bias, *weights = astuple(self)[:5]
        return _probability(bias, weights, features(nats, cut))

    def of_copy(self, nats: Sequence[float], copied: Copied) -> float:
        """The same for a copy; 0 without weights for copies."""
        if self.copies is None:
            return 0.0
        bias, *weights = astuple(self.copies)
        return _probability(bias, weights, copy_features(nats, copied))

    @classmethod
    def read(cls, folder: Path) -> Calibration | None:
        """A checkpoint's calibration, None without one. CheckpointError for an invalid file."""
        path = folder / CALIBRATION
        if not path.is_file():
            return None
        names = [field.name for field in fields(cls) if field.name not in ("copies", "gate")]
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            copies = _copy_weights(raw["copies"]) if raw.get("copies") else None
            gate = _gate(raw["gate"]) if raw.get("gate") else None
            return cls(**{name: float(raw[name]) for name in names}, copies=copies, gate=gate)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise CheckpointError(
                f"{path} is not a calibration ({wrong!r}): it needs the numbers "
                f"{', '.join(names)}; write it anew with fim-server "
                "eval gate --write, or delete it"
            ) from None

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=2)
        (folder / CALIBRATION).write_text(text + "\n", encoding="utf-8")


def _copy_weights(raw: dict[str, Any]) -> CopyWeights:
    names = [field.name for field in fields(CopyWeights) if field.name in raw]
    return CopyWeights(**{name: float(raw[name]) for name in names})


def _gate(raw: dict[str, Any]) -> Gate:
    weights = {str(name): float(weight) for name, weight in raw["weights"].items()}
    return Gate(float(raw["bias"]), float(raw["confidence"]), float(raw["show_above"]), weights)


def _probability(bias: float, weights: Sequence[float], seen: Sequence[float]) -> float:
    odds = bias + sum(w * x for w, x in zip(weights, seen, strict=True))
    return 1 / (1 + math.exp(min(-odds, 700)))
