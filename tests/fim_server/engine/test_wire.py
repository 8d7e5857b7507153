"""The native request survives conversion to JSON and back; errors name the field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fim_model.copies import Copied
from fim_model.requests import (
    Completion,
    CompletionItem,
    CompletionRequest,
    CompletionStats,
    Gate,
    Snippet,
)

from fim_server.engine.wire import (
    WireError,
    completion_from_json,
    completion_to_json,
    request_from_json,
    request_to_json,
)

COPY = {"text": "x", "matched": 1, "behind": 2, "distance": 3, "places": 1, "elsewhere": False}


@pytest.mark.parametrize(
    "request_",
    [
        CompletionRequest("a", "b"),
        CompletionRequest("a", "b", max_lines=1, snippets=(Snippet("p", "t"),)),
        CompletionRequest(
            "a", "b", copies=(Copied("x", 1, 2, 3), Copied("y", 1, 2, 0, 5, elsewhere=True))
        ),
    ],
)
def test_a_request_survives_the_wire(request_: CompletionRequest) -> None:
    assert request_from_json(json.loads(json.dumps(request_to_json(request_)))) == request_


@pytest.mark.parametrize(
    ("copied", "says"),
    [
        ("x", "'copies' must be an object"),
        ({"text": "x"}, "'matched' is missing"),
        (COPY | {"distance": "far"}, "'distance' must be a whole number"),
        (COPY | {"matched": -1}, "'matched' must be 0 to"),
        (COPY | {"elsewhere": 1}, "'elsewhere' must be true or false"),
        (COPY | {"more": 1}, "'more' is unknown"),
    ],
)
def test_an_invalid_copy_is_named(copied: Any, says: str) -> None:
    with pytest.raises(WireError, match=says):
        request_from_json({"prefix": "a", "suffix": "b", "copies": [copied]})


@pytest.mark.parametrize("gate", [None, Gate(-0.5, 1.25, 0.3, {"breaks": -3.0, "length": 0.5})])
def test_a_completion_survives_the_wire(gate: Gate | None) -> None:
    """All but the tokens' log-probabilities, which stay with the model."""
    stats = CompletionStats("ar", 3, 6, 2.0, 10, 0, 1.0)
    item = CompletionItem("x", 0.25, "eom", (-0.5,))
    sent = Completion([item], stats, 0.4, gate=gate, adapter="a" * 16)
    received = completion_from_json(json.loads(json.dumps(completion_to_json(sent))))
    assert received == replace(sent, items=[replace(item, nats=())])
