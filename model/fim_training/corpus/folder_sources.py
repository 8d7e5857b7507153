"""Find permissively licensed source outside of Python's installs: npm packages and plain folders.

A package says its licence in `package.json`; a folder by the text of a licence file at its top.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fim_model.loading.attribution import LICENCE_FILE

from fim_training.corpus.corpus_languages import Language, language_of
from fim_training.corpus.python_sources import (
    Project,
    Refusal,
    SourceFile,
    Verdict,
    expression_is_permissive,
    refusal,
    spelled,
)

NPM = "npm/"
"""Before the name of an npm package: `click` of npm is another project than `click` of PyPI."""

_COPYLEFT_TEXT = re.compile(r"GNU (?:Lesser |Affero |Library )?General|Mozilla Public|Creative")
_PERMISSIVE_TEXTS = (
    ("Apache-2.0", re.compile(r"Apache License\s+Version 2\.0")),
    ("MIT", re.compile(r"Permission is hereby granted, free of charge, to any person")),
    ("BSD", re.compile(r"Redistribution and use in source and binary forms, with or without")),
    ("ISC", re.compile(r"Permission to use, copy, modify, and(?:/or)? distribute this software")),
    ("Unlicense", re.compile(r"free and unencumbered software released into the public domain")),
)
_SKIPPED_FOLDERS = frozenset({"node_modules", "site-packages", "dist-packages", "__pycache__"})


def npm_projects(
    roots: Iterable[Path], languages: Collection[Language]
) -> Iterator[Project | Refusal]:
    """Every package below these `node_modules`, nested ones too, each name once, first one wins."""
    seen: set[str] = set()
    for root in roots:
        for folder in sorted(_package_folders(root)):
            described = _described(folder / "package.json")
            name = described.get("name")
            if isinstance(name, str) and name and name not in seen:
                seen.add(name)
                version = str(described.get("version", ""))
                verdict = npm_licence(described)
                yield _project(NPM + name, version, verdict, folder, languages)


def folder_project(folder: Path, languages: Collection[Language]) -> Project | Refusal:
    """A checkout, or any folder with a licence file at its top."""
    return _project(folder.name, "", licence_of_folder(folder), folder, languages)


def npm_licence(described: dict[str, Any]) -> Verdict:
    """Judge the `license` of a package.json, or the `licenses` of an old one (all must do)."""
    stated = described.get("license") or described.get("licenses") or []
    each = stated if isinstance(stated, list) else [stated]
    names = [str(name.get("type", "")) if isinstance(name, dict) else str(name) for name in each]
    permissive = bool(names) and all(map(expression_is_permissive, names))
    return Verdict(permissive, " and ".join(names))


def licence_of_folder(folder: Path) -> Verdict:
    """Judge the licence files at the top."""
    return licence_of_texts(
        {
            path.name: path.read_text(encoding="utf-8", errors="replace")
            for path in sorted(folder.iterdir())
            if path.is_file() and LICENCE_FILE.fullmatch(path.name)
        }
    )


def licence_of_texts(texts: Mapping[str, str]) -> Verdict:
    """Judge licence files, by name: one known text each, and no copyleft in any of them."""
    found: list[str] = []
    for name, text in texts.items():
        names = [name for name, pattern in _PERMISSIVE_TEXTS if pattern.search(text)]
        if _COPYLEFT_TEXT.search(text) or not names:
            return Verdict(False, f"the text of {name}")
        found += names[:1]
    return Verdict(bool(found), " and ".join(found))


def _project(
    name: str, version: str, verdict: Verdict, folder: Path, languages: Collection[Language]
) -> Project | Refusal:
    if not verdict.permissive:
        return refusal(name, version, verdict)
    files = tuple(sorted(_files(folder, languages), key=lambda file: file.path))
    if not files:
        return Refusal(name, version, f"it has no {spelled(languages)} files")
    return Project(name, version, verdict.licence, files)


def _package_folders(root: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        parent = Path(where).parent
        scoped = parent.name.startswith("@") and parent.parent.name == "node_modules"
        if "package.json" in files and (parent.name == "node_modules" or scoped):
            yield Path(where)


def _files(folder: Path, languages: Collection[Language]) -> Iterator[SourceFile]:
    for where, folders, files in os.walk(folder):
        # A folder with a licence of its own is another project's, whatever that licence is.
        if Path(where) != folder and any(map(LICENCE_FILE.fullmatch, files)):
            folders.clear()
            continue
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in _SKIPPED_FOLDERS
        )
        for file in files:
            location = Path(where, file)
            if language_of(file) in languages and not location.is_symlink():
                path = location.relative_to(folder.parent).as_posix()
                yield SourceFile(location, path)


def _described(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return described if isinstance(described, dict) else {}
