"""Edits by instruction: when they can be given up."""

from __future__ import annotations

from typing import Any

import pytest
from fim_model.decoding.instructed_edit import InstructedEditor, instruction_session
from fim_model.decoding.prompt_cache import PIECE, PromptCache, SessionStore
from fim_model.errors import Cancelled
from fim_model.prompt.chat_prompt import ChatPrompt, ChatTemplate
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import InstructionRequest
from torch import Tensor

TEMPLATE = "{% for message in messages %}{{ message.content }}\n{% endfor %}"


def test_reading_the_conversation_can_be_given_up(tiny: Any, tiny_tokenizer: CodeTokenizer) -> None:
    """The stop comes after the first piece of a long text: no second one is read."""
    model = tiny.model(2, vocab_size=tiny_tokenizer.vocab_size, max_position_embeddings=2048)
    forward_parts, read = model.forward_parts, list[int]()

    def counted(parts: Any, lora: Any) -> list[Tensor]:
        read.append(sum(part.width for part in parts))
        return forward_parts(parts, lora)

    model.forward_parts = counted
    sessions = SessionStore(lambda: PromptCache(model, capacity=2048))
    editor = InstructedEditor(model, tiny_tokenizer, sessions, window=2048)
    template = ChatTemplate(TEMPLATE, "", "", ends=(tiny_tokenizer.special.eom,))
    request = InstructionRequest("rename a", "a = 1\n" * 60, "a = 2", "\n", session="file:///a")
    with pytest.raises(Cancelled):
        editor.edit(request, ChatPrompt(template, tiny_tokenizer), should_stop=lambda: bool(read))
    assert len(read) == 1
    assert 0 < len(sessions.take(instruction_session("file:///a")).tokens) == read[0] <= PIECE
