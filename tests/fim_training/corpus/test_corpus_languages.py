"""The corpus beyond Python: other languages, other sources, and exclusion of generated code."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from fim_training.corpus.build import Document, build, cap_languages, language_limits
from fim_training.corpus.build import main as build_corpus
from fim_training.corpus.corpus_languages import LANGUAGES, PYTHON, language_of, parse_shares
from fim_training.corpus.filters import BenchmarkFilter, path_reason, reject_reason
from fim_training.corpus.folder_sources import (
    folder_project,
    licence_of_folder,
    npm_licence,
    npm_projects,
)
from fim_training.corpus.held_out import is_held_out
from fim_training.corpus.python_sources import Project, Refusal
from hypothesis import given
from hypothesis import strategies as st

JAVASCRIPT, JSON, MARKDOWN = LANGUAGES["javascript"], LANGUAGES["json"], LANGUAGES["markdown"]
MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy"


def script(seed: int, functions: int = 6) -> str:
    blocks = [
        f"function step{seed}x{n}(value) {{\n  const total = value * {seed * n};\n"
        f"  return total - {seed + n};\n}}\n"
        for n in range(functions)
    ]
    return "\n".join(blocks)


def package(modules: Path, name: str, licence: Any, files: dict[str, str]) -> None:
    described = {"name": name, "version": "1.2.3", "license": licence}
    for path, text in {"package.json": json.dumps(described), **files}.items():
        (modules / name / path).parent.mkdir(parents=True, exist_ok=True)
        (modules / name / path).write_text(text)


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b.py", "python"),
        ("a/B.TSX", "typescript"),
        ("x.d.ts", "typescript"),
        ("x.mjs", "javascript"),
        ("x.h", "c"),
        ("x.hpp", "cpp"),
        ("init.lua", "lua"),
        ("x.yml", "yaml"),
        ("README.md", "markdown"),
        ("x.so", None),
        ("Makefile", None),
    ],
)
def test_a_file_belongs_to_a_language_by_its_suffix(path: str, language: str | None) -> None:
    found = language_of(path)
    assert (found and found.name) == language


def test_shares_are_read_from_the_command_line() -> None:
    assert parse_shares("python") == {PYTHON: 1.0}
    assert parse_shares("python, json=0.5") == {PYTHON: 1.0, JSON: 0.5}
    assert parse_shares("python,lua")[LANGUAGES["lua"]] == LANGUAGES["lua"].share


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pyhton", "'pyhton' is not known; known are python"),
        ("python=much", "must be a number, not 'much'"),
        ("python=2", "above 0 and at most 1"),
        ("lua=0.5", "add up to 0.50"),
        ("", "add up to 0.00"),
    ],
)
def test_invalid_shares_are_reported(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build_corpus(["--out", str(tmp_path / "out"), "--languages", text]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("lib/index.js", None),
        ("lib/index.min.js", "built"),
        ("dist/index.js", "built"),
        ("a/pnpm-lock.yaml", "built"),
        ("package-lock.json", "built"),
        ("LICENSE.md", "legal text"),
        ("third_party/x.h", "vendored"),
        ("src/distance.js", None),
    ],
)
def test_exclusion_by_path(path: str, reason: str | None) -> None:
    language = language_of(path)
    assert language is not None
    assert path_reason(path, language) == reason


def test_python_paths_have_their_own_rules() -> None:
    """In Python a folder named `build` is source code, not a bundler's output."""
    assert path_reason("setuptools/command/build/ext.py", PYTHON) is None


@pytest.mark.parametrize(
    ("language", "text", "reason"),
    [
        ("javascript", script(3), None),
        ("javascript", "var a=" + "1+" * 400 + "1;\n", "long lines"),
        ("javascript", "/* Do not edit */\n" + script(3), "generated"),
        ("javascript", "const t = [\n" + "  'word',\n" * 80 + "];\n", "mostly literals"),
        ("json", "{\n" + ",\n".join(f'  "key{n}": "value {n}"' for n in range(20)) + "\n}\n", None),
        ("json", "[\n" + ",\n".join(f"  {n}.5" for n in range(90)) + "\n]\n", "mostly literals"),
        ("json", '{"a": "' + "long text " * 30 + '"}' + "\n{}" * 4_000, "too large"),
        ("yaml", "on: push\njobs:\n" + "  - name: step\n    run: make\n" * 9, None),
        ("yaml", "values:\n" + "  - 12.5\n" * 90, "mostly literals"),
        ("markdown", "# Title\n\n" + "A sentence of a paragraph. " * 20 + "\n", None),
    ],
)
def test_texts_are_filtered_by_their_language(language: str, text: str, reason: str | None) -> None:
    assert reject_reason(text, LANGUAGES[language]) == reason


def test_syntax_is_checked_where_a_parser_is_available() -> None:
    toml = LANGUAGES["toml"].parses
    assert toml is not None
    assert JSON.parses is not None
    assert toml('[tool]\nname = "x"\n')
    assert not toml("[tool\n")
    assert JSON.parses('{"a": [1]}')
    assert not JSON.parses("{'a': 1}")
    assert not JSON.parses("[" * 100_000)


@pytest.mark.parametrize(
    ("described", "permissive"),
    [
        ({"license": "MIT"}, True),
        ({"license": "(MIT OR GPL-3.0)"}, True),
        ({"license": {"type": "ISC", "url": "x"}}, True),
        ({"licenses": [{"type": "MIT"}, {"type": "Apache-2.0"}]}, True),
        ({"licenses": [{"type": "MIT"}, {"type": "GPL-2.0"}]}, False),
        ({"license": "SEE LICENSE IN LICENSE.txt"}, False),
        ({"license": "UNLICENSED"}, False),
        ({}, False),
    ],
)
def test_the_licence_of_a_package(described: dict[str, Any], permissive: bool) -> None:
    assert npm_licence(described).permissive is permissive


@pytest.mark.parametrize(
    ("texts", "permissive"),
    [
        ({"LICENSE": MIT}, True),
        ({"LICENSE": "Apache License\n  Version 2.0, January 2004"}, True),
        ({"LICENSE": MIT, "COPYING": "GNU General Public License"}, False),
        ({"LICENSE": "All rights reserved."}, False),
        ({"README": MIT}, False),
    ],
)
def test_the_licence_of_a_folder(texts: dict[str, str], permissive: bool, tmp_path: Path) -> None:
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert licence_of_folder(tmp_path).permissive is permissive


def test_packages_are_found_once_at_any_depth(tmp_path: Path) -> None:
    modules = tmp_path / "node_modules"
    inner = modules / "outer" / "node_modules"
    package(modules, "outer", "MIT", {"lib/a.js": "a", "lib/b.txt": "b"})
    package(inner, "inner", "ISC", {"i.js": "i"})
    package(inner, "twice", "MIT", {"t.js": "inner"})
    package(modules, "twice", "MIT", {"t.js": "outer"})
    package(modules, "@scope/name", "MIT", {"s.ts": "s"})
    package(modules, "closed", "UNLICENSED", {"c.js": "c"})
    package(modules, "lib-only", "MIT", {"x.css": "x"})
    found = {
        project.name: project
        for project in npm_projects([modules], [JAVASCRIPT, LANGUAGES["typescript"]])
    }
    paths = {
        name: [file.path for file in source.files]
        for name, source in found.items()
        if isinstance(source, Project)
    }
    assert paths == {
        "npm/outer": ["outer/lib/a.js"],
        "npm/inner": ["inner/i.js"],
        "npm/twice": ["twice/t.js"],
        "npm/@scope/name": ["name/s.ts"],
    }
    reasons = {name: source.reason for name, source in found.items() if isinstance(source, Refusal)}
    assert reasons == {
        "npm/closed": "licence not known to be permissive: UNLICENSED",
        "npm/lib-only": "it has no javascript / typescript files",
    }


def test_files_of_other_packages_in_a_folder_are_excluded(tmp_path: Path) -> None:
    texts = {
        "LICENSE": MIT,
        "own/a.js": "",
        "lib/site-packages/other/b.js": "",
        "node_modules/other/c.js": "",
        "copied/COPYING": "whatever",
        "copied/deep/d.js": "",
        ".git/e.js": "",
    }
    for path, text in texts.items():
        (tmp_path / "top" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / path).write_text(text)
    found = folder_project(tmp_path / "top", [JAVASCRIPT])
    assert isinstance(found, Project)
    assert [file.path for file in found.files] == ["top/own/a.js"]


def test_some_packages_are_held_out_completely() -> None:
    names = [f"npm/package-{n}" for n in range(800)]
    assert 60 < sum(map(is_held_out, names)) < 140
    assert not is_held_out("npm/click") or is_held_out("click")


@given(
    sizes=st.dictionaries(st.sampled_from(list(LANGUAGES)), st.integers(1, 10**7), min_size=1),
    shares=st.fixed_dictionaries({name: st.floats(0.02, 1) for name in LANGUAGES}),
)
def test_no_language_exceeds_its_share(sizes: dict[str, int], shares: dict[str, float]) -> None:
    if sum(shares[name] for name in sizes) < 1:
        with pytest.raises(ValueError, match="add up to less than 1"):
            language_limits(sizes, shares)
        return
    limits = language_limits(sizes, shares)
    total = sum(limits.values())
    assert all(limits[name] <= shares[name] * total for name in sizes)
    assert all(limits[name] <= size for name, size in sizes.items())


def test_capping_drops_files_of_languages_above_their_share() -> None:
    documents = [
        Document("p", f"{language}/{n:03}", language, "x" * 1_000)
        for language, count in (("python", 80), ("json", 200))
        for n in range(count)
    ]
    kept = cap_languages(documents, {"python": 1.0, "json": 0.2}, seed=1)
    count = {
        name: sum(document.language == name for document in kept) for name in ("python", "json")
    }
    assert count == {"python": 80, "json": 20}
    assert kept == cap_languages(documents[::-1], {"python": 1.0, "json": 0.2}, seed=1)


def test_a_corpus_of_two_languages(tmp_path: Path) -> None:
    modules = tmp_path / "node_modules"
    for n in range(20):
        package(modules, f"p{n}", "MIT", {"a.js": script(100 + n), "a.min.js": script(200 + n)})
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "LICENSE").write_text(MIT)
    (folder / "notes.md").write_text("# Notes\n\n" + "What was found out, and how. " * 10 + "\n")
    shares = {JAVASCRIPT: 1.0, MARKDOWN: 0.5}
    found = [*npm_projects([modules], shares), folder_project(folder, shares)]
    build(found, BenchmarkFilter([]), tmp_path / "out", "the command", shares)
    with gzip.open(tmp_path / "out" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        train = [json.loads(line) for line in lines]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {row["language"] for row in train} == {"javascript", "markdown"}
    held_out = manifest["languages"]["heldout"]["javascript"]["files"]
    assert held_out >= 1
    assert manifest["languages"]["train"]["javascript"]["files"] == 20 - held_out
    assert manifest["languages"]["train"]["markdown"]["files"] == 1
    assert manifest["dropped_files"]["built"] == 20
    own = next(project for project in manifest["projects"] if project["project"] == "own")
    assert own["languages"] == {"markdown": {"files": 1, "bytes": own["bytes"]}}
    assert own["licence"] == "MIT"
