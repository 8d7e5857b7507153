"""A small workspace with a history, as `fim-server tune` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from git_clones import write_clone

if TYPE_CHECKING:
    from fim_training.tuning.workspace_data import WorkspaceData

NAMES = (
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet",
    "kilo", "lima",
)  # fmt: skip
KINDS = (
    "total", "weight", "size", "price", "length", "width", "height", "depth", "volume", "amount",
    "number", "duration",
)  # fmt: skip
SECRET = "hunter2hunter2"


def module(name: str, unit: int = 1) -> str:
    """Python of about three thousand characters; another unit changes two places far apart."""
    functions = "".join(
        f"def {name}_{kind}(values: list[int], limit: int) -> int:\n"
        f'    """The {kind} of the {name} values below a limit."""\n'
        "    found = 0\n"
        "    for value in values:\n"
        "        if value < limit:\n"
        f"            found += value * {number}\n"
        "    return found\n\n\n"
        for number, kind in enumerate(KINDS, 2)
    )
    return f"UNIT = {unit}\n\n\n{functions}def {name}_unit() -> int:\n    return {unit}\n"


def write_workspace(folder: Path, commits: int = 90) -> Path:
    """Twelve modules; each commit changes two hunks of one, the newest last. A secret file and an
    excluded one are in the tree and in the history."""
    start = {f"src/{name}.py": module(name) for name in NAMES}
    start |= {"secrets.py": f"PASSWORD = '{SECRET}'\n" * 20, ".env": f"KEY={SECRET}\n"}
    start |= {"private/own.py": f"# {SECRET}\n" + module("private"), ".fimignore": "private/\n"}
    changes = [
        (
            f"Change the unit of {NAMES[number % len(NAMES)]}",
            {
                f"src/{NAMES[number % len(NAMES)]}.py": module(
                    NAMES[number % len(NAMES)], number + 2
                ),
                "private/own.py": f"# {SECRET}\n" + module("private", number + 2),
            },
        )
        for number in range(commits)
    ]
    return write_clone(folder, [("Add everything", start), *changes])


def read_workspace(folder: Path) -> WorkspaceData:
    """What the modules of `write_workspace` and their history give to training."""
    from fim_training.corpus.git_histories import GitHistory
    from fim_training.tuning.workspace_data import workspace_data

    texts = {f"src/{name}.py": (folder / "src" / f"{name}.py").read_text() for name in NAMES}
    with GitHistory(folder) as history:
        return workspace_data(texts, history)
