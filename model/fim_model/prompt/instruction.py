"""The conversation that asks a model to change a region as an instruction says."""

from __future__ import annotations

from fim_model.requests import ChatMessage, InstructionRequest

FENCE = "```"

_SYSTEM = (
    "You edit source code. Apply the instruction to the selected lines. Answer with the new "
    "selected lines alone, in one code block. Keep what the instruction does not concern exactly "
    "as it is, indentation included."
)


def conversation(request: InstructionRequest, context: int) -> tuple[tuple[ChatMessage, ...], str]:
    """Messages, and how the answer must begin: with an opened code fence.

    context: the most characters of the text around the region that are shown, in whole lines.
    """
    code = f"{FENCE}{request.language}\n"
    before = _last_lines(request.prefix, context * 2 // 3)
    after = _first_lines(request.suffix, context - len(before))
    parts = []
    if request.path:
        parts.append(f"File: {request.path}")
    if before.strip():
        parts.append(f"Lines before the selection:\n{code}{before.rstrip(chr(10))}\n{FENCE}")
    if after.strip():
        parts.append(f"Lines after the selection:\n{code}{after.strip(chr(10))}\n{FENCE}")
    parts.append(f"Selected lines:\n{code}{request.old}\n{FENCE}")
    parts.append(f"Instruction: {request.instruction.strip()}")
    messages = (ChatMessage("system", _SYSTEM), ChatMessage("user", "\n\n".join(parts)))
    return messages, code


def _last_lines(text: str, count: int) -> str:
    if len(text) <= count:
        return text
    kept = text[len(text) - count :] if count else ""
    return kept.partition("\n")[2]


def _first_lines(text: str, count: int) -> str:
    if len(text) <= count:
        return text
    return text[:count].rpartition("\n")[0]
