"""Architecture of the packages: import contracts, number of rooms and arrows, unique file names.

An arrow is an import between rooms, including imports inside functions and for type checking. A
loose file counts as a room; `__init__` files re-export nothing.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import grimp
import pytest
from slow_tests import SLOW

ROOT = Path(__file__).parents[2]
PACKAGES = ("fim_server", "fim_training", "fim_model", "fim_kernels")

MAX_ROOMS = {"fim_server": 15, "fim_model": 13}
MAX_ARROWS = {"fim_server": 50, "fim_model": 42}
LOOSE = {
    "fim_server": {"__main__", "cli", "log"},
    "fim_model": {"copies", "errors", "infiller", "requests"},
    "fim_training": set[str](),
}
MAX_LOOSE = 6
"""Modules beside rooms, in packages that have rooms (`fim_kernels` has none)."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, cache_dir=None)


@pytest.fixture(scope="module")
def files() -> dict[str, list[str]]:
    """The paths of each file name."""
    found: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        folder = Path(import_module(package).__path__[0])
        for path in folder.rglob("*.py"):
            found[path.name].append(str(path.relative_to(folder.parent)))
    return found


def rooms(graph: grimp.ImportGraph, package: str) -> set[str]:
    return graph.find_children(package)


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def arrows(graph: grimp.ImportGraph, package: str) -> set[tuple[str, str]]:
    """Pairs (importer, imported) of rooms."""
    inside = graph.find_descendants(package)
    pairs = {
        (room_of(importer), room_of(imported))
        for importer in inside
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported in inside
    }
    return {(importer, imported) for importer, imported in pairs if importer != imported}


def loose(graph: grimp.ImportGraph, package: str) -> set[str]:
    """The modules beside a package's rooms."""
    children = graph.find_children(package)
    return {child.rpartition(".")[2] for child in children if not graph.find_children(child)}


def test_the_contracts_hold() -> None:
    """The contracts in pyproject.toml; a violation is printed with its import."""
    code = "import sys; from importlinter.cli import lint_imports as lint; "
    code += "sys.exit(lint(no_cache=True, no_logo=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", MAX_ROOMS)
def test_rooms_and_arrows_stay_few(graph: grimp.ImportGraph, package: str) -> None:
    assert len(rooms(graph, package)) <= MAX_ROOMS[package]
    drawn = sorted(arrows(graph, package))
    assert len(drawn) <= MAX_ARROWS[package], drawn


@pytest.mark.parametrize("package", LOOSE)
def test_only_these_files_are_loose(graph: grimp.ImportGraph, package: str) -> None:
    assert loose(graph, package) == LOOSE[package]


def test_loose_files_stay_few(graph: grimp.ImportGraph) -> None:
    for module in graph.modules - {"fim_kernels"}:
        children = graph.find_children(module)
        if any(graph.find_children(child) for child in children):
            assert len(loose(graph, module)) <= MAX_LOOSE, module


def test_file_names_are_unique(files: dict[str, list[str]]) -> None:
    twice = {name: places for name, places in files.items() if len(places) > 1}
    assert set(twice) == {"__init__.py"}, twice


def test_every_slow_test_exists() -> None:
    missing = [place for place in SLOW if not (ROOT / "tests" / place).exists()]
    assert not missing, "remove or rename them in tests/support/slow_tests.py"


def test_tests_mirror_the_rooms(graph: grimp.ImportGraph) -> None:
    """Every folder of tests of a package is named after one of its rooms."""
    for package in PACKAGES:
        known = {module.rpartition(".")[2] for module in graph.find_descendants(package)}
        folders = [path for path in (ROOT / "tests" / package).rglob("*") if path.is_dir()]
        names = {path.name for path in folders} - {"__pycache__"}
        assert names <= known, package
