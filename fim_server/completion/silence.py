"""Why nothing was shown: every empty answer has exactly one of these reasons."""

from __future__ import annotations

from enum import StrEnum


class Silence(StrEnum):
    """The name appears in the log, beside the time it took; no text of the user ever does."""

    LOADING = "loading"
    """The model is not ready yet."""
    NO_MODEL = "no_model"
    """The model could not be loaded; the client was told why."""
    BAD_PARAMS = "bad_params"
    """The request does not have the protocol's form."""
    UNKNOWN_DOCUMENT = "unknown_document"
    """The document was never opened, is closed, or is out of step with the client's."""
    STALE = "stale"
    """The document changed after the request, or is not the version the request names."""
    SUPERSEDED = "superseded"
    """A newer request for the same document took its place."""
    CANCELLED = "cancelled"
    """The client took the request back, or the server is shutting down."""
    BACKEND_ERROR = "backend_error"
    """The backend failed on this request; the log says how."""
    NOTHING_WRITTEN = "nothing_written"
    """The model left the hole empty."""
    NOTHING_LEFT_AFTER_TRIMMING = "nothing_left_after_trimming"
    """All that was written is around the cursor already, or is blank."""
    INTERNAL_ERROR = "internal_error"
    """A mistake of this program; the log says where."""
