"""Checkpoints by name from the Hugging Face hub, or from its cache on this machine.

Nothing is downloaded unless the user named an id. Of a repository only JSON and safetensors files
are fetched, the JSON first, so that an unusable checkpoint is refused before gigabytes are
downloaded. Interrupted downloads resume; complete files are not fetched again.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fim_model.errors import CheckpointError
from fim_model.loading.gguf_file import is_gguf
from fim_model.loading.headers import (
    CONFIG,
    INDEX,
    TOKENIZER,
    WEIGHTS,
    Stored,
    read_headers,
    weight_files,
)
from fim_model.loading.progress import Progress

DESCRIPTIONS = (
    CONFIG, TOKENIZER, INDEX, "linear_spec_lora/adapter_config.json",
    "tokenizer_config.json", "generation_config.json", "chat_template.jinja",
    "vocab.json", "merges.txt", "added_tokens.json",
)  # fmt: skip
TENSORS = (WEIGHTS, "model-*-of-*.safetensors", "linear_spec_lora/adapter_model.safetensors")

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SPARE = 256 * 2**20
"""Bytes of disk to leave free."""


class HubError(CheckpointError):
    """A checkpoint cannot be found or fetched; the message is one line that says what to do."""


def resolve(
    id_or_path: str | Path,
    *,
    check: Callable[[Path], object] = lambda folder: None,
    progress: Progress | None = None,
) -> Path:
    """The folder of a checkpoint; a local path wins over an id of the same spelling.

    `check` is called with the folder once its JSON files are there, before any weight is
    downloaded; an exception from it ends the download. Raises HubError.
    """
    if (folder := local_folder(id_or_path)) is not None:
        return folder
    name = str(id_or_path)
    folder = _download(name, DESCRIPTIONS, None)
    check(folder)
    return _download(name, (*DESCRIPTIONS, *TENSORS), progress)


def on_this_machine(id_or_path: str | Path) -> Path | None:
    """The folder of a checkpoint without asking the hub, None where it was not fetched.

    Raises HubError for what is neither a checkpoint nor a possible id.
    """
    if (folder := local_folder(id_or_path)) is not None:
        return folder
    try:
        import huggingface_hub as hub

        wanted: dict[str, Any] = {
            "repo_id": str(id_or_path),
            "allow_patterns": [*DESCRIPTIONS, *TENSORS],
        }
        return Path(hub.snapshot_download(**wanted, local_files_only=True))
    except (ImportError, OSError, ValueError):  # those of the hub's client are among them
        return None


def describe(id_or_path: str | Path) -> Path:
    """A folder that has at least the JSON files of a checkpoint. Raises HubError."""
    folder = local_folder(id_or_path)
    return _download(str(id_or_path), DESCRIPTIONS, None) if folder is None else folder


def remote_headers(name: str, folder: Path) -> dict[str, Stored]:
    """The tensors of a repository, or of its cached copy `folder` if that has the weights.

    Only the headers of the files are fetched. Raises HubError.
    """
    try:
        return read_headers(weight_files(folder))
    except CheckpointError:
        pass  # not downloaded, or not all of it
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
        files = hub.get_safetensors_metadata(name).files_metadata.values()
    except errors.NotASafetensorsRepoError:
        raise HubError(f"{name}: this repository has no {WEIGHTS} and no {INDEX}") from None
    except Exception as failed:  # HTTP errors of whichever client this version of the hub uses
        raise HubError(
            f"{name}: the headers of its weights cannot be read ({_first_line(failed)})"
        ) from None
    return {
        tensor: Stored(tuple(info.shape), str(info.dtype))
        for file in files
        for tensor, info in file.tensors.items()
    }


def _check_files(folder: Path) -> None:
    """Raise HubError for a pipe, a socket or a device in a checkpoint: reading it may never end."""
    for file in folder.iterdir():
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise HubError(f"{file}: is no file but a pipe, a socket or a device; remove it")


def local_folder(id_or_path: str | Path) -> Path | None:
    """The path if it is a folder or a GGUF file, None for a possible id.

    Raises HubError for anything else.
    """
    path = Path(id_or_path)
    with contextlib.suppress(RuntimeError):  # an unknown user's home
        path = path.expanduser()
    if path.is_dir():
        _check_files(path)
        return path
    if path.is_file() and is_gguf(path):
        return path
    if path.exists():
        raise HubError(
            f"{path}: a checkpoint is a folder with {CONFIG}, or a file whose name ends in .gguf"
        )
    if isinstance(id_or_path, Path) or is_gguf(path) or not _ID.fullmatch(id_or_path):
        raise HubError(
            f"{id_or_path}: there is no such checkpoint folder or GGUF file; give the path of one, "
            "a Hugging Face id such as Qwen/Qwen2.5-Coder-1.5B, or leave the model out to use the "
            "default"
        )
    return None


def _download(name: str, patterns: tuple[str, ...], progress: Progress | None) -> Path:
    """The cached folder with these files, fetched where they are missing."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import constants, errors
    except ImportError:
        raise HubError(
            f"{name}: there is no such folder, and to fetch it by id the module huggingface_hub "
            "is missing: pip install 'fim-server[local]'"
        ) from None
    wanted: dict[str, Any] = {"repo_id": name, "allow_patterns": list(patterns)}
    try:
        if constants.is_offline_mode():
            return Path(hub.snapshot_download(**wanted, local_files_only=True))
        files = hub.snapshot_download(**wanted, dry_run=True)
        needed = _check_disk(name, files, constants.HF_HUB_CACHE)
        bar = _bar_class(f"Downloading {name}", needed, progress)
        return Path(hub.snapshot_download(**wanted, tqdm_class=bar))
    except (errors.DryRunError, errors.LocalEntryNotFoundError) as unreachable:
        try:
            return Path(hub.snapshot_download(**wanted, local_files_only=True))
        except errors.LocalEntryNotFoundError:
            raise _explained(name, unreachable.__cause__) from None
    except HubError:
        raise
    except Exception as failed:  # HTTP errors of whichever client this version of the hub uses
        raise HubError(
            f"{name}: the download failed ({_first_line(failed)}); try again, files that are "
            "whole are not fetched again"
        ) from None


def _explained(name: str, cause: BaseException | None) -> HubError:
    """The error for a repository that neither the hub nor its cache provides."""
    from huggingface_hub import constants, errors

    if isinstance(cause, errors.GatedRepoError):
        return HubError(
            f"{name}: this model asks you to accept its terms; do so on its page at "
            f"{constants.ENDPOINT}/{name}, then log in with `hf auth login`"
        )
    if isinstance(cause, errors.RepositoryNotFoundError):
        return HubError(
            f"{name}: there is no such folder, and no such model at {constants.ENDPOINT} (or it is "
            "private: log in with `hf auth login`); check the spelling"
        )
    return HubError(
        f"{name}: there is no such folder, the hub cannot be reached (or HF_HUB_OFFLINE is set), "
        "and this machine has no whole copy; connect once, or give the path of a downloaded "
        "checkpoint"
    )


def _check_disk(name: str, files: list[Any], cache: str) -> int:
    """Bytes of the files still to be fetched.

    Raises HubError where they do not fit, or where the repository has no model.
    """
    if not any(Path(file.filename).name == CONFIG for file in files):
        raise HubError(f"{name}: this repository has no {CONFIG}; it is not a model to load")
    needed = sum(file.file_size for file in files if file.will_download)
    place = Path(cache)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed and needed + _SPARE > free:
        raise HubError(
            f"{name}: {needed / 1e9:.1f} GB are to be downloaded to {cache}, where {free / 1e9:.1f}"
            " GB are free; make room, or set HF_HOME to a folder on a larger disk"
        )
    return int(needed)


def _bar_class(what: str, needed: int, progress: Progress | None) -> type:
    """A progress bar that draws nothing and passes the share of the needed bytes to `progress`.

    The client's totals grow with every file it begins, and its threads update at any time, so only
    updates above the highest share so far are passed on.
    """
    from huggingface_hub.utils.tqdm import tqdm

    lock, highest = threading.Lock(), 0.0

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.bytes = kwargs.get("unit") == "B"
            super().__init__(*args, **{**kwargs, "disable": True, "name": None})  # type: ignore[no-untyped-call]
            self.total, self.done = kwargs.get("total") or 0, kwargs.get("initial") or 0

        def update(self, n: float | None = 1) -> None:
            nonlocal highest
            if progress is None or not self.bytes or not needed:
                return
            with lock:
                self.done += n or 0
                share = min(self.done / needed, 1.0)
                if share > highest:
                    highest = share
                    progress(what, share)

    return Bar


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
