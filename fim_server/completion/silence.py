"""Why nothing was shown: every empty answer has exactly one of these reasons."""

from __future__ import annotations

from enum import StrEnum


class Silence(StrEnum):
    """The reason for an empty answer. Its name is logged; the user's text never is."""

    LOADING = "loading"
    """The model is not ready yet."""
    NO_MODEL = "no_model"
    """The model could not be loaded; the client was told why."""
    BAD_PARAMS = "bad_params"
    """The request is malformed."""
    UNKNOWN_DOCUMENT = "unknown_document"
    """The document is not open, or a change of it was lost."""
    LANGUAGE_DISABLED = "language_disabled"
    """The setting `disabledLanguages` names the document's language."""
    EXCLUDED = "excluded"
    """The model must not see the document; the log names the rule."""
    NOTHING_TO_GO_ON = "nothing_to_go_on"
    """The document has no word yet: a model would recite the beginning of another file."""
    SELECTED_ITEM_ELSEWHERE = "selected_item_elsewhere"
    """The item selected in the editor's list is not at the cursor."""
    STALE = "stale"
    """The document changed after the request, or is not the version the request names."""
    SUPERSEDED = "superseded"
    """A newer request for the same document replaced this one."""
    CANCELLED = "cancelled"
    """The client cancelled the request, or the server is shutting down."""
    BACKEND_ERROR = "backend_error"
    """The backend failed; the log says how."""
    NOTHING_WRITTEN = "nothing_written"
    """The backend returned no item."""
    BLANK = "blank"
    """The model wrote nothing, or white space."""
    LOW_CONFIDENCE = "low_confidence"
    """The confidence is below the threshold: `minConfidence`, or what the model advises."""
    WOULD_NOT_PARSE = "would_not_parse"
    """The confidence is below the threshold because the document would parse worse."""
    UNKNOWN_NAME = "unknown_name"
    """The confidence is below the threshold because of names that stand nowhere else."""
    OUT_OF_SCOPE = "out_of_scope"
    """The answer begins outside the cursor's block."""
    NOTHING_LEFT_AFTER_TRIMMING = "nothing_left_after_trimming"
    """All of the answer is around the cursor already."""
    UNBALANCED = "unbalanced"
    """The answer would break the brackets or quotes of the cursor's line."""
    MID_WORD = "mid_word"
    """The cursor is inside a word, and the answer does not complete it."""
    REPEATS_NEXT_LINES = "repeats_next_lines"
    """The completed line only repeats the next ones."""
    REPEATS_PREVIOUS_LINES = "repeats_previous_lines"
    """The completed line only repeats the previous ones."""
    REPEATS_ITSELF = "repeats_itself"
    """The answer says the same line three times in a row."""
    LICENCE_TEXT = "licence_text"
    """The answer is a licence or copyright notice, and the document has none."""
    INTERNAL_ERROR = "internal_error"
    """A bug in this program; the log says where."""

    @property
    def explained(self) -> str:
        """The reason in plain words, to follow "nothing was shown: "."""
        return _EXPLAINED[self]


DOUBTS = frozenset([Silence.LOW_CONFIDENCE, Silence.WOULD_NOT_PARSE, Silence.UNKNOWN_NAME])
"""Reasons for which an explicit request would still see the answer."""

_EXPLAINED = {
    Silence.LOADING: "the model is still being loaded",
    Silence.NO_MODEL: "the model could not be loaded; the log says why",
    Silence.BAD_PARAMS: "the editor's request is malformed; please report this",
    Silence.UNKNOWN_DOCUMENT: "the server has lost this document; close it and open it again",
    Silence.LANGUAGE_DISABLED: "suggestions are off for this language (setting disabledLanguages)",
    Silence.EXCLUDED: "the model may not see this document",
    Silence.NOTHING_TO_GO_ON: "the document is empty; type the first line",
    Silence.SELECTED_ITEM_ELSEWHERE: "the item selected in the list is not at the cursor",
    Silence.STALE: "the text changed before the answer came; pause at the cursor",
    Silence.SUPERSEDED: "a newer request took its place",
    Silence.CANCELLED: "the editor cancelled the request, as it does while you type",
    Silence.BACKEND_ERROR: "the model failed on this request; the log says how",
    Silence.NOTHING_WRITTEN: "the model gave no answer",
    Silence.BLANK: "the model has nothing to put between the text before and after the cursor",
    Silence.LOW_CONFIDENCE: "the model is not sure enough (settings minConfidence, "
    "proseConfidence); ask explicitly to see its guesses",
    Silence.WOULD_NOT_PARSE: "the line would not parse",
    Silence.UNKNOWN_NAME: "the answer uses a name that is not known here",
    Silence.OUT_OF_SCOPE: "what the model wrote belongs after the end of this block",
    Silence.NOTHING_LEFT_AFTER_TRIMMING: "all that the model wrote is right of the cursor already",
    Silence.UNBALANCED: "the answer would break the brackets or quotes of this line",
    Silence.MID_WORD: "the cursor is inside a word that the answer does not complete",
    Silence.REPEATS_NEXT_LINES: "the answer only repeats the next lines",
    Silence.REPEATS_PREVIOUS_LINES: "the answer only repeats the previous lines",
    Silence.REPEATS_ITSELF: "the model only repeated itself",
    Silence.LICENCE_TEXT: "the model recited a licence notice",
    Silence.INTERNAL_ERROR: "of an error in the server; the log says where",
}
