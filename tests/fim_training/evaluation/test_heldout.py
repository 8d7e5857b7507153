"""Held-out holes, copying baselines, and the figures of both."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fim_model.loading.checkpoint import save_checkpoint
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_training.evaluation import heldout
from fim_training.evaluation.baselines import neighbouring_lines, ngram_copy, previous_line
from fim_training.evaluation.filler import Fill, Hole
from fim_training.evaluation.heldout_holes import (
    KINDS,
    ONE_LINE_KINDS,
    Document,
    HeldoutHole,
    HoleKind,
    Window,
    draw_holes,
    load_documents,
)
from fim_training.evaluation.jsonl import EvaluationDataError

SOURCE = Path(heldout.__file__).read_text(encoding="utf-8")
DOCUMENTS = [
    Document("large", "a.py", SOURCE),
    Document("large", "b.py", SOURCE.replace("score", "grade")),
    Document("small", "c.py", "def first(items):\n    return items[0] if items else None\n"),
    Document("empty", "d.py", ""),
]


WHOLE = Window(10**9, 10**9)


def hole_at(marked: str, kind: HoleKind = "line") -> HeldoutHole:
    """The hole between `[[` and `]]`."""
    start = marked.index("[[")
    text = marked.replace("[[", "")
    end = text.index("]]")
    return HeldoutHole(kind, Document("p", "f.py", text.replace("]]", "")), start, end)


def oracle(holes: list[HeldoutHole]) -> dict[tuple[str, str], str]:
    return {(hole.prefix, hole.suffix): hole.answer for hole in holes}


# --- holes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_holes_match_their_kind(kind: HoleKind) -> None:
    holes = draw_holes(DOCUMENTS, kind, 20, seed=3)
    assert len(set(holes)) == 20
    for hole in holes:
        assert hole.prefix + hole.answer + hole.suffix == hole.document.text
        assert hole.answer.strip()
        line_before = hole.prefix.rpartition("\n")[2]
        if kind in ONE_LINE_KINDS:
            assert "\n" not in hole.answer
            assert hole.suffix.startswith("\n")
            assert hole.hole(Window()).max_lines == 1
        if kind in ("line", "multi_line"):
            assert not line_before.strip()
            assert not hole.answer[0].isspace()
        if kind == "rest_of_line":
            assert line_before.strip()
        if kind == "mid_word":
            assert (line_before[-1] + hole.answer[0]).replace("_", "a").isalnum()
        if kind == "span":
            assert hole.answer.count("\n") <= 2
        if kind == "multi_line":
            assert 1 <= hole.answer.count("\n") <= 4
            assert hole.hole(Window()).max_lines is None


def test_a_seed_draws_the_same_holes_independent_of_other_draws() -> None:
    once = draw_holes(DOCUMENTS, "line", 10, seed=1)
    draw_holes(DOCUMENTS, "span", 10, seed=1)
    assert draw_holes(DOCUMENTS, "line", 10, seed=1) == once
    assert draw_holes(DOCUMENTS, "line", 10, seed=2) != once


def test_projects_have_equal_weight() -> None:
    holes = draw_holes(DOCUMENTS, "rest_of_line", 40, seed=0)
    small = sum(hole.document.project == "small" for hole in holes)
    assert 10 <= small <= 30  # weighted by size it would be zero or one


def test_too_few_documents_are_an_error() -> None:
    with pytest.raises(ValueError, match="only 2 of 50 line holes"):
        draw_holes(DOCUMENTS[2:], "line", 50, seed=0)
    with pytest.raises(ValueError, match="only 0 of 1"):
        draw_holes([], "line", 1, seed=0)
    with pytest.raises(ValueError, match="0 line holes"):
        draw_holes(DOCUMENTS, "line", 0, seed=0)


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("ab\ncd\nef", "cd\nef", "ab\ncd\n"),  # 7 characters would begin and end inside a line
        ("a\nb", "a\nb", "a\nb"),
        ("abcdefghij", "defghij", "abcdefg"),
        ("abc\ndefghi\njkl", "jkl", "abc\n"),
    ],
)
def test_a_window_ends_between_lines(text: str, before: str, after: str) -> None:
    window = Window(prefix_chars=7, suffix_chars=7)
    assert (window.before(text), window.after(text)) == (before, after)


# --- baselines -----------------------------------------------------------------------------------


def test_neighbours_of_a_whole_line_are_the_lines_without_their_indentation() -> None:
    hole = hole_at("if a:\n    x = 1\n\n        [[y = 2]]\n\n  z = 3\n")
    assert previous_line(hole) == ["x = 1"]
    assert neighbouring_lines(hole) == ["x = 1", "z = 3"]


def test_neighbours_of_a_part_are_cut_at_its_columns() -> None:
    assert previous_line(hole_at("  abcdef\nuv[[wxyz]]\n")) == ["cdef"]
    assert previous_line(hole_at("abcdef\nuv[[wx]]yz\n", "span")) == ["cd"]
    assert previous_line(hole_at("a\nbcdefg\nh\nuv[[wxyz]]\n")) == [""]


def test_neighbours_of_several_lines_have_as_many_lines() -> None:
    hole = hole_at("one\ntwo\n\nthree\n[[a\nb]]\nfour\nfive\n", "multi_line")
    assert neighbouring_lines(hole) == ["two\nthree", "four\nfive"]
    hole = hole_at("12345\n  67890\nab[[cde\n    f]]ghij\n", "span")
    assert previous_line(hole) == ["345\n  6"]


def test_the_edges_of_a_file_have_no_neighbours() -> None:
    assert neighbouring_lines(hole_at("[[x = 1]]")) == ["", ""]
    assert neighbouring_lines(hole_at("a\n[[b\nc]]\n", "multi_line")) == ["", ""]


def test_ngram_copy_continues_the_longest_match() -> None:
    assert ngram_copy(hole_at("xy = one\ny = two\nxy = [[?]]\n")) == ["one"]
    assert ngram_copy(hole_at("q = [[?]]\nq = later\n")) == ["later"]
    assert ngram_copy(hole_at("xy = one\ny = two\nxy = [[?]]")) == ["one"]
    assert ngram_copy(hole_at("[[first]]\nx\n")) == [""]
    assert ngram_copy(hole_at("abc[[?]]")) == [""]


def test_ngram_copy_prefers_matches_of_the_suffix_then_near_ones() -> None:
    repeated = "x\nf(a)\nend\nf(b)\nstop\n"
    assert ngram_copy(hole_at(repeated + "f([[?]]\nend\n")) == ["a)"]
    assert ngram_copy(hole_at(repeated + "f([[?]]\nstop\n")) == ["b)"]
    assert ngram_copy(hole_at("x\nf(1)\n+\nf(2)\n#\nf([[?]]\nf(3)\n")) == ["3)"]
    assert ngram_copy(hole_at("x\nf(1)\n+\nf(2)\n#\nf([[?]]\n_______\nf(3)\n")) == ["2)"]


def test_ngram_copy_never_sees_the_answer() -> None:
    hole = hole_at("unique = [[secret]]\nother\n")
    assert "secret" not in ngram_copy(hole)[0]


# --- figures -------------------------------------------------------------------------------------


def test_an_oracle_is_perfect_and_a_wrong_filler_is_not() -> None:
    holes = [hole for kind in KINDS for hole in draw_holes(DOCUMENTS, kind, 5, seed=0)]
    answers = oracle(holes)
    right = heldout.evaluate(holes, lambda hole: Fill(answers[hole.prefix, hole.suffix]), WHOLE)
    assert set(right) == {*KINDS, "one_line", "overall"}
    assert right["overall"].n == 25
    assert right["one_line"].n == 15
    found = {(score.exact_match, score.edit_similarity) for score in right.values()}
    assert found == {(100.0, 100.0)}
    wrong = heldout.evaluate(holes, lambda hole: Fill("§"))
    assert {(score.exact_match, score.edit_similarity) for score in wrong.values()} == {(0.0, 0.0)}


def test_figures_by_hand() -> None:
    holes = [hole_at("x = 1\n[[x = 1]]\nq\n"), hole_at("x = 1\n[[y = 2]]\nx = 1\n")]
    fills = iter([Fill("z", 2, 3, 10.0, "length"), Fill("y = 2 ", 3, 6, 20.0, "eom")])
    result = heldout.evaluate(holes, lambda hole: next(fills))["line"]
    assert (result.n, result.exact_match, result.ended) == (2, 50.0, 50.0)
    assert result.edit_similarity == 50.0
    assert (result.cost.forwards_per_task, result.cost.tokens_per_forward) == (2.5, 1.8)
    assert (result.cost.p50_ms, result.cost.p95_ms) == (15.0, 19.5)
    copy = result.baselines["previous_line"]
    assert (copy.exact_match, copy.only_model, copy.only_baseline) == (50.0, 50.0, 50.0)


def test_holes_that_both_get_right_are_not_counted_as_exclusive() -> None:
    holes = [hole_at("x = 1\n[[x = 1]]\nq\n"), hole_at("x = 1\n[[x = 1]]\nr\n")]
    fills = iter([Fill("x = 1"), Fill("x = 2")])
    copy = heldout.evaluate(holes, lambda hole: next(fills))["line"].baselines["previous_line"]
    assert (copy.exact_match, copy.only_model, copy.only_baseline) == (100.0, 0.0, 50.0)


def test_a_line_limit_does_not_count_as_the_models_own_end() -> None:
    holes = [hole_at("x = 1\n[[x = 1]]\nq\n")]
    result = heldout.evaluate(holes, lambda hole: Fill("x = 1", finish="lines"))["line"]
    assert (result.exact_match, result.ended) == (100.0, 0.0)


def test_a_filler_gets_both_sides_but_not_the_answer() -> None:
    seen: list[Hole] = []

    def fill(hole: Hole) -> Fill:
        seen.append(hole)
        return Fill("")

    heldout.evaluate([hole_at("before [[answer]]\nafter\n", "rest_of_line")], fill)
    assert [(hole.prefix, hole.suffix) for hole in seen] == [("before ", "\nafter\n")]


# --- data and the command line -------------------------------------------------------------------


def write_corpus(path: Path) -> Path:
    lines = (
        json.dumps({"project": document.project, "path": document.path, "text": document.text})
        + "\n"
        for document in DOCUMENTS
    )
    path.write_bytes(gzip.compress("".join(lines).encode()))
    return path


def test_a_corpus_round_trips(tmp_path: Path) -> None:
    assert load_documents(write_corpus(tmp_path / "heldout.jsonl.gz")) == DOCUMENTS


@pytest.fixture(scope="module")
def checkpoint(
    tiny: Any,
    tiny_tokenizer: CodeTokenizer,
    tiny_tokenizer_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(tiny.model(vocab_size=tiny_tokenizer.vocab_size), folder)
    shutil.copy(tiny_tokenizer_file, folder / "tokenizer.json")
    return folder


def test_the_command_prints_one_reproducible_json_object(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_corpus(tmp_path / "heldout.jsonl.gz")
    command = ["--data", str(data), "--model", str(checkpoint), "--per-kind", "1", "--json"]
    runs = []
    for _ in range(2):
        assert heldout.main([*command, "--mode", "diffusion"]) == 0
        runs.append(json.loads(capsys.readouterr().out))
    first, second = runs
    assert (first["model"], first["mode"], first["n_per_kind"]) == (str(checkpoint), "diffusion", 1)
    for name in (*KINDS, "one_line", "overall"):
        for timing in ("p50_ms", "p95_ms"):
            assert first[name].pop(timing) > 0
            second[name].pop(timing)
        assert first[name]["forwards_per_task"] >= 2
    assert first == second
    assert first["overall"]["n"] == 5


def test_the_table_has_a_row_for_each_kind(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_corpus(tmp_path / "heldout.jsonl.gz")
    command = ["--data", str(data), "--model", str(checkpoint), "--per-kind", "1"]
    assert heldout.main(command) == 0
    table = capsys.readouterr().out
    assert all(kind in table for kind in KINDS)


def test_a_missing_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_corpus(tmp_path / "heldout.jsonl.gz")
    command = ["--data", str(data), "--per-kind", "1", "--model", str(tmp_path / "none")]
    assert heldout.main(command) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
    assert heldout.main([*command, "--prefix-chars", "0"]) == 2
    assert "window" in capsys.readouterr().err


def test_damaged_data_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_corpus(tmp_path / "heldout.jsonl.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(EvaluationDataError, match=str(path)):
        load_documents(path)
    assert heldout.main(["--data", str(path), "--json"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {path}: damaged")
    assert shown.err.count("\n") == 1
