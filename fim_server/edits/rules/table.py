"""The table of rules: what may follow from an edit, each rule a pure function in its own file.

To add a rule, write `rule(page, hunk) -> drafts` in a file here and add a row to RULES. A rule
reads the page and one hunk, of this or another document, and yields drafts for lines of the page.
It decides only what may follow; the model judges whether it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from fim_server.edits.history import Hunk
from fim_server.edits.rules.call_arguments import call_arguments
from fim_server.edits.rules.call_sites import call_sites
from fim_server.edits.rules.docstrings import docstrings
from fim_server.edits.rules.drafts import Draft, LineEdit
from fim_server.edits.rules.missing_imports import missing_imports
from fim_server.edits.rules.needless_imports import needless_imports
from fim_server.edits.rules.page import Page
from fim_server.edits.rules.renames import renames
from fim_server.edits.rules.replacements import replacements
from fim_server.edits.rules.similar_lines import similar_lines
from fim_server.edits.rules.typos import typos

FADING = 0.7
"""The factor by which drafts weigh less with each more recent hunk."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table.

    fades: drafts of older hunks weigh less. repairs: drafts change the edited lines themselves;
    those of other rules leave them alone.
    """

    drafts: Callable[[Page, Hunk], Iterable[Draft]]
    fades: bool = True
    repairs: bool = False


RULES = (
    Rule(renames),
    Rule(replacements),
    Rule(call_arguments),
    Rule(call_sites),
    Rule(docstrings),
    Rule(similar_lines),
    Rule(missing_imports),
    Rule(needless_imports, fades=False),  # an unused import stays unused
    Rule(typos, fades=False, repairs=True),
)


def drafts_of(page: Page, *, repairs: bool) -> list[Draft]:
    """The drafts of all rules with this `repairs` for all hunks of a page, those of the latest hunk
    first; of drafts with the same edits the first."""
    found: dict[tuple[LineEdit, ...], Draft] = {}
    for age, hunk in enumerate(reversed(page.hunks)):
        for rule in RULES:
            if rule.repairs is not repairs:
                continue
            for draft in rule.drafts(page, hunk):
                edits = tuple(
                    sorted(
                        edit
                        for edit in draft.edits
                        if rule.repairs or edit.line not in page.edited_lines
                    )
                )
                if edits and edits not in found:
                    weight = draft.weight * FADING**age if rule.fades else draft.weight
                    found[edits] = replace(draft, edits=edits, weight=weight)
    return list(found.values())
