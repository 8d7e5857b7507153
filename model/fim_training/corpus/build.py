"""Build the code corpus: `python -m fim_training.corpus.build --out DIR`.

Writes `train.jsonl.gz` and `heldout.jsonl.gz` (one {"project", "path", "language", "text"} a line,
sorted by project and path) and `manifest.json`, which says what was taken, what was refused, and
why. The same machine gives the same bytes. Python alone, unless `--languages` names more.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shlex
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from pathlib import Path

from fim_training.corpus.corpus_languages import PYTHON, Language, language_of, parse_shares
from fim_training.corpus.filters import (
    BenchmarkFilter,
    DuplicateFilter,
    path_reason,
    read_source,
    reject_reason,
)
from fim_training.corpus.folder_sources import folder_project, npm_projects
from fim_training.corpus.held_out import is_held_out
from fim_training.corpus.python_sources import (
    Project,
    Refusal,
    installed_projects,
    standard_library,
)

MAX_PROJECT_SHARE = 0.12
SEED = 20_250_101


@dataclass(frozen=True)
class Document:
    """One file of the corpus."""

    project: str
    path: str
    language: str
    text: str

    @property
    def size(self) -> int:
        """Bytes of UTF-8."""
        return len(self.text.encode())


@dataclass
class Corpus:
    """What was taken, and what became of the rest."""

    train: list[Document] = field(default_factory=list)
    held_out: list[Document] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def collect(
    projects: Iterable[Project], benchmark: BenchmarkFilter, shares: Mapping[Language, float]
) -> Corpus:
    """Read and filter all projects, then hold each project and language to its share."""
    corpus = Corpus()
    duplicates = DuplicateFilter()
    # Held-out projects first: a copy of their code elsewhere is then the one that is dropped.
    for project in sorted(projects, key=lambda source: (not is_held_out(source.name), source.name)):
        documents = list(_documents(project, duplicates, benchmark, corpus.dropped))
        _report(f"{project.name}: {len(documents)} of {len(project.files)} files")
        (corpus.held_out if is_held_out(project.name) else corpus.train).extend(documents)
    kept = cap_shares(corpus.train, MAX_PROJECT_SHARE, SEED)
    corpus.dropped["over the project's share"] = len(corpus.train) - len(kept)
    balanced = cap_languages(
        kept, {language.name: share for language, share in shares.items()}, SEED
    )
    if len(shares) > 1:
        corpus.dropped["over the language's share"] = len(kept) - len(balanced)
    corpus.train = balanced
    return corpus


def _documents(
    project: Project,
    duplicates: DuplicateFilter,
    benchmark: BenchmarkFilter,
    dropped: Counter[str],
) -> Iterable[Document]:
    for file in project.files:
        language = language_of(file.path)
        if language is None:
            continue
        if reason := path_reason(file.path, language):
            dropped[reason] += 1
            continue
        text = read_source(file.location)
        if text is None:
            dropped["unreadable"] += 1
        elif reason := _drop_reason(text, language, duplicates, benchmark):
            dropped[reason] += 1
        else:
            yield Document(project.name, file.path, language.name, text)


def _drop_reason(
    text: str, language: Language, duplicates: DuplicateFilter, benchmark: BenchmarkFilter
) -> str | None:
    """The checks in order of cost; only a text that passes all of them counts as seen."""
    if reason := reject_reason(text, language):
        return reason
    if benchmark.matches(text):
        return "benchmark material"
    if language.parses is not None and not language.parses(text):
        return "does not parse"
    return duplicates.duplicate_reason(text)


def cap_shares(documents: Sequence[Document], share: float, seed: int) -> list[Document]:
    """Drop whole files, by a fixed draw, until no project has more than `share` of the bytes.

    With fewer than 1 / share projects that is impossible; the limit is then an equal part each.
    """
    by_project: dict[str, list[Document]] = {}
    for document in documents:
        by_project.setdefault(document.project, []).append(document)
    sizes = {name: sum(document.size for document in files) for name, files in by_project.items()}
    limit = byte_limit(list(sizes.values()), share)
    kept: list[Document] = []
    for name, files in by_project.items():
        kept += files if sizes[name] <= limit else _draw(files, limit, f"{seed} {name}")
    return sorted(kept, key=attrgetter("project", "path"))


def cap_languages(
    documents: Sequence[Document], shares: Mapping[str, float], seed: int
) -> list[Document]:
    """Drop whole files, by a fixed draw, until no language has more than its share of the bytes.

    ValueError where the shares of the languages that were found leave some of the bytes to none.
    """
    by_language: dict[str, list[Document]] = {}
    for document in documents:
        by_language.setdefault(document.language, []).append(document)
    sizes = {name: sum(document.size for document in files) for name, files in by_language.items()}
    limits = language_limits(sizes, shares)
    kept: list[Document] = []
    for name, files in by_language.items():
        whole = sizes[name] <= limits[name]
        kept += files if whole else _draw(files, limits[name], f"{seed} {name}")
    return sorted(kept, key=attrgetter("project", "path"))


def language_limits(sizes: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """Each language's bytes such that none has more than its share of the bytes of all."""
    if sizes and sum(shares[name] for name in sizes) < 1:
        raise ValueError(
            f"only {', '.join(sorted(sizes))} were found, whose shares add up to less than 1; "
            "raise them with --languages"
        )
    limits = dict(sizes)
    # Cutting one language shrinks the sum, so the limits go down until they hold.
    while True:
        total = sum(limits.values())
        lower = {name: min(size, int(shares[name] * total)) for name, size in limits.items()}
        if lower == limits:
            return limits
        limits = lower


def byte_limit(sizes: Sequence[int], share: float) -> int:
    """The largest limit (bytes) such that no min(size, limit) exceeds `share` of their sum."""
    if not sizes:
        return 0
    parts = min(1 / share, len(sizes))
    limit = max(sizes)
    # Cutting the large ones shrinks the sum, so the limit goes down until it holds.
    while limit > (allowed := int(sum(min(size, limit) for size in sizes) / parts)):
        limit = allowed
    return limit


def _draw(files: list[Document], limit: int, seed: str) -> list[Document]:
    shuffled = sorted(files, key=attrgetter("path"))
    random.Random(seed).shuffle(shuffled)
    taken: list[Document] = []
    total = 0
    for document in shuffled:
        if total + document.size <= limit:
            taken.append(document)
            total += document.size
    return taken


def write_split(documents: Iterable[Document], path: Path) -> None:
    """Write gzipped JSON lines, without a time stamp so that equal input gives equal bytes.

    Written atomically: a training run may be reading the previous file.
    """
    unfinished = path.with_name(path.name + ".part")
    with (
        unfinished.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed,
    ):
        for document in documents:
            packed.write((json.dumps(asdict(document), ensure_ascii=False) + "\n").encode())
    unfinished.replace(path)


def build(
    found: Sequence[Project | Refusal],
    benchmark: BenchmarkFilter,
    out: Path,
    command: str,
    shares: Mapping[Language, float] | None = None,
) -> Corpus:
    """Make the corpus of what the sources gave and write it, with its manifest, to a folder."""
    projects = [source for source in found if isinstance(source, Project)]
    refused = [source for source in found if isinstance(source, Refusal)]
    corpus = collect(projects, benchmark, shares or {PYTHON: 1.0})
    out.mkdir(parents=True, exist_ok=True)
    write_split(corpus.train, out / "train.jsonl.gz")
    write_split(corpus.held_out, out / "heldout.jsonl.gz")
    summary = manifest(corpus, projects, refused, command)
    (out / "manifest.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return corpus


def manifest(
    corpus: Corpus, projects: Sequence[Project], refused: Sequence[Refusal], command: str
) -> dict[str, object]:
    """What the corpus is made of, ready for JSON."""
    splits = {"train": corpus.train, "heldout": corpus.held_out}
    by_project: dict[str, list[Document]] = {}
    for document in [*corpus.train, *corpus.held_out]:
        by_project.setdefault(document.project, []).append(document)
    return {
        "command": command,
        "splits": {name: _size(split) for name, split in splits.items()},
        "languages": {
            name: {language: _size(files) for language, files in _by_language(split).items()}
            for name, split in splits.items()
        },
        "projects": [
            {
                "project": project.name,
                "version": project.version,
                "licence": project.licence,
                "split": "heldout" if is_held_out(project.name) else "train",
                **_size(files),
                "languages": {name: _size(part) for name, part in _by_language(files).items()},
            }
            for project in sorted(projects, key=attrgetter("name"))
            if (files := by_project.get(project.name, []))
        ],
        "refused": [asdict(refusal) for refusal in sorted(refused, key=attrgetter("name"))],
        "dropped_files": dict(sorted(corpus.dropped.items())),
    }


def _size(documents: Sequence[Document]) -> dict[str, int]:
    return {"files": len(documents), "bytes": sum(document.size for document in documents)}


def _by_language(documents: Iterable[Document]) -> dict[str, list[Document]]:
    parts: dict[str, list[Document]] = {}
    for document in documents:
        parts.setdefault(document.language, []).append(document)
    return dict(sorted(parts.items()))


def _report(line: str) -> None:
    sys.stderr.write(f"corpus: {line}\n")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fim_training.corpus.build", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--site",
        type=Path,
        action="append",
        default=[],
        help="a further folder of installed packages (may be repeated)",
    )
    parser.add_argument(
        "--npm",
        type=Path,
        action="append",
        default=[],
        help="a node_modules folder (may be repeated)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        action="append",
        default=[],
        help="a folder of source with a permissive licence file at its top (may be repeated)",
    )
    parser.add_argument(
        "--languages",
        default="python",
        help="python,javascript=0.2,...: languages, each with the largest share of the bytes it "
        "may have (default: python alone)",
    )
    parser.add_argument(
        "--exclude",
        type=Path,
        action="append",
        default=[],
        help="an infilling benchmark (.jsonl.gz) whose material stays out (may be repeated)",
    )
    return parser.parse_args(argv)


_EXPECTED = {
    "site": "give a site-packages folder",
    "npm": "give a node_modules folder",
    "folder": "give a folder with source and a licence file",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Build the corpus. Exit code 2 where an argument names something that is not there."""
    arguments = _arguments(argv)
    for option in ("site", "npm", "folder"):
        for folder in getattr(arguments, option):
            if not folder.is_dir():
                _report(f"error: --{option} {folder} is not a folder; {_EXPECTED[option]}")
                return 2
    try:
        benchmark = BenchmarkFilter.from_files(arguments.exclude)
    except (OSError, EOFError, ValueError, KeyError) as error:
        _report(f"error: --exclude needs gzipped JSON lines of an infilling benchmark: {error!r}")
        return 2
    sites = [Path(sysconfig.get_path("purelib")), *arguments.site]
    given = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "-m", "fim_training.corpus.build", *given])
    try:
        shares = parse_shares(arguments.languages)
        found = [
            *([standard_library()] if PYTHON in shares else []),
            *installed_projects(sites, shares),
            *npm_projects(arguments.npm, shares),
            *(folder_project(folder, shares) for folder in arguments.folder),
        ]
        corpus = build(found, benchmark, arguments.out, command, shares)
    except ValueError as error:
        _report(f"error: {error}")
        return 2
    _report(f"{len(corpus.train)} files to train on, {len(corpus.held_out)} held out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
