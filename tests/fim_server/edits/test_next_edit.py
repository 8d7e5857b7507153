"""Next edits: regions, the gate, and what is never proposed. The scripted model (`scripted.py`)
replaces names as the last edit did.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fim_model.requests import ADAPTER_FILE, Rewrite, RewriteRequest
from lsprotocol import types as lsp
from scripted import ScriptedBackend

from fim_server.access.tuned_workspaces import adapter_name, adapters_folder
from fim_server.access.workspace import Workspace
from fim_server.backends.base import BackendError, Unfit, Unsupported
from fim_server.documents.documents import DocumentStore, without_end
from fim_server.edits.next_edit import MAX_TRIES, Proposal, request_for, rewritten
from fim_server.edits.regions import Problem, Region
from fim_server.edits.rules import unproven_prose
from fim_server.edits.service import RETRY_SECONDS, EditService
from fim_server.settings.settings import Settings

pytestmark = pytest.mark.timeout(60)

URI = "file:///project/a.py"
OTHER = "file:///project/b.py"
TOUR = Path(__file__).parents[3] / "editors" / "neovim" / "tour" / "sample.py"
CODE = """\
def area(width, height):
    return width * height


def cost(area, price):
    total = area * price
    print("total", total)
    return total
"""


class Desk:
    """The service with open documents, a scripted backend and a manual clock."""

    def __init__(self, text: str = CODE, settings: Settings | None = None, *roots: Path) -> None:
        self.backend = ScriptedBackend()
        self.documents = DocumentStore()
        self.now = 0.0
        self.service = EditService(
            self.documents,
            lambda: self.backend,
            settings or Settings(),
            Workspace(roots, settings),
            clock=lambda: self.now,
        )
        self.open(URI, text)

    def open(self, uri: str, text: str) -> None:
        self.documents.open(uri, "python", 1, text)

    def text(self, uri: str = URI) -> str:
        snapshot = self.documents.snapshot(uri)
        assert snapshot is not None
        return snapshot.text

    def edit(self, line: int, old: str, new: str, uri: str = URI) -> None:
        """Replace a text in a line."""
        before = self.documents.snapshot(uri)
        assert before is not None
        start = without_end(before.lines[line]).index(old)
        span = lsp.Range(lsp.Position(line, start), lsp.Position(line, start + len(old)))
        self.change(lsp.TextEdit(span, new), uri)

    def change(self, edit: lsp.TextEdit, uri: str = URI) -> None:
        before = self.documents.snapshot(uri)
        assert before is not None
        event = lsp.TextDocumentContentChangePartial(edit.range, edit.new_text)
        self.documents.change(uri, before.version + 1, [event])
        after = self.documents.snapshot(uri)
        assert after is not None
        self.service.changed(before, after)

    async def found(self, limit: int = 1, line: int = 0, uri: str = URI) -> list[Proposal]:
        return await self.service.next_edits(uri, line, None, limit)

    async def offered(self, limit: int = 1) -> list[str]:
        return [self.service.offer(proposal) for proposal in await self.found(limit)]

    def apply(self, proposal: Proposal) -> None:
        [edit] = proposal.text_edits
        self.change(edit, proposal.uri)


def shown(found: list[Proposal]) -> list[tuple[int, tuple[str, ...]]]:
    return [(proposal.first, proposal.new) for proposal in found]


async def test_a_file_without_edits_gets_no_proposal() -> None:
    desk = Desk()
    assert await desk.found(limit=6) == []
    assert desk.backend.rewrites == [], "the model is not even asked"


async def test_the_other_occurrences_of_a_renamed_name() -> None:
    desk = Desk()
    desk.edit(5, "total", "amount")
    found = await desk.found(limit=6)
    assert shown(found) == [
        (6, ('    print("total", amount)', "    return amount")),
    ]
    [request] = {
        rewrite.old: rewrite for rewrite in desk.backend.rewrites if "print" in rewrite.old
    }.values()
    assert request.drafts[0] == '    print("total", amount)\n    return amount'
    assert request.prefix + request.old + request.suffix == desk.text()
    assert request.speculative
    assert [(edit.old, edit.new) for edit in request.edits] == [
        ("total = area * price", "amount = area * price")
    ]
    assert request.session != URI, "a document's completions keep their own tokens"


async def test_a_client_that_applies_all_edits_gets_one_at_a_time() -> None:
    desk = Desk("old = 1\nx = 2\nprint(old)\ny = 3\nprint(old + 1)\n")
    desk.edit(0, "old", "new")
    assert shown(await desk.found(line=4)) == [(4, ("print(new + 1)",))], "the nearest first"
    assert len(desk.backend.rewrites) == 1, "and no more is asked than that"


async def test_a_repeated_request_is_answered_without_the_model() -> None:
    desk = Desk()
    desk.edit(5, "total", "amount")
    first = await desk.offered()
    asked = len(desk.backend.rewrites)
    assert await desk.offered() == first
    assert len(desk.backend.rewrites) == asked


async def test_the_gate_requires_a_gain() -> None:
    for gain, shown_at in ((-9, 0), (9, 1)):
        desk = Desk(f"old = 1\n\nprint(old)  #gain {gain}\n")
        desk.edit(0, "old", "new")
        found = await desk.found()
        assert len(found) == shown_at
        assert [each.evidence for each in found] == [
            each.odds + gain for each in found if each.odds
        ]
    strict = Desk("old = 1\n\nprint(old)  #gain 9\n", Settings(min_edit_gain=40))
    strict.edit(0, "old", "new")
    assert await strict.found() == []


class Blind(ScriptedBackend):
    """A model that adds nothing to what the rules know."""

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        self.rewrites.append(request)
        raise Unfit("too long")


async def test_the_rename_that_the_tour_asks_for_is_followed_by_its_calls() -> None:
    desk = Desk(TOUR.read_text())
    desk.backend = Blind()
    line = TOUR.read_text().split("\n").index("def is_valid(amount):")
    desk.edit(line, "is_valid", "is_positive")
    found = await desk.found(limit=6, line=line)
    assert [new for proposal in found for new in proposal.new] == 3 * [
        "        if not is_positive(amount):"
    ]


async def test_what_the_model_cannot_read_is_left_to_the_rules() -> None:
    desk = Desk("old = 1\n\nprint(old)\n", Settings(min_edit_gain=0))
    desk.backend = Blind()
    desk.edit(0, "old", "new")
    [proposal] = await desk.found()
    assert proposal.new == ("print(new)",)
    assert proposal.evidence == proposal.odds
    assert len(desk.backend.rewrites) == 1


async def test_an_undone_edit_is_never_proposed_again() -> None:
    desk = Desk("old = 1\n\nprint(old)\n\nreturn_it(old)\n")
    desk.edit(0, "old", "new")
    [proposal] = await desk.found()
    desk.apply(proposal)
    desk.edit(proposal.first, "new", "old")
    for _ in range(3):
        assert proposal.first not in [other.first for other in await desk.found(limit=6)]
        desk.edit(0, "=", "= ")
    desk.edit(0, "new", "old")
    assert await desk.found(limit=6) == [], "the edit that led to it is undone itself"


async def test_a_rejected_edit_is_not_proposed_in_the_same_place() -> None:
    desk = Desk("old = 1\n\nprint(old)\n\nprint(old)\nend()\n")
    desk.edit(0, "old", "new")
    [name] = await desk.offered()
    rejected = desk.service.offered(name)
    assert rejected is not None
    desk.service.rejected(name)
    [other] = {2, 4} - {rejected.first}
    assert shown(await desk.found(limit=6)) == [(other, ("print(new)",))], "elsewhere it may be"
    desk.change(lsp.TextEdit(lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0)), "import x\n"))
    assert shown(await desk.found(limit=6)) == [(other + 1, ("print(new)",))], "it has moved"


async def test_an_edit_ignored_twice_counts_as_rejected() -> None:
    desk = Desk("old = 1\n\nprint(old)\n")
    desk.edit(0, "old", "new")
    for _ in range(2):
        assert len(await desk.offered()) == 1
        desk.edit(0, "=", "= ")
    assert await desk.found() == []


async def test_a_proposal_over_several_lines_is_shown_as_its_words() -> None:
    desk = Desk("old = 1\n\nprint(old)\n  call(1, old)\n")
    desk.edit(0, "old", "new")
    [proposal] = await desk.found()
    assert len(proposal.new) == 2
    places = [(edit.range.start, edit.range.end, edit.new_text) for edit in proposal.text_edits]
    assert places == [
        (lsp.Position(2, 6), lsp.Position(2, 9), "new"),
        (lsp.Position(3, 10), lsp.Position(3, 13), "new"),
    ]
    block = proposal.block.text_edit(proposal.snapshot)
    assert block.range == lsp.Range(lsp.Position(2, 0), lsp.Position(3, 14)), "whole lines"
    assert block.new_text == "print(new)\n  call(1, new)"


async def test_accepting_does_not_count_as_ignoring() -> None:
    desk = Desk("old = 1\n\nprint(old)\n\nprint(old, 2)\n\nprint(old, 3)\n")
    desk.edit(0, "old", "new")
    for _ in range(3):
        [name] = await desk.offered()
        proposal = desk.service.offered(name)
        assert proposal is not None
        desk.apply(proposal)
    assert "old" not in desk.text()


async def test_the_other_edits_of_a_list_stay_current_after_one_is_applied() -> None:
    desk = Desk("old = 1\n\nprint(old)\n\nprint(old, 2)\n")
    desk.edit(0, "old", "new")
    await desk.offered(limit=6)
    first, second = desk.service.current(URI)
    desk.apply(first)
    [rest] = desk.service.current(URI)
    assert rest.new == second.new
    desk.apply(rest)
    assert desk.text() == "new = 1\n\nprint(new)\n\nprint(new, 2)\n"


async def test_typing_cancels_the_rewrite_at_once() -> None:
    desk = Desk("old = 1\n\nprint(old)  #wait\n")
    desk.edit(0, "old", "new")
    asking = asyncio.create_task(desk.found())
    await desk.backend.rewriting.wait()
    desk.edit(0, "1", "12")
    assert await asking == []
    assert desk.backend.rewrite_stopped.is_set()


async def test_cancelling_the_request_cancels_the_rewrite() -> None:
    desk = Desk("old = 1\n\nprint(old)  #wait\n")
    desk.edit(0, "old", "new")
    asking = asyncio.create_task(desk.found())
    await desk.backend.rewriting.wait()
    asking.cancel()
    await desk.backend.rewrite_stopped.wait()


async def test_a_stale_version_gets_nothing() -> None:
    desk = Desk()
    desk.edit(5, "total", "amount")
    assert await desk.service.next_edits(URI, 0, 1) == []
    assert len(await desk.service.next_edits(URI, 0, 2)) == 1
    assert await desk.service.next_edits("file:///never.py", 0) == []


async def test_other_open_documents_are_included_if_several_edits_are_requested() -> None:
    desk = Desk("def area(width):\n    return width\n")
    desk.open(OTHER, "from a import area\n\nx = 1\nprint(area(2))\n")
    desk.edit(0, "area", "surface")
    assert await desk.found() == []
    found = await desk.found(limit=6)
    assert [(proposal.uri, proposal.first) for proposal in found] == [(OTHER, 0), (OTHER, 3)]
    assert shown(await desk.found(uri=OTHER)) == [(0, ("from a import surface",))]


async def test_excluded_documents_are_neither_sent_nor_edited(tmp_path: Path) -> None:
    (tmp_path / ".fimignore").write_text("secret.py\n")
    public, secret = ((tmp_path / name).as_uri() for name in ("public.py", "secret.py"))
    desk = Desk("", None, tmp_path)
    for uri in (public, secret):
        desk.open(uri, "old = 1\n\nprint(old)\n")
    desk.edit(0, "old", "new", secret)
    assert await desk.found(limit=6, uri=secret) == []
    assert await desk.found(limit=6, uri=public) == []
    assert desk.backend.rewrites == [], "nor do its edits lead anywhere"
    desk.edit(0, "old", "new", public)
    assert {proposal.uri for proposal in await desk.found(limit=6, uri=public)} == {public}


async def test_read_only_files_get_no_proposals(tmp_path: Path) -> None:
    file = tmp_path / "b.py"
    file.write_text("print(area)\n")
    desk = Desk("area = 1\n")
    desk.open(file.as_uri(), file.read_text())
    desk.edit(0, "area", "surface")
    assert len(await desk.found(limit=6)) == 1
    desk.edit(0, "1", "2")
    file.chmod(0o444)
    assert await desk.found(limit=6) == []


async def test_untrusted_and_disabled() -> None:
    untrusted = Desk("area = 1\n", Settings(workspace_trusted=False))
    untrusted.open(OTHER, "print(area)\n")
    untrusted.edit(0, "area", "surface")
    assert await untrusted.found(limit=6) == []
    assert await untrusted.found(uri=OTHER) == []
    disabled = Desk(CODE, Settings(disabled_languages=("python",)))
    disabled.edit(5, "total", "amount")
    assert await disabled.found(limit=6) == []


async def test_words_are_compared_beside_the_event_loop_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk("# the old one\nx = 1\ny = 2\n# the old one\n", Settings(min_edit_gain=-50))
    loop, threads = threading.current_thread(), set[threading.Thread]()

    def endless(old: str, new: str) -> list[tuple[int, int, str]]:
        threads.add(threading.current_thread())
        while threads:  # until the search is stopped
            pass
        return []

    monkeypatch.setattr(unproven_prose, "changed_words", endless)
    desk.edit(0, "old", "new")
    assert await desk.found(limit=6) == []
    assert len(desk.backend.rewrites) == 1
    assert threads
    assert loop not in threads


class Unable(ScriptedBackend):
    """A server that only completes."""

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        self.rewrites.append(request)
        raise Unsupported("no edits here")


class Indifferent(ScriptedBackend):
    """A checkpoint whose priors leave all to the rules."""

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        answer = await super().rewrite(request)
        return answer and replace(answer, draft_weight=0.0, own_prior=-32.0)


async def renamed_by_the_rules_alone(desk: Desk, line: int) -> None:
    """Rename a function of the tour twice: its uses are proposed, as the rules score them."""
    for old, new in (("is_valid", "is_positive"), ("is_positive", "is_some")):
        desk.edit(line, old, new)
        found = await desk.found(limit=6, line=line)
        assert len([lines for proposal in found for lines in proposal.new]) == 3
        assert all(proposal.evidence == proposal.odds for proposal in found)
        assert len(desk.backend.rewrites) == 1, "asked once, about the first region"


@pytest.mark.parametrize("kind", [Unable, Indifferent])
async def test_the_rules_answer_alone_where_the_model_changes_nothing(
    kind: type[ScriptedBackend],
) -> None:
    desk = Desk(TOUR.read_text())
    desk.backend = kind()
    line = TOUR.read_text().split("\n").index("def is_valid(amount):")
    await renamed_by_the_rules_alone(desk, line)
    desk.service.configure(Settings(min_edit_gain=-5), Workspace(()))
    await desk.found(limit=6, line=line)
    assert len(desk.backend.rewrites) > 1, "and again for another gate"
    desk.backend = ScriptedBackend()
    desk.edit(line, "is_some", "is_any")
    await desk.found(limit=6, line=line)
    assert len(desk.backend.rewrites) > 1, "another backend is asked about each region"


class Broken(ScriptedBackend):
    """Fails to rewrite."""

    problem: Exception | None = None

    async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
        answer = await super().rewrite(request)
        if self.problem is not None:
            raise self.problem
        return answer


async def test_a_mistake_gives_an_empty_answer() -> None:
    desk = Desk()
    desk.backend = backend = Broken()
    backend.problem = ValueError("a mistake")
    desk.edit(5, "total", "amount")
    assert await desk.found() == []


async def test_the_rules_answer_alone_while_the_model_fails() -> None:
    desk = Desk(TOUR.read_text())
    desk.backend = backend = Broken()
    backend.problem = BackendError("the engine exited during the request")
    line = TOUR.read_text().split("\n").index("def is_valid(amount):")
    await renamed_by_the_rules_alone(desk, line)
    backend.problem = None
    desk.now += RETRY_SECONDS
    desk.edit(line, "is_some", "is_any")
    found = await desk.found(limit=6, line=line)
    assert len(backend.rewrites) == 1 + len(found), "and asked again some seconds later"
    assert all(proposal.gain > 0 for proposal in found)


async def test_a_region_is_retried_after_a_completion_superseded_it() -> None:
    class Busy(ScriptedBackend):
        async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
            answer = await super().rewrite(request)
            return answer if len(self.rewrites) > 2 else None

    desk = Desk("old = 1\n\nprint(old)\n")
    desk.backend = Busy()
    desk.edit(0, "old", "new")
    assert len(await desk.found()) == 1
    assert len(desk.backend.rewrites) == 3


async def test_refilled_text_is_not_a_next_edit() -> None:
    """Refilled text does not follow from an edit. Drafts are still scored, and a selection is
    refilled.
    """

    class Refilling(ScriptedBackend):
        async def rewrite(self, request: RewriteRequest) -> Rewrite | None:
            answer = await super().rewrite(request)
            assert answer is not None
            return replace(answer, new="refilled()", gain=99.0, way="refill")

    desk = Desk("old = 1\n\nprint(old)\n")
    desk.backend = Refilling()
    desk.edit(0, "old", "new")
    assert shown(await desk.found(limit=6)) == [(2, ("print(new)",))]
    snapshot = desk.documents.snapshot(URI)
    assert snapshot is not None
    context = desk.service.context(snapshot, 0)
    assert context is not None
    selected = Region(URI, 2, 3, 0.0, "selected")
    found = await rewritten(context, selected, (), desk.service.ask, speculative=False)
    assert shown(found) == [(2, ("refilled()",))]


async def test_a_line_with_a_lone_surrogate_gets_no_proposal() -> None:
    desk = Desk("old = 1\n\nprint(old, '\ud800')\n")
    desk.edit(0, "old", "new")
    assert await desk.found() == []
    assert desk.backend.rewrites == []


async def test_the_number_of_rewrites_is_bounded() -> None:
    desk = Desk("old = 1\n" + "print(old)  #keep\n\n" * 50)
    desk.edit(0, "old", "new")
    assert await desk.found() == []
    assert len(desk.backend.rewrites) == MAX_TRIES


# --- where to look -------------------------------------------------------------------------------


async def looked_at(desk: Desk, line: int = 0) -> list[tuple[str, str]]:
    """The regions with their reasons, in the order in which they are rewritten."""
    snapshot = desk.documents.snapshot(URI)
    assert snapshot is not None
    context = desk.service.context(snapshot, line)
    assert context is not None
    lines = [without_end(text) for text in snapshot.lines]
    found = context.regions()
    return [("\n".join(lines[region.first : region.end]), region.reason) for region in found]


async def test_calls_after_a_signature_changed() -> None:
    desk = Desk("when = 2\n\ndef pay(who,\n        amount):\n    pass\n\n\npay(me, 1)\n\nx = pay\n")
    desk.edit(3, "amount", "amount, when")
    assert await looked_at(desk) == [("pay(me, 1)", "uses pay")]


async def test_the_third_of_three_similar_lines() -> None:
    lines = [f"    add(row[{n}], kind='int', width={n})" for n in (0, 1, 2)]
    desk = Desk("def f(row):\n" + "\n\n".join(lines) + "\n")
    desk.edit(1, "'int'", "INT")
    desk.edit(3, "'int'", "INT")
    assert (lines[2], "still has 'int'") in await looked_at(desk)


async def test_a_literal_and_a_docstring() -> None:
    text, code = '    """At most 50 of them."""', "    return rows[:50]"
    desk = Desk(f"LIMIT = 50\n\n\ndef f():\n{text}\n{code}\n\nx\n")
    desk.edit(0, "50", "80")
    looked = "\n".join(lines for lines, reason in await looked_at(desk) if reason == "still has 50")
    assert text in looked
    assert code in looked


async def test_a_diagnostic_promotes_a_draft_but_creates_none() -> None:
    desk = Desk("old = 1\n\nprint(old)\n\nprint(old, 2)\n\nx\n")
    desk.edit(0, "old", "new")
    desk.edit(0, "1", "12")
    desk.edit(6, "x", "y")
    plain = await looked_at(desk, line=6)
    assert {text for text, _ in plain} == {"print(old, 2)", "print(old)"}
    second = 2 if plain[0][0] == "print(old, 2)" else 4
    problems = [Problem(second, second + 1, "old is not defined"), Problem(1, 2, "empty")]
    desk.service.diagnosed(URI, problems)
    assert await looked_at(desk, line=6) == plain[::-1]
    desk.edit(6, "y", "z")
    assert await looked_at(desk, line=6) == plain, "it was about another text"


async def test_a_missing_import_and_an_unused_one() -> None:
    desk = Desk("import os\nimport re\n\nx = 1\ny = re.sub('a', 'b', z)\n")
    desk.edit(3, "1", "json.loads(text)")
    assert ("import os", "json may lack an import") in await looked_at(desk)
    assert shown(await desk.found(line=4)) == [(0, ("import json", "import os"))]
    unused = Desk("import os\nimport re\n\nx = 1\ny = re.sub('a', 'b', os)\n")
    unused.edit(4, "re.sub('a', 'b', os)", "os")
    assert ("import re", "re is no longer used") in await looked_at(unused)
    assert shown(await unused.found(line=4)) == [(1, ())]


async def test_a_name_that_looks_misspelt_once_the_cursor_has_left_it() -> None:
    desk = Desk("counter = 1\n\n\nx = 2\n")
    desk.edit(3, "2", "conuter")
    assert await looked_at(desk, line=3) == []
    assert await looked_at(desk, line=1) == [("x = conuter", "conuter looks misspelt")]


async def test_the_same_definition_comes_before_others() -> None:
    body = "    x = 1\n\n    use('old')\n\n"
    desk = Desk(f"def a():\n{body}\ndef b():\n{body}    more('old')\n")
    desk.edit(9, "old", "new")
    regions = [text for text, _ in await looked_at(desk, line=6)]
    assert regions == ["    more('old')", "    use('old')"], "although the other is nearer"


async def test_long_lines_and_huge_files_are_bounded() -> None:
    filler = "y = 1\n" * 60_000
    desk = Desk("x = 'old'\n" + "x" * 1000 + " = 'old'\n" + filler + "print('old')\n")
    desk.edit(0, "old", "new")
    assert await looked_at(desk) == [], "neither the long line nor the far one"
    assert len(await looked_at(desk, line=60_000)) == 1


async def test_a_rewrite_names_the_adapter_of_its_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    project = tmp_path / "project"
    project.mkdir()
    name = adapter_name(project)
    (adapters_folder() / name).mkdir(parents=True)
    (adapters_folder() / name / ADAPTER_FILE).touch()
    desk = Desk(CODE, Settings(), project)
    uri = (project / "a.py").as_uri()
    desk.open(uri, CODE)
    for place, wanted in ((uri, name), (URI, "")):
        snapshot = desk.documents.snapshot(place)
        assert snapshot is not None
        context = desk.service.context(snapshot, 0)
        assert context is not None
        assert request_for(context, 0, 1, ()).adapter == wanted
