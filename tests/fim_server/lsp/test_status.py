"""The status says when a document is completed with what was learned from its workspace."""

from __future__ import annotations

from typing import Any

from fim_server.lsp.status import StatusReporter


def test_an_adapter_is_said_only_where_there_is_one() -> None:
    sent: list[dict[str, Any]] = []
    reporter = StatusReporter(lambda method, status: sent.append(status))
    reporter.announced = True
    reporter.ready()
    for adapted in (True, True, False):
        reporter.asked()
        reporter.answered(None, "", adapted=adapted)
    assert sent[0] == {"busy": False, "message": "", "kind": "Normal", "why": ""}
    assert [status.get("adapter", False) for status in sent if not status["busy"]] == [
        False, True, True, False,
    ]  # fmt: skip
    assert "adapter" not in sent[-1]
