"""Next edits on replayed commits: the figures, the fit of the score, and the command."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from fim_model.calibration.edit_priors import EDIT_PRIORS, EditPriors
from fim_model.infiller import Infiller
from fim_model.requests import Rewrite, RewriteRequest
from fim_training.corpus.line_diff import LineHunk
from fim_training.examples.hunk_sequences import HunkSequence
from git_clones import write_clone
from tiny_checkpoint import write_tiny_checkpoint

from fim_server.bench import edit_score_fit
from fim_server.bench.commit_edits import ORDERS, contexts, replayed, without_model
from fim_server.bench.edit_score_fit import Observation
from fim_server.bench.model_judgement import SILENT, JudgedDraft, judged, weight_of
from fim_server.cli import main
from fim_server.edits.next_edit import Gate
from fim_server.edits.rules.score import FEATURES

OTHERS = ("first = 1", "del rows[5:]", "while up: go()", "@once", "yield", "x -= y ** 2", "a, b")
BEFORE = tuple(line for other in OTHERS for line in (other, "open(source, 1).close()"))
ALWAYS = Gate(-100.0)


def sequence(*hunks: LineHunk, neighbours: tuple[str, ...] = ()) -> HunkSequence:
    return HunkSequence("p", "c0", "a.py", "python", BEFORE, hunks, neighbours)


def repeated(*lines: int) -> HunkSequence:
    """The same change of lines that are equal."""
    new = ("with open(source, 1):", "    pass")
    return sequence(*(LineHunk(line, (BEFORE[line],), new) for line in lines))


def figures(what: HunkSequence, gate: Gate = ALWAYS, seconds: float = 60.0) -> dict[str, object]:
    work = replayed([what], without_model, gate, cpu_seconds=seconds)
    found: dict[str, object] = asyncio.run(work)["in order"]
    return found


def test_the_same_change_is_found_and_the_end_is_noticed() -> None:
    lines = range(1, len(BEFORE), 2)
    found = figures(repeated(*lines))
    assert (found["points"], found["hunks"], found["ended"]) == (6, 6, 1)
    assert (found["shown"], found["first_right"], found["recall"]) == (100.0, 100.0, 100.0)
    assert found["recall_whole"] == 100.0
    assert found["after_last"] == 0.0, "nothing is left that could follow"
    assert found["shapes"] == {"other count": {"n": 6, "percent": 100.0}}
    left_out = figures(repeated(*lines[:-1]))
    assert left_out["after_last"] == 100.0, "the same line stands once more"


def test_a_silent_gate_shows_nothing() -> None:
    lines = range(1, len(BEFORE), 2)
    found = figures(repeated(*lines), Gate(100.0))
    assert (found["shown"], found["recall"], found["after_last"]) == (0.0, 0.0, 0.0)


def test_words_of_prose_are_shown_as_in_an_editor() -> None:
    """The second of equal words is not shown, however likely, and the third one is."""
    before = ("The old part.", "Other words here.", "The old part.", "And more.", "The old part.")
    hunks = tuple(LineHunk(line, ("The old part.",), ("The new part.",)) for line in (0, 2, 4))
    text = HunkSequence("p", "c0", "a.md", "markdown", before, hunks, ())
    assert figures(text)["points"] == 2
    assert figures(text)["shown"] == 50.0


def test_searches_that_an_editor_gives_up_are_counted() -> None:
    lines = range(1, len(BEFORE), 2)
    assert figures(repeated(*lines))["gave_up"] == 0.0
    found = figures(repeated(*lines), seconds=-1.0)
    assert (found["gave_up"], found["shown"]) == (100.0, 100.0), "counted, and shown all the same"


def test_the_planner_sees_what_an_editor_sends() -> None:
    moments = list(
        contexts(
            sequence(
                LineHunk(1, (BEFORE[1],), ("a()", "b()")),
                LineHunk(5, (BEFORE[5],), ("c()",)),
                neighbours=("import x\n",),
            ),
            shuffled=False,
        )
    )
    point, context = moments[-1]
    assert "".join(context.snapshot.lines) == "\n".join(point.lines)
    assert [(hunk.first, hunk.new) for hunk in context.hunks] == [
        (1, ("a()", "b()")),
        (6, ("c()",)),
    ]
    assert context.cursor_line == 6
    assert [list(lines) for lines in context.neighbours] == [["import x\n", ""]]


def observed(rule: str, likeness: float, *, right: bool, project: str = "p") -> Observation:
    features = [0.0] * len(FEATURES)
    features[0], features[FEATURES.index("likeness")] = 1.0, likeness
    return Observation(rule, tuple(features), right, (project, "c", ORDERS[0], 1), coming=True)


def test_the_fit_gives_the_shares_that_were_right() -> None:
    """One rule is right in 3 of 4 cases, another in 1 of 4: enough cases outweigh the penalty."""
    found = [observed("good", 0.5, right=n % 4 > 0) for n in range(4000)]
    found += [observed("bad", 0.5, right=n % 4 == 0) for n in range(4000)]
    weights = edit_score_fit.fit(found)
    good, bad = (
        edit_score_fit.odds_by(weights, observed(name, 0.5, right=True)) for name in ("good", "bad")
    )
    assert good == pytest.approx(1.0986, abs=0.05)  # log 3
    assert bad == pytest.approx(-1.0986, abs=0.05)
    unknown = edit_score_fit.odds_by(weights, observed("new", 0.5, right=True))
    assert bad < unknown < good, "an unknown rule has what all share"


def test_a_rule_with_few_cases_stays_near_the_shared_weights() -> None:
    found = [observed("many", 0.5, right=n % 2 > 0) for n in range(2000)]
    found += [observed("few", 0.5, right=True) for n in range(3)]
    weights = edit_score_fit.fit(found)
    assert 0 < edit_score_fit.odds_by(weights, observed("few", 0.5, right=True)) < 2


def crowd(project: str, shown: int, right: int, after: int) -> list[Observation]:
    """Moments of a project in both orders, with one candidate each."""
    return [
        Observation("rule", (), number < right, (project, f"{number}", order, 1), number < shown)
        for order in ORDERS
        for number in range(shown + after)
    ]


def test_the_lowest_threshold_that_is_right_and_silent_enough() -> None:
    """At 2 nats 90 of 100 are right, 2 more stand after the last hunk; from 1 nat on 20 wrong."""
    likely = crowd("a", 100, 90, 2) + crowd("b", 100, 90, 2)
    wrong = [
        Observation("rule", (), False, (name, f"{number} more", order, 1), True)
        for name in "ab"
        for order in ORDERS
        for number in range(40)
    ]
    found = likely + wrong
    odds = [2.0] * len(likely) + [1.0] * len(wrong)
    ended = {"a": 100, "b": 100}
    assert edit_score_fit.chosen(found, odds, ended) == 1.1, "64 % would be right at 1 nat"
    assert edit_score_fit.chosen(likely, [2.0] * len(likely), {"a": 50, "b": 50}) == 2.1


def test_a_threshold_must_hold_in_most_draws_of_the_histories() -> None:
    """80 % are right in all, but only because of one history of four."""
    found = crowd("a", 240, 235, 0) + [each for n in "bcd" for each in crowd(n, 50, 30, 0)]
    ended = dict.fromkeys("abcd", 100)
    assert edit_score_fit.chosen(found, [1.0] * len(found), ended) == 1.1, "silence"


def test_each_history_is_scored_by_the_others() -> None:
    found = [observed("rule", 0.5, right=True, project="a") for _ in range(50)]
    found += [observed("rule", 0.5, right=False, project="b") for _ in range(50)]
    odds = edit_score_fit.cross_validated(found)
    assert max(odds[:50]) < 0 < min(odds[50:]), "what one project says is wrong in the other"


def test_penalties_are_as_large_as_histories_differ() -> None:
    """Rules that say the same everywhere get small penalties; those that say in each history
    something else large ones."""
    same = [
        observed(rule, 0.5, right=(number % 8 > 0) is (rule == "good"), project=project)
        for project in "abcde"
        for rule in ("good", "bad")
        for number in range(80)
    ]
    mixed = [
        observed(
            f"rule {rule}", 0.5, right=(hash_of(project, rule) + number) % 3 > 0, project=project
        )
        for project in "abcde"
        for rule in range(8)
        for number in range(2)
    ]
    least, _, losses = edit_score_fit.best_penalties(same)
    assert least == edit_score_fit.PENALTIES[0]
    assert len(losses) == len(edit_score_fit.PENALTIES)
    assert edit_score_fit.best_penalties(mixed)[0] > least


def hash_of(project: str, rule: int) -> int:
    return ord(project) * 7 + rule * 5


def test_a_judgement_that_tells_right_from_wrong_gets_weight() -> None:
    useful = [
        JudgedDraft(0.0, 3.0 if n % 2 else -3.0, (n % 2 > 0) is (n % 10 > 0)) for n in range(400)
    ]
    found = weight_of(useful, 1.0)
    assert found["draft_weight"] > 0.3
    assert found["loss_with"] < found["loss_without"]
    assert found["auc_gain"] > 0.8
    noise = [JudgedDraft(0.0, float(n % 3), n % 2 > 0) for n in range(600)]
    assert weight_of(noise, 1.0)["draft_weight"] < 0.05


def test_what_the_model_writes_is_shown_where_it_is_right_often_enough() -> None:
    own = [JudgedDraft(None, float(n), n >= 50) for n in range(100)]
    prior = weight_of(own, 1.0)["own_prior"]
    assert 30 < 1.0 - prior < 50, "three of four above this gain are right"
    assert weight_of([JudgedDraft(None, 9.0, False)] * 50, 1.0)["own_prior"] == SILENT


def test_the_model_is_asked_about_likely_drafts() -> None:
    asked: list[RewriteRequest] = []

    async def ask(request: RewriteRequest) -> Rewrite:
        asked.append(request)
        gains = tuple(2.0 for _ in request.drafts)
        return Rewrite(f"{request.old}!", 5.0, 0.9, "rewrite", 1, 1, 0, 1.0, gains)

    lines = range(1, len(BEFORE), 2)
    found = asyncio.run(judged([repeated(*lines)], ask))
    assert asked
    assert {each.right for each in found if each.odds is None} == {False}
    assert any(each.right and each.gain == 2.0 for each in found if each.odds is not None)


def clone(folder: Path, name: str) -> Path:
    text = "\n".join(BEFORE)
    edited = "\n".join(repeated(3, 7).after)
    commits = [("add", {"a.py": text}), ("edit", {"a.py": edited}), ("back", {"a.py": text})]
    return write_clone(folder / name, commits)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clones = [str(clone(tmp_path, name)) for name in ("a", "b")]
    command = ["eval", "edits", "--git", *clones, "--commits", "5", "--seed", "1"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["commits"] == 4
    assert {*found["histories"]} == {"a", "b"}
    assert found["histories"]["a"]["licence"] == "MIT"
    assert {*ORDERS} <= {*found}
    assert main([*command, "--fit", "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert fitted["candidates"] > 4
    assert len(fitted["curve"]) == 2 * len(edit_score_fit.THRESHOLDS)
    assert main(command) == 0
    assert "first_right" in capsys.readouterr().out
    assert main(["eval", "edits", "--git", str(tmp_path)]) == 2
    assert "no readable git history" in capsys.readouterr().err
    assert main([*command, "--write"]) == 2
    assert "--write needs --fit" in capsys.readouterr().err
    assert main(["eval", "edits", "--git", clones[0], "--fit"]) == 2
    assert "two projects" in capsys.readouterr().err


def test_what_a_model_adds_is_written_to_its_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model")
    command = ["eval", "edits", "--git", str(clone(tmp_path, "a")), "--with-model"]
    command += ["--model", str(folder), "--threads", "1", "--commits", "2", "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["model"] == str(folder)
    assert main([*command, "--fit", "--write"]) == 0
    found = json.loads(capsys.readouterr().out)
    priors = EditPriors(found["draft_weight"], found["own_prior"])
    infiller = Infiller.load(folder)
    assert infiller.rewriter.priors == priors
    result = infiller.rewrite(RewriteRequest("", "x = 1", "\n", drafts=("x = 2",)))
    assert (result.draft_weight, result.own_prior) == (priors.draft_weight, priors.own)
    (folder / EDIT_PRIORS).write_text('{"draft_weight": "much"}')
    assert main(command) == 2
    assert "edit_priors.json has no priors" in capsys.readouterr().err
