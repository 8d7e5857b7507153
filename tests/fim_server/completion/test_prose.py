"""Comments and prose need more confidence than code while typing, and nothing more on request."""

from __future__ import annotations

import pytest
from lsprotocol import types as lsp
from scripted import ScriptedBackend

from fim_server.completion.completer import Completer
from fim_server.completion.hole import hole_at, is_prose
from fim_server.completion.silence import Silence
from fim_server.documents.documents import DocumentStore, Encoding, Snapshot, split_lines
from fim_server.settings.settings import Settings

AUTOMATIC = lsp.InlineCompletionTriggerKind.Automatic
INVOKED = lsp.InlineCompletionTriggerKind.Invoked


def prose(text: str, language: str) -> bool:
    before, _, after = text.partition("|")
    snapshot = Snapshot("file:///a", language, 0, 0, Encoding.UTF32, split_lines(before + after))
    lines = before.split("\n")
    place = lsp.Position(len(lines) - 1, len(lines[-1]))
    return is_prose(hole_at(snapshot, place, 5000, 5000), language)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("# The |\nx = 1\n", "python"),
        ("x = 1  # because |\n", "python"),
        ("// The |\nfunc main() {}\n", "go"),
        ("/* one\n * two |\n */\nint x;\n", "c"),
        ("The |", "markdown"),
        ("Fix the |", "git-commit"),
        ("x = |", "plaintext"),
    ],
)
def test_comments_and_languages_of_sentences_are_prose(text: str, language: str) -> None:
    assert prose(text, language)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("x = |\n", "python"),
        ("# done\nx = |\n", "python"),
        ('print("a |")\n', "python"),
        ("url = 'http://|'\n", "python"),
        ("x := |\n", "go"),
        ("SELECT |", "sql"),
        ("/* done */ int x = |;\n", "c"),
    ],
)
def test_code_is_not(text: str, language: str) -> None:
    assert not prose(text, language)


@pytest.mark.parametrize(
    ("settings", "trigger", "silent"),
    [
        ({}, AUTOMATIC, False),  # the script's confidence is 0.5, the default
        ({"prose_confidence": 0.51}, AUTOMATIC, True),
        ({"prose_confidence": 0.51}, INVOKED, False),
        ({"prose_confidence": 0.51, "min_confidence": 0.1}, AUTOMATIC, False),
    ],
)
async def test_the_setting_applies_while_typing_unless_min_confidence_is_set(
    settings: dict[str, float], trigger: lsp.InlineCompletionTriggerKind, silent: bool
) -> None:
    documents = DocumentStore()
    completer = Completer(documents, ScriptedBackend(), Settings(**settings))  # type: ignore[arg-type]
    documents.open("file:///a.py", "python", 1, "#say hello")
    await completer.start(lambda what, share: None)
    answer = await completer.complete("file:///a.py", lsp.Position(0, 99), trigger)
    assert (answer.silence is Silence.LOW_CONFIDENCE) == silent
