"""Measure how sure a model is of holes of each length: what native infilling compares lengths by.

    python -m fim_training.shipping.native_lengths --data heldout.jsonl.gz --model FOLDER --write

A model is surer of one mask than of twenty, whatever the hole. So at places of real code, each with
a hole of another true length, every length is probed, and the mean of what is found at each length
is kept beside the checkpoint (`native_lengths.json`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean

from fim_model.decoding.core import DecodingCore, StopRule
from fim_model.decoding.native import LENGTHS, LengthCalibration, RightContext, probe_lengths
from fim_model.decoding.sampling import Sampler
from fim_model.infiller import Infiller
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import NATIVE, CompletionRequest
from rich.console import Console
from rich.progress import Progress

from fim_training.evaluation.heldout_holes import Document, Window, load_documents

_TRIES_PER_PLACE = 50
_CHARS_PER_TOKEN = 16
"""More than nearly every token has."""


@dataclass(frozen=True, slots=True)
class Place:
    """A hole of `length` tokens between two texts."""

    prefix: str
    suffix: str
    length: int


def draw_places(
    documents: Sequence[Document], tokenizer: CodeTokenizer, count: int, seed: int
) -> list[Place]:
    """Places at characters, by project, document and character uniformly; all lengths in turn.

    Raises ValueError if the documents are too short, and for a count under 1.
    """
    if count < 1:
        raise ValueError(f"{count} places: at least one is needed")
    rng, window = Random(seed), Window()
    projects: dict[str, list[Document]] = {}
    for document in documents:
        projects.setdefault(document.project, []).append(document)
    names, places = sorted(projects), list[Place]()
    for _ in range(_TRIES_PER_PLACE * count if names else 0):
        if len(places) == count:
            break
        text = rng.choice(projects[rng.choice(names)]).text
        at = rng.randrange(len(text) + 1)
        length = LENGTHS[len(places) % len(LENGTHS)]
        ids = tokenizer.encode(text[at : at + _CHARS_PER_TOKEN * (length + 1)])
        if len(ids) > length:
            end = at + len(tokenizer.decode(ids[:length]))
            places.append(Place(window.before(text[:at]), window.after(text[end:]), length))
    if len(places) < count:
        raise ValueError(f"only {len(places)} of {count} places found; use more documents")
    return places


def first_confidences(infiller: Infiller, place: Place) -> dict[int, float]:
    """Phi(L) at one place for each of LENGTHS: the mean top-1 probability over L masks."""
    block_size = infiller.model.config.block_size
    request = CompletionRequest(place.prefix, place.suffix, mode=NATIVE)
    cache = infiller.sessions.take("")
    cache.prefill(infiller.prompt(request))
    core = DecodingCore(
        infiller.model, cache.kv, StopRule(infiller.fim.eom, max(LENGTHS)), Sampler()
    )
    right = RightContext.of(infiller.tokenizer.encode(place.suffix), block_size)
    return {one.length: one.score for one in probe_lengths(core, right)}


def measure(
    infiller: Infiller, places: Sequence[Place], progress: Callable[[int], None] = lambda done: None
) -> LengthCalibration:
    """The mean Phi(L) over the places. Raises ValueError for a model without native infilling."""
    if NATIVE not in infiller.modes:
        raise ValueError(
            f"this {infiller.model.config.model_type} model denoises no blocks, so it has no "
            "native infilling to calibrate"
        )
    found: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for done, place in enumerate(places, start=1):
        for length, confidence in first_confidences(infiller, place).items():
            found[length].append(confidence)
        progress(done)
    return LengthCalibration({length: fmean(values) for length, values in found.items()})


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; one JSON object on stdout, exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(prog="python -m fim_training.shipping.native_lengths")
    parser.add_argument("--data", type=Path, required=True, help="heldout.jsonl.gz of the corpus")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--places", type=int, default=440, help="how many holes to probe")
    parser.add_argument("--seed", type=int, default=1, help="of the drawn places")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--write", action="store_true", help="keep it in the checkpoint folder")
    given = parser.parse_args(argv)
    try:
        documents = load_documents(given.data)
        infiller = Infiller.load(given.model, threads=given.threads)
        places = draw_places(documents, infiller.tokenizer, given.places, given.seed)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("places", total=len(places))
            curve = measure(infiller, places, lambda done: bar.update(task, completed=done))
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if given.write:
        curve.write(given.model)
    figures = {"model": str(given.model), "places": len(places), "mean": curve.mean}
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
