"""A request in the terms of decoding: its mode, its prompt, and when its hole is done."""

from __future__ import annotations

from dataclasses import dataclass

from fim_model.decoding.auto import ModeChoice, resolve_mode
from fim_model.decoding.core import StopRule
from fim_model.decoding.modes import ModeOptions
from fim_model.decoding.prepared_hole import PreparedHole
from fim_model.errors import RequestError
from fim_model.network.config import ModelConfig
from fim_model.prompt.chat_prompt import ChatPrompt, fills_only, no_template
from fim_model.prompt.fim_prompt import PROMPT_OVERHEAD, FimPrompt, PromptBudget
from fim_model.prompt.line_limit import line_limit
from fim_model.prompt.suffix_head import reaches_suffix
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import AUTO, NATIVE, ChatRequest, CompletionRequest


@dataclass(frozen=True, slots=True)
class Preparation:
    """Prepares the requests to one model.

    window: the most tokens of a prompt. chat: how the model is asked in a conversation, None if it
    cannot be. name: of the model, for messages.
    """

    config: ModelConfig
    tokenizer: CodeTokenizer
    fim: FimPrompt
    window: int
    options: ModeOptions
    auto: ModeChoice
    chat: ChatPrompt | None
    name: str

    def hole(self, request: CompletionRequest) -> PreparedHole:
        """Everything up to the prompt. Raises ValueError for a mode that the model lacks."""
        asked = request.mode
        if asked == AUTO and not self.fim.layout.fills and NATIVE in self.config.modes:
            asked = NATIVE
        mode, options = resolve_mode(asked, self.config, self.options, self.auto)
        behind = 0
        if mode == NATIVE:
            prompt, typed = self.fim.plain(request.prefix, self.window // 2), ""
        else:
            settled, typed = self.fim.split(request.prefix)
            prompt, behind = self._fim_prompt(request, settled)
        stop = StopRule(
            self.fim.eom,
            request.max_tokens,
            line_limit(self.tokenizer, request.max_lines, len(typed)),
            self.fim.stops,
            reaches_suffix(self.tokenizer, request.suffix, len(typed)),
        )
        return PreparedHole(request, mode, options, prompt, typed, stop, behind)

    def answer(self, request: ChatRequest) -> PreparedHole:
        """Everything up to the prompt. Raises RequestError, ValueError for a mode it lacks."""
        chat = self.conversation()
        mode, options = resolve_mode(request.mode, self.config, self.options, self.auto)
        if mode == NATIVE:  # what `auto` may mean; it fills holes only
            mode, options = resolve_mode(self.config.modes[0], self.config, options, self.auto)
        prompt = chat(request.messages, request.opening)
        room = self.window - len(prompt)
        if room < 1:
            raise RequestError(
                f"the conversation has {len(prompt)} tokens, and this model's window has "
                f"{self.window}; begin a new one, or leave out earlier messages"
            )
        end, *others = chat.template.ends
        stop = StopRule(end, min(request.max_tokens, room), stops=frozenset(others))
        return PreparedHole(request, mode, options, prompt, "", stop)

    def _fim_prompt(self, request: CompletionRequest, settled: str) -> tuple[list[int], int]:
        """The ids of snippets, suffix and the prefix up to the last settled token border; how many
        of them stand behind the hole.

        With the middle they fit the model's window, but half of the window is theirs in any case.
        """
        total = max(self.window - PROMPT_OVERHEAD - request.max_tokens, self.window // 2)
        pieces = [(snippet.path, snippet.text) for snippet in request.snippets]
        snippets = self.fim.snippets(pieces, total // 4)
        rest = total - len(snippets)
        budget = PromptBudget(rest, suffix=total // 4, step=max(1, self.window // 8))
        before, after = self.fim.sides(settled, request.suffix, request.path, budget)
        return [*snippets, *before, *after], len(after)

    def conversation(self) -> ChatPrompt:
        """How the model is asked in a conversation. Raises RequestError if it cannot be."""
        if self.config.family.full_attention:
            raise fills_only(self.name)
        if self.chat is None:
            raise no_template(self.name)
        return self.chat
