"""The console script `fim-server`: cleans the import path, then runs the command.

Only modules that Python has loaded by itself are imported before `main` has cleaned the path.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run one command and return its exit code."""
    leave_working_directory()
    from fim_server.commands.command_line import run

    return run(argv)


def leave_working_directory() -> None:
    """Import nothing from the working directory, and Python's own modules before PYTHONPATH's.

    Editors start the server in the user's project, which may have a `json.py`. It would be imported
    with `python -m`, which puts the working directory first, and with an empty or relative entry
    of PYTHONPATH. Other absolute entries stay, after the standard library. Processes that are
    started from here inherit a PYTHONPATH without the entries that were removed.
    """
    own = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120
    library = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib is not loaded yet
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    try:
        # Python has made relative entries of PYTHONPATH absolute in sys.path.
        relative = [entry for entry in entries if not os.path.isabs(entry)]  # noqa: PTH117
        users = {os.path.realpath(entry) for entry in [os.getcwd(), *relative]}  # noqa: PTH109
    except OSError:  # the directory was deleted
        users = set()

    def is_python(entry: str) -> bool:
        folder, name = os.path.split(entry)
        if name.startswith("python") and name.endswith(".zip"):
            return folder == os.path.dirname(library)  # noqa: PTH120
        return entry == library or (folder == library and not name.endswith("-packages"))

    def is_kept(entry: str) -> bool:
        if not os.path.isabs(entry):  # noqa: PTH117
            return False
        installed = is_python(entry) or entry.endswith("-packages")
        return installed or os.path.realpath(entry) not in users - {own}

    kept = [entry for entry in sys.path if is_kept(entry)]
    sys.path[:] = sorted(kept, key=lambda entry: not is_python(entry))
    if inherited := os.pathsep.join(filter(is_kept, entries)):
        os.environ["PYTHONPATH"] = inherited
    else:
        os.environ.pop("PYTHONPATH", None)
