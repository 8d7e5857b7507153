"""What a hunk changed in the signatures of functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fim_server.documents.alignment import opcodes
from fim_server.edits.history import Hunk
from fim_server.edits.rules.page import Page
from fim_server.syntax.signatures import Parameter, Signature


@dataclass(frozen=True, slots=True)
class SignatureChange:
    """Parameters that were added, removed or renamed. An index counts the parameters before it, in
    the signature now for `added`, in the old one for `removed`."""

    before: Signature
    now: Signature
    added: tuple[tuple[int, Parameter], ...] = ()
    removed: tuple[tuple[int, Parameter], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, before: Signature, now: Signature) -> SignatureChange:
        """The change between two signatures; parameters that were only moved are left out."""
        old = [parameter.name for parameter in before.parameters]
        new = [parameter.name for parameter in now.parameters]
        added, removed, renamed = [], [], []
        for tag, low, high, from_, to in opcodes(old, new):
            if tag == "replace" and high - low == to - from_:
                renamed += list(zip(old[low:high], new[from_:to], strict=True))
            elif tag != "equal":
                added += [(at, now.parameters[at]) for at in range(from_, to)]
                removed += [(at, before.parameters[at]) for at in range(low, high)]
        kept = {*old} & {*new}
        return cls(
            before,
            now,
            tuple((at, parameter) for at, parameter in added if parameter.name not in kept),
            tuple((at, parameter) for at, parameter in removed if parameter.name not in kept),
            tuple(pair for pair in renamed if not kept & {*pair}),
        )


def signature_changes(page: Page, hunk: Hunk) -> Iterator[SignatureChange]:
    """The signatures that a hunk of the page changed, each once."""
    if not page.has(hunk):
        return
    lines = range(hunk.first, max(hunk.end, hunk.first + 1))
    now = {found.name: found for line in lines if (found := page.signature_at(line)) is not None}
    source = page.before(hunk) if now else None
    if source is None:
        return
    rows = range(hunk.first - page.first, hunk.first - page.first + max(len(hunk.old), 1))
    old = {found.name: found for row in rows if (found := source.signature_at(row)) is not None}
    for name, signature in now.items():
        if name in old and old[name].parameters != signature.parameters:
            yield SignatureChange.of(old[name], signature)
