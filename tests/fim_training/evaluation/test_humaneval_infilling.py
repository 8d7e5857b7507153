"""The grader: a safe sandbox, correct figures, and errors for invalid data."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from fim_model.infiller import Infiller
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import Completion
from fim_training.evaluation import sandbox
from fim_training.evaluation.figures import cost_of, edit_similarity, percentile
from fim_training.evaluation.filler import Fill, Hole, Mode, model_filler
from fim_training.evaluation.humaneval_infilling import (
    Task,
    evaluate,
    evaluate_model,
    load_tasks,
    spread_sample,
)
from fim_training.evaluation.jsonl import EvaluationDataError
from fim_training.evaluation.sandbox import Limits, run_program
from small_tasks import DOUBLE

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "humaneval-infilling"
SINGLE_LINE = DATA / "HumanEval-SingleLineInfilling.jsonl.gz"
RANDOM_SPAN = DATA / "HumanEval-RandomSpanInfillingLight.jsonl.gz"

SPAN = Task(
    task_id="RandomSpanInfillingLight/Test/0/1",
    entry_point="double",
    prompt="def double(x):\n    ret",
    suffix=" * x\n",
    canonical_solution="urn 2",
    test=DOUBLE.test,
)
QUICK = Limits(wall_seconds=60, cpu_seconds=1, memory_mib=256)


def graded(task: Task, text: str) -> tuple[float, float]:
    """pass@1 and exact match of one fill."""
    report = evaluate([task], lambda hole: Fill(text), limits=QUICK)
    return report.pass_at_1, report.exact_match


def oracle(tasks: list[Task]) -> dict[tuple[str, str], str]:
    return {(task.prompt, task.suffix): task.canonical_solution for task in tasks}


def open_descriptors() -> int:
    """Number of open descriptors; 0 where the system does not report it."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


# --- grading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("    return 2 * x\n", (100.0, 100.0)),
        ("    return 2 * x", (100.0, 100.0)),
        ("    return 2 * x  ", (100.0, 100.0)),
        ("    return x + x", (100.0, 0.0)),
        ("    return x", (0.0, 0.0)),
        ("    return 2 * (x", (0.0, 0.0)),
        ("", (0.0, 0.0)),
    ],
)
def test_a_line_is_graded_by_its_tests(text: str, expected: tuple[float, float]) -> None:
    assert graded(DOUBLE, text) == expected


def test_a_line_without_its_newline_does_not_run_into_the_suffix() -> None:
    task = replace(DOUBLE, canonical_solution="    y = 2 * x\n", suffix="    return y\n")
    assert graded(task, "    y = 2 * x") == (100.0, 100.0)
    assert graded(task, "    y = 2 * x\n") == (100.0, 100.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("urn 2", (100.0, 100.0)), ("urn 2 ", (100.0, 0.0)), ("urn 2\n", (0.0, 0.0))],
)
def test_a_span_is_inserted_verbatim(text: str, expected: tuple[float, float]) -> None:
    assert graded(SPAN, text) == expected


def test_exiting_before_the_tests_does_not_pass() -> None:
    for escape in ("raise SystemExit(0)", "import os; os._exit(0)", "import sys; sys.exit()"):
        assert graded(DOUBLE, f"    return 0\n{escape}\n") == (0.0, 0.0)


def test_a_filler_gets_the_hole_but_not_the_answer() -> None:
    seen: list[Hole] = []

    def fill(hole: Hole) -> Fill:
        seen.append(hole)
        return Fill("")

    evaluate([DOUBLE, SPAN], fill, limits=QUICK)
    line, span = seen
    assert (line.prefix, line.suffix, line.max_lines) == ("def double(x):\n", "", 1)
    assert (span.prefix, span.suffix, span.max_lines) == ("def double(x):\n    ret", " * x\n", None)


def test_figures_are_totals_over_all_tasks() -> None:
    fills = iter([Fill("    return 2 * x", 4, 12, 10.0), Fill("    pass", 6, 3, 30.0)])
    stages: list[tuple[str, int, int]] = []
    report = evaluate(
        [DOUBLE, DOUBLE],
        lambda hole: next(fills),
        limits=QUICK,
        progress=lambda *step: stages.append(step),
    )
    assert report.as_json() == {
        "n": 2,
        "pass_at_1": 50.0,
        "exact_match": 50.0,
        "forwards_per_task": 5.0,
        "tokens_per_forward": 1.5,  # 15 tokens / 10 forwards; the mean of ratios would be 1.75
        "p50_ms": 20.0,
        "p95_ms": 29.0,
    }
    assert stages == [("fill", 1, 2), ("fill", 2, 2), ("grade", 1, 2), ("grade", 2, 2)]


def test_metrics_of_nothing_are_zero() -> None:
    assert evaluate([], lambda hole: Fill("")).as_json()["pass_at_1"] == 0.0
    assert cost_of([]).tokens_per_forward == 0.0
    assert percentile([], 95) == 0.0


def test_edit_similarity_by_hand() -> None:
    assert edit_similarity("abcd", "abcd \n") == 1.0
    assert edit_similarity("abcd", "abxy") == 0.5
    assert edit_similarity("", "abc") == 0.0
    assert edit_similarity("", "") == 1.0


# --- the sandbox ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "outcome", "detail"),
    [
        ("x = 1\n", "passed", ""),
        ("assert False\n", "failed", "AssertionError"),
        ("def f(:\n", "failed", "SyntaxError"),
        ("while True: pass\n", "time", ""),
        ("while True:\n try:\n  while True: pass\n except BaseException: pass\n", "time", ""),
        ("x = [0] * 10**9\n", "memory", ""),
        ("x = []\nwhile True: x.append('y' * 10**6)\n", "memory", ""),
        ("def f(): f()\nf()\n", "failed", "RecursionError"),
        ("while True: print('x' * 10**6)\n", "time", ""),
        ("input()\n", "failed", "EOFError"),
        ("import os; os._exit(0)\n", "crashed", ""),
        ("import os; os.fork()\n", "failed", "PermissionError"),
        ("import os; os.kill(os.getppid(), 9)\n", "failed", "PermissionError"),
        ("import subprocess; subprocess.run(['true'])\n", "failed", "PermissionError"),
        (
            "import socket; socket.create_connection(('localhost', 1))\n",
            "failed",
            "PermissionError",
        ),
        ("import resource as r; r.setrlimit(r.RLIMIT_CPU, (99, 99))\n", "failed", "ValueError"),
        ("import torch\n", "failed", "ModuleNotFoundError"),
    ],
)
def test_sandbox_outcomes(source: str, outcome: str, detail: str) -> None:
    verdict = run_program(source, QUICK)
    assert (verdict.outcome, verdict.detail) == (outcome, detail)


def test_a_sleeping_program_reaches_the_wall_clock_limit() -> None:
    limits = Limits(wall_seconds=0.5, cpu_seconds=5)
    assert run_program("import time; time.sleep(3600)\n", limits).outcome == "time"


def test_a_program_cannot_write_or_delete_files(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("keep me")
    attacks = [
        f"open({str(precious)!r}, 'w')",
        f"open({str(precious)!r}, 'r+').truncate()",
        f"import os; os.open({str(precious)!r}, os.O_WRONLY | os.O_TRUNC)",
        f"import os; os.remove({str(precious)!r})",
        f"import shutil; shutil.rmtree({str(tmp_path)!r})",
        f"import pathlib; pathlib.Path({str(precious)!r}).unlink()",
        f"open({str(tmp_path / 'new.txt')!r}, 'x')",
        "open('here.txt', 'w')",
    ]
    for attack in attacks:
        assert run_program(attack + "\n", QUICK).detail == "PermissionError", attack
    assert precious.read_text() == "keep me"
    assert list(tmp_path.iterdir()) == [precious]


def test_file_size_is_bounded_behind_the_audit_hook(tmp_path: Path) -> None:
    """The size limit must hold even without the audit hook."""
    script = (
        f"import sys; sys.path.insert(0, {str(Path(sandbox.__file__).parent)!r})\n"
        "import sandbox_child\n"
        "sandbox_child.lower_limits(5, 2**28)\n"
        f"open({str(tmp_path / 'big.txt')!r}, 'wb', buffering=0).write(b'x')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert (tmp_path / "big.txt").stat().st_size == 0


def test_the_sandbox_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIM_TEST_SECRET", "hidden")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = "import os\nassert os.getcwd() != '/'\nassert 'FIM_TEST_SECRET' not in os.environ\n"
    before = open_descriptors()
    assert run_program(source, QUICK).passed
    assert run_program("while True: pass", QUICK).outcome == "time"
    assert list(tmp_path.iterdir()) == []
    assert open_descriptors() == before


# --- data ----------------------------------------------------------------------------------------


def test_damaged_data_is_reported(tmp_path: Path) -> None:
    good = gzip.compress((json.dumps({"task_id": "a"}) + "\n").encode() * 400)
    cases = {
        "truncated.jsonl.gz": good[: len(good) // 2],
        "plain.jsonl.gz": b'{"task_id": "a"}\n',
        "empty.jsonl.gz": gzip.compress(b""),
        "not_json.jsonl.gz": gzip.compress(b"{oops\n"),
        "not_utf8.jsonl.gz": gzip.compress(b'"\xff\xfe"\n'),
        "list.jsonl.gz": gzip.compress(b"[1]\n"),
        "other_fields.jsonl.gz": good,
    }
    for name, content in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(EvaluationDataError) as caught:
            load_tasks(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    for path in (tmp_path / "missing.jsonl.gz", tmp_path):
        with pytest.raises(EvaluationDataError, match=str(path)):
            load_tasks(path)


def test_a_small_limit_samples_the_whole_file() -> None:
    tasks = [DOUBLE] * 5 + [SPAN] * 5
    assert spread_sample(tasks, 2) == [DOUBLE, SPAN]
    numbered = [Task(str(i), "", "", "", "", "") for i in range(10)]
    assert [task.task_id for task in spread_sample(numbered, 3)] == ["1", "5", "8"]
    assert spread_sample(numbered, None) == spread_sample(numbered, 99) == numbered
    with pytest.raises(ValueError, match="limit 0"):
        spread_sample(numbered, 0)


@pytest.mark.parametrize("path", [SINGLE_LINE, RANDOM_SPAN], ids=lambda path: path.name)
def test_canonical_solutions_pass_and_empty_ones_rarely(path: Path) -> None:
    if not path.exists():
        pytest.skip(f"{path.name} is not at ../shared/data/humaneval-infilling")
    tasks = spread_sample(load_tasks(path), 40)
    solutions = oracle(tasks)
    report = evaluate(tasks, lambda hole: Fill(solutions[hole.prefix, hole.suffix]))
    assert (report.n, report.pass_at_1, report.exact_match) == (40, 100.0, 100.0)
    wrong = evaluate(tasks, lambda hole: Fill("    raise NotImplementedError"))
    assert wrong.exact_match == 0.0
    assert wrong.pass_at_1 < 10.0


# --- with a model --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ar", "diffusion", "self_speculation"])
def test_grading_a_random_model_is_reproducible(
    mode: Mode, tiny: Any, tiny_tokenizer: CodeTokenizer, tmp_path: Path
) -> None:
    data = tmp_path / "tasks.jsonl.gz"
    data.write_bytes(
        gzip.compress("".join(json.dumps(asdict(task)) + "\n" for task in (DOUBLE, SPAN)).encode())
    )
    infiller = Infiller(tiny.model(vocab_size=tiny_tokenizer.vocab_size), tiny_tokenizer)
    first, second = (
        evaluate_model(infiller, data, model="tiny", mode=mode, limit=None) for _ in range(2)
    )
    assert (first["n"], first["model"], first["mode"], first["data"]) == (
        2,
        "tiny",
        mode,
        data.name,
    )
    assert first["pass_at_1"] == 0.0
    assert first["forwards_per_task"] >= 2
    assert first["p95_ms"] >= first["p50_ms"] > 0
    for timing in ("p50_ms", "p95_ms"):
        del first[timing], second[timing]
    assert first == second


def test_a_model_is_queried_without_a_session_and_with_the_holes_limits(
    tiny: Any, tiny_tokenizer: CodeTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    infiller = Infiller(tiny.model(vocab_size=tiny_tokenizer.vocab_size), tiny_tokenizer)
    results: list[Completion] = []
    infill = infiller.infill
    monkeypatch.setattr(infiller, "infill", lambda request: keep(results, infill(request)))
    fill = model_filler(infiller, mode="ar")
    hole = Hole("def f(", ")\n", max_tokens=5, max_lines=1)
    fills = [fill(hole), fill(hole)]
    assert fills[0].tokens <= 5
    assert fills[0].text == fills[1].text
    assert [result.stats.reused_tokens for result in results] == [0, 0]
    assert [filled.forwards for filled in fills] == [result.stats.forwards for result in results]


def keep(kept: list[Completion], result: Completion) -> Completion:
    kept.append(result)
    return result
