"""How likely a model finds what stood in held-out holes, in nats.

    python -m fim_training.evaluation.likelihood --data heldout.jsonl.gz --model A --beside NAME=B

Whether the likeliest text is exactly right says little of a hole; its likelihood says more, so that
300 holes tell states apart that differ by two of a hundred exact answers. Prompts are those of the
server, and the end of the hole counts as a token. Differences are between the same holes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch
import torch.nn.functional as F
from fim_model.decoding.auto import ModeChoice
from fim_model.decoding.commit_rules import parse_rule
from fim_model.decoding.modes import ModeOptions
from fim_model.decoding.preparation import Preparation
from fim_model.loading.checkpoint import load_model
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.network.attention_mask import Attention
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.prompt.window import WINDOW, fim_prompt, usable_window
from fim_model.requests import CompletionRequest

from fim_training.evaluation.heldout_holes import (
    KINDS,
    HeldoutHole,
    Window,
    draw_each,
    load_documents,
)


@dataclass(frozen=True, slots=True)
class HoleNats:
    """Nats of a hole's tokens, the end included, and of the end alone."""

    kind: str
    tokens: int
    nats: float
    end: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over n holes: nats a token, a hole, and of a hole's end."""

    n: int
    a_token: float
    a_hole: float
    end: float


@torch.inference_mode()
def hole_nats(
    model: TriModeTransformer, tokenizer: CodeTokenizer, holes: Sequence[HeldoutHole]
) -> list[HoleNats]:
    """The nats of each hole's own text, behind the prompt that the server would give."""
    config, fim = model.config, fim_prompt(model.config, tokenizer)
    window, options = usable_window(config, WINDOW, 0), ModeOptions(parse_rule(config.family.rule))
    prepare = Preparation(config, tokenizer, fim, window, options, ModeChoice(), None, "")
    found = []
    for hole in holes:
        seen = hole.hole(Window())
        request = CompletionRequest(seen.prefix, seen.suffix, seen.path, mode="ar")
        prepared = prepare.hole(request)
        middle = [*tokenizer.encode(prepared.typed + hole.answer), fim.eom]
        tokens = torch.tensor([[*prepared.prompt, *middle]])
        positions = torch.arange(tokens.shape[1])[None]
        hidden = model(tokens, positions, Attention.CAUSAL)[0, len(prepared.prompt) - 1 : -1]
        nats = F.cross_entropy(model.logits(hidden).float(), torch.tensor(middle), reduction="none")
        found.append(HoleNats(hole.kind, len(middle), float(nats.sum()), float(nats[-1])))
    return found


def summary(holes: Sequence[HoleNats]) -> Summary:
    """Of at least one hole."""
    nats, tokens = sum(hole.nats for hole in holes), sum(hole.tokens for hole in holes)
    end = fmean(hole.end for hole in holes)
    return Summary(len(holes), nats / tokens, nats / len(holes), end)


def gain(better: Sequence[HoleNats], worse: Sequence[HoleNats]) -> tuple[float, float]:
    """How many nats a hole the first saves on the same holes, and the standard error of that."""
    saved = [b.nats - a.nats for a, b in zip(better, worse, strict=True)]
    return fmean(saved), stdev(saved) / len(saved) ** 0.5


def of_checkpoint(folder: Path, holes: Sequence[HeldoutHole]) -> list[HoleNats]:
    """`hole_nats` of a checkpoint's weights in bf16. Raises CheckpointError."""
    model = load_model(folder, dtype=torch.bfloat16)
    return hole_nats(model, read_tokenizer(folder), holes)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(prog="python -m fim_training.evaluation.likelihood")
    parser.add_argument("--data", type=Path, required=True, help="heldout.jsonl.gz")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument(
        "--beside", action="append", default=[], metavar="FOLDER", type=Path,
        help="another checkpoint, on the same holes (may be repeated)",
    )  # fmt: skip
    parser.add_argument("--per-kind", type=int, default=60, help="holes of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    given = parser.parse_args(argv)
    if given.threads:
        torch.set_num_threads(given.threads)
    try:
        documents = load_documents(given.data)
        holes = draw_each(documents, KINDS, given.per_kind, given.seed)
        measured = {folder: of_checkpoint(folder, holes) for folder in (given.model, *given.beside)}
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if given.json:
        sys.stdout.write(json.dumps(_as_json(measured)) + "\n")
    else:
        sys.stdout.write(_as_text(measured))
    return 0


def _by_kind(holes: Sequence[HoleNats]) -> dict[str, Summary]:
    kinds = {kind: [hole for hole in holes if hole.kind == kind] for kind in KINDS}
    return {kind: summary(some) for kind, some in kinds.items()} | {"all": summary(holes)}


def _as_json(measured: dict[Path, list[HoleNats]]) -> dict[str, object]:
    first, *_ = measured.values()
    return {
        str(folder): {kind: asdict(figures) for kind, figures in _by_kind(holes).items()}
        | {"gain_of_first": gain(first, holes)}
        for folder, holes in measured.items()
    }


def _as_text(measured: dict[Path, list[HoleNats]]) -> str:
    first, *_ = measured.values()
    lines = ["| checkpoint | holes | n | nats a token | nats a hole | of these the end |"]
    lines.append("|---|---|---|---|---|---|")
    for folder, holes in measured.items():
        lines += [
            f"| {folder} | {kind} | {f.n} | {f.a_token:.4f} | {f.a_hole:.2f} | {f.end:.2f} |"
            for kind, f in _by_kind(holes).items()
        ]
    for folder, holes in list(measured.items())[1:]:
        saved, error = gain(first, holes)
        lines.append(f"\nThe first saves {saved:.2f} ± {error:.2f} nats a hole against {folder}.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
