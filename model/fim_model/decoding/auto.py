"""Mode `auto`: the mode and setting that were measured to be fastest on this machine.

Which mode pays depends on the model and the machine: on a GPU a wide forward is free, on a CPU it
is not. So it is measured once (`fim-server bench modes`) and kept in the user's cache folder, one
file for each model, with what it was measured on. Until then, and where that has changed, it is
`adaptive`, which measures as it goes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fim_model.decoding.commit_rules import parse_rule
from fim_model.decoding.modes import ModeOptions
from fim_model.errors import RequestError
from fim_model.network.config import ModelConfig
from fim_model.requests import AUTO

MEASURED = "measured_on"


@dataclass(frozen=True, slots=True)
class ModeChoice:
    """A mode and its setting, in values that JSON can hold."""

    mode: str = "adaptive"
    rule: str = "confidence:0.9"
    width_budget: int = 72
    block_size: int | None = None

    @classmethod
    def unmeasured(cls, config: ModelConfig) -> ModeChoice:
        """The model's first mode, with its family's commit rule."""
        return cls(config.modes[0], config.family.rule)

    def options(self) -> ModeOptions:
        """Raises ValueError for a rule that is unknown."""
        return ModeOptions(parse_rule(self.rule), self.width_budget, self.block_size)


def resolve_mode(
    asked: str, config: ModelConfig, options: ModeOptions, auto: ModeChoice
) -> tuple[str, ModeOptions]:
    """The mode to decode in, and its options: `auto` stands for a choice, others for themselves.

    Where the model lacks the chosen mode, `auto` is the model's first one. Raises RequestError for
    another mode that it lacks.
    """
    modes = config.modes
    if asked == AUTO:
        choice = auto if auto.mode in modes else ModeChoice.unmeasured(config)
        chosen = replace(choice.options(), lengths=options.lengths, drafting=options.drafting)
        return choice.mode, chosen
    if asked not in modes:
        raise RequestError(
            f"mode {asked!r} needs another model; this {config.model_type} model "
            f"has the modes {', '.join(modes)}"
        )
    return asked, options


@dataclass(frozen=True, slots=True)
class MeasuredOn:
    """What a measurement holds for. weights: a digest. cpu: the processor's name."""

    weights: str
    cpu: str
    torch: str


def save_choice(path: Path, choice: ModeChoice, measured: MeasuredOn) -> None:
    """Write a measured choice, creating the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {**asdict(choice), MEASURED: asdict(measured)}
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def load_choice(path: Path, measured: MeasuredOn) -> ModeChoice | None:
    """The choice that was measured on just this, None without one or where the file is unfit."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.pop(MEASURED, None) != asdict(measured):
            return None
        choice = ModeChoice(**kept)
        choice.options()
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return choice
