"""The corpus: permissive, hand-written, deduplicated code, capped shares, no benchmark material."""

import gzip
import json
import random
from pathlib import Path

import pytest
from fim_training.corpus.build import (
    Document,
    build,
    byte_limit,
    cap_shares,
    main,
)
from fim_training.corpus.corpus_languages import PYTHON
from fim_training.corpus.filters import (
    BenchmarkFilter,
    DuplicateFilter,
    benchmark_texts,
    path_reason,
    read_source,
    reject_reason,
)
from fim_training.corpus.held_out import HELD_OUT_PROJECTS, is_held_out
from fim_training.corpus.python_sources import (
    LicenceFields,
    Project,
    Refusal,
    canonical_name,
    installed_projects,
    judge_licence,
    standard_library,
)
from hypothesis import given
from hypothesis import strategies as st

NO_BENCHMARK = BenchmarkFilter([])


def code(seed: int, functions: int = 12) -> str:
    """Valid Python that has no three lines in common with that of another seed."""
    rng = random.Random(seed)
    blocks = [
        f"def step_{seed}_{number}(value, other):\n"
        f"    total = value * {rng.randrange(10**6)} + other\n"
        f"    return total - {rng.randrange(10**6)}\n"
        for number in range(functions)
    ]
    return "\n\n".join(blocks)


def install(site: Path, name: str, metadata: str, files: dict[str, str], *unlisted: str) -> None:
    """Create a distribution as an installer does; `unlisted` files are not in its record."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}")
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    listed = [path for path in files if path not in unlisted]
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in listed))


def read(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("fields", "permissive"),
    [
        (LicenceFields(expression="MIT"), True),
        (LicenceFields(expression="Apache-2.0 OR BSD-2-Clause"), True),
        (LicenceFields(expression="BSD-3-Clause AND 0BSD AND (MIT AND Zlib)"), True),
        (LicenceFields(expression="Apache-2.0 WITH LLVM-exception"), True),
        (LicenceFields(expression="MIT OR GPL-3.0-only"), True),
        (LicenceFields(expression="MPL-2.0"), False),
        (LicenceFields(expression="MIT AND LGPL-2.1-or-later"), False),
        (LicenceFields(expression="GPL-2.0-only WITH Classpath-exception-2.0"), False),
        # The filter does not parse OR inside AND, and refuses it to be safe.
        (LicenceFields(expression="MIT AND (BSD-3-Clause OR GPL-3.0-only)"), False),
        (LicenceFields(expression="LicenseRef-Proprietary", text="MIT"), False),
        (LicenceFields(classifiers=("License :: OSI Approved :: MIT License",)), True),
        (LicenceFields(classifiers=("License :: OSI Approved :: BSD License",), text="x"), True),
        (
            LicenceFields(
                classifiers=(
                    "License :: OSI Approved :: BSD License",
                    "License :: OSI Approved :: GNU General Public License (GPL)",
                )
            ),
            False,
        ),
        (
            LicenceFields(classifiers=("License :: OSI Approved :: MIT License",), text="GPLv3"),
            False,
        ),
        (LicenceFields(classifiers=("License :: OSI Approved",), text="MIT"), True),
        (LicenceFields(classifiers=("Programming Language :: Python",)), False),
        (LicenceFields(text="Apache License 2.0"), True),
        (LicenceFields(text="The MIT License"), True),
        (LicenceFields(text="MPL-2.0 AND MIT"), False),
        (LicenceFields(text="LGPLv2+"), False),
        (LicenceFields(text="UNKNOWN"), False),
        (LicenceFields(text="Copyright (c) 2001 Somebody"), False),
        (LicenceFields(), False),
    ],
)
def test_licence_decisions(fields: LicenceFields, permissive: bool) -> None:
    assert judge_licence(fields).permissive is permissive


def test_only_recorded_files_of_permissive_distributions_are_found(tmp_path: Path) -> None:
    install(
        tmp_path,
        "Good_Name",
        "License-Expression: MIT\n",
        {"good/a.py": "a", "good/data.txt": "no", "good/cache.py": "left behind"},
        "good/cache.py",
    )
    install(tmp_path, "copyleft", "License: GPL-3.0\n", {"copyleft.py": "c"})
    install(tmp_path, "unclear", "", {"unclear.py": "u"})
    install(tmp_path, "binary", "License-Expression: MIT\n", {"binary.so": "b"})
    found = {project.name: project for project in installed_projects([tmp_path])}
    good = found.pop("good-name")
    assert isinstance(good, Project)
    assert [file.path for file in good.files] == ["good/a.py"]
    assert (good.version, good.licence) == ("1.0", "MIT")
    reasons = {name: source.reason for name, source in found.items() if isinstance(source, Refusal)}
    assert reasons == {
        "copyleft": "licence not known to be permissive: GPL-3.0",
        "unclear": "licence not known to be permissive: none stated",
        "binary": "its record lists no Python files",
    }


def test_a_project_installed_twice_is_taken_from_the_first_folder(tmp_path: Path) -> None:
    for site, name in (("first", "Two_Homes"), ("second", "two-homes")):
        install(tmp_path / site, name, "License: MIT\n", {"two.py": site})
    found = list(installed_projects([tmp_path / "first", tmp_path / "second"]))
    assert len(found) == 1
    assert isinstance(found[0], Project)
    assert found[0].files[0].location.read_text() == "first"


def test_the_standard_library_excludes_installed_packages() -> None:
    paths = {file.path for file in standard_library().files}
    assert {"argparse.py", "json/decoder.py"} <= paths
    assert not any("site-packages" in path for path in paths)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (code(1), None),
        ("x = 1\n", "too small"),
        ("# line of a very long file\n" * 8_000, "too large"),
        ("# Generated by the protocol compiler.\n" + code(1), "generated"),
        ("# Code generated by hand tools. DO NOT EDIT!\n" + code(1), "generated"),
        ('"""Tables.\n\nThis file was autogenerated from x.txt.\n"""\n' + code(1), "generated"),
        # Far down in a file, the words have another meaning.
        (code(1) + "\n# do not edit the list in place\n", None),
        (code(1) + f"\nPAGE = '{'x' * 600}'\n", "long lines"),
        ("x = [\n" + "    (1, 'one', 2.5),\n" * 50 + "]\n", "mostly literals"),
        ("NAMES = {\n" + "    'key': 'value',\n" * 50 + "}\n", "mostly literals"),
    ],
)
def test_text_filters(text: str, reason: str | None) -> None:
    assert reject_reason(text) == reason


def test_the_sentence_at_the_end_is_outside_of_the_header() -> None:
    late = code(1) + "\n# do not edit the list in place\n"
    assert late.split("\n").index("# do not edit the list in place") >= 20


def test_only_code_that_parses_is_kept() -> None:
    parses = PYTHON.parses
    assert parses is not None
    assert parses(code(2))
    assert parses("pattern = '\\d'\n")
    assert not parses("print 'two'\n")
    assert not parses("x = 1\0\n")


def test_reading_normalises_line_ends_and_refuses_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_source(tmp_path / "a.py") == "a\nb\nc\n"
    (tmp_path / "b.py").write_bytes(b"name = '\xe9'\n")
    assert read_source(tmp_path / "b.py") is None
    assert read_source(tmp_path / "missing.py") is None


def test_vendored_folders() -> None:
    assert path_reason("pip/_vendor/rich/text.py", PYTHON) == "vendored"
    assert path_reason("botocore/vendored/six.py", PYTHON) == "vendored"
    assert path_reason("shop/vendor.py", PYTHON) is None


def test_duplicates_are_found_and_new_code_is_kept() -> None:
    seen = DuplicateFilter()
    assert seen.duplicate_reason(code(1)) is None
    assert seen.duplicate_reason(code(2)) is None
    assert seen.duplicate_reason(code(1).replace("    ", "\t") + "\n\n") == "exact duplicate"
    # One line changed in a long file: still mostly the same text.
    changed = code(1, 60).replace("return total", "return +total", 1)
    assert seen.duplicate_reason(code(1, 60)) is None
    assert seen.duplicate_reason(changed) == "near duplicate"
    # A part of a known file is a duplicate, too.
    assert seen.duplicate_reason(code(1, 40) + "\nEXTRA = 1\n") == "near duplicate"
    # One third of known code with two thirds of new code is kept.
    assert seen.duplicate_reason(code(2) + "\n\n" + code(3, 24)) is None


BENCHMARK_TASK = {
    "prompt": 'def mean_gap(numbers, threshold):\n    """Mean of the gaps."""\n',
    "canonical_solution": "    gaps = [abs(a - b) for a, b in zip(numbers, numbers[1:])]\n",
    "suffix": "    return sum(gap for gap in gaps if gap > threshold) / len(gaps)\n",
}


@pytest.fixture
def benchmark_file(tmp_path: Path) -> Path:
    path = tmp_path / "bench.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.write(json.dumps(BENCHMARK_TASK) + "\n")
    return path


def test_benchmark_material_is_recognised_across_the_hole(benchmark_file: Path) -> None:
    benchmark = BenchmarkFilter.from_files([benchmark_file])
    whole = next(benchmark_texts(benchmark_file))
    assert benchmark.matches(whole)
    assert benchmark.matches(code(4) + "\n" + whole.replace("    ", "\t"))
    # The run crosses the border of solution and suffix.
    assert benchmark.matches("numbers[1:])]\nreturn sum(gap for gap in gaps if gap > 3)")
    assert not benchmark.matches(code(4))
    assert not NO_BENCHMARK.matches(whole)


def test_twelve_tokens_in_common_are_not_enough(benchmark_file: Path) -> None:
    benchmark = BenchmarkFilter.from_files([benchmark_file])
    run = "return sum ( gap for gap in gaps if gap > threshold )"
    assert len(run.split()) == BenchmarkFilter.LENGTH
    assert benchmark.matches(f"begin {run} end")
    assert not benchmark.matches(f"begin {run.removeprefix('return ')} end")
    assert not benchmark.matches(run.replace("gaps", "other"))


def test_tables_of_numbers_are_not_benchmark_material() -> None:
    zeros = "[" + "0, " * 30 + "]"
    assert not BenchmarkFilter([zeros]).matches(zeros)


@given(
    sizes=st.lists(st.integers(1, 10**6), min_size=1, max_size=40),
    share=st.sampled_from([0.05, 0.1, 0.12, 0.3, 0.5]),
)
def test_no_project_exceeds_its_share(sizes: list[int], share: float) -> None:
    limit = byte_limit(sizes, share)
    cut = [min(size, limit) for size in sizes]
    # Float rounding may be off by one byte.
    assert max(cut) <= max(share, 1 / len(sizes)) * sum(cut) + 1
    if max(sizes) <= share * sum(sizes) - 1:
        assert limit == max(sizes)
    assert limit >= min(sizes) - 1


def documents(project: str, count: int, size: int = 1_000) -> list[Document]:
    return [
        Document(project, f"{project}/{number:03}.py", "python", "x" * size)
        for number in range(count)
    ]


def test_capping_drops_whole_files_of_large_projects_only() -> None:
    small = [document for number in range(10) for document in documents(f"small{number}", 10)]
    kept = cap_shares(documents("large", 500) + small, 0.2, seed=7)
    sizes = {
        project: sum(d.size for d in kept if d.project == project)
        for project in {d.project for d in kept}
    }
    assert sizes.pop("large") == 25_000
    assert set(sizes.values()) == {10_000}
    assert kept == cap_shares(small[::-1] + documents("large", 500)[::-1], 0.2, seed=7)
    assert kept != cap_shares(documents("large", 500) + small, 0.2, seed=8)


def test_held_out_projects_are_recognised_in_any_spelling() -> None:
    assert is_held_out("Jinja2")
    assert is_held_out("attrs")
    assert not is_held_out("numpy")


def test_build_keeps_the_splits_apart(tmp_path: Path, benchmark_file: Path) -> None:
    site = tmp_path / "site"
    shared = code(99)
    install(site, "Flask", "License: MIT\n", {"flask/app.py": code(1), "flask/shared.py": shared})
    for number in range(12):
        files = {f"p{number}/a.py": code(100 + number), f"p{number}/b.py": code(200 + number)}
        install(site, f"p{number}", "License: MIT\n", files)
    whole = next(benchmark_texts(benchmark_file))
    install(
        site,
        "mixed",
        "License: MIT\n",
        {
            "mixed/copy_of_flask.py": shared,
            "mixed/_vendor/other.py": code(300),
            "mixed/leak.py": code(301) + "\n\n" + whole,
            "mixed/old.py": code(302) + "\nprint 'two'\n",
            "mixed/tiny.py": "x = 1\n",
            "mixed/good.py": code(303),
        },
    )
    install(site, "copyleft", "License: GPL-3.0\n", {"copyleft/a.py": code(400)})
    found = list(installed_projects([site]))
    benchmark = BenchmarkFilter.from_files([benchmark_file])

    for out in ("one", "two"):
        build(found, benchmark, tmp_path / out, "the command")

    train, held_out = (read(tmp_path / "one" / f"{n}.jsonl.gz") for n in ("train", "heldout"))
    assert [row["path"] for row in held_out] == ["flask/app.py", "flask/shared.py"]
    assert {row["project"] for row in train} == {f"p{number}" for number in range(12)} | {"mixed"}
    assert [row["path"] for row in train if row["project"] == "mixed"] == ["mixed/good.py"]
    assert not {row["text"] for row in train} & {row["text"] for row in held_out}
    assert train[-1]["text"] in {code(seed) for seed in (*range(100, 112), *range(200, 212))}

    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["command"] == "the command"
    assert manifest["splits"]["train"]["files"] == len(train) == 25
    assert manifest["splits"]["train"]["bytes"] == sum(len(row["text"].encode()) for row in train)
    splits = {project["project"]: project["split"] for project in manifest["projects"]}
    assert splits["flask"] == "heldout"
    assert [refusal["name"] for refusal in manifest["refused"]] == ["copyleft"]
    assert manifest["dropped_files"] == {
        "benchmark material": 1,
        "does not parse": 1,
        "exact duplicate": 1,
        "over the project's share": 0,
        "too small": 1,
        "vendored": 1,
    }
    for name in ("train.jsonl.gz", "heldout.jsonl.gz", "manifest.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    # Bytes 4 to 7 of a gzip file are its time stamp; two builds within a second would hide it.
    assert (tmp_path / "one" / "train.jsonl.gz").read_bytes()[4:8] == bytes(4)


def test_held_out_names_are_spelled_the_canonical_way() -> None:
    assert {canonical_name(name) for name in HELD_OUT_PROJECTS} == HELD_OUT_PROJECTS


def test_a_missing_site_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "out"), "--site", str(tmp_path / "gone")]) == 2
    assert "gone is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [None, b"plain text", gzip.compress(b'{"prompt": "x"}\n', mtime=0)]
)
def test_an_invalid_benchmark_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    bad = tmp_path / "bad.jsonl.gz"
    if content is not None:
        bad.write_bytes(content)
    assert main(["--out", str(tmp_path / "out"), "--exclude", str(bad)]) == 2
    assert "--exclude needs gzipped JSON lines" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
