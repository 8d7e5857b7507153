"""Load a model for commands that run it in their own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fim_server.access.tuned_workspaces import adapters_folder
from fim_server.backends.mode_choice import measured_choice
from fim_server.commands.usage_error import UsageError

if TYPE_CHECKING:
    from fim_model.calibration.confidence import Calibration
    from fim_model.infiller import Infiller


def load_infiller(
    model: str | None, threads: int | None, calibration: Calibration | None = None
) -> Infiller:
    """Load a model, with a progress bar if stderr is a terminal.

    `calibration` replaces the checkpoint's own. Raises UsageError if torch is not installed or the
    checkpoint cannot be used.
    """
    try:
        from fim_model.infiller import Infiller
    except ImportError as missing:
        raise UsageError(
            f"a local model needs the module {missing.name}: pip install 'fim-server[local]'"
        ) from missing
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    try:
        # Where nobody watches, even a transient bar would leave an empty line.
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("Loading the model", total=1.0)
            return Infiller.load(
                model,
                threads=threads,
                auto=measured_choice(model),
                calibration=calibration,
                adapters=adapters_folder(),
                progress=lambda what, share: bar.update(task, description=what, completed=share),
            )
    except ValueError as unfit:
        raise UsageError(str(unfit)) from unfit
