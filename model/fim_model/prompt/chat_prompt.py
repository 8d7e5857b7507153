"""Conversations as token ids, in the words of the checkpoint's own chat template.

A template is a Jinja program that came with a checkpoint. It runs in jinja2's sandbox, with the
functions that transformers gives it. What the roles say is text: a message that spells
`<|im_end|>` gets the tokens of these characters and cannot end its own turn.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from fim_model.errors import CheckpointError, RequestError
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import ChatMessage

if TYPE_CHECKING:
    from jinja2 import Template

MODELS_WITH_TEMPLATE = (
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "Qwen/Qwen2.5-Coder-1.5B-Instruct",
    "mistralai/Ministral-3-3B-Instruct-2512",
    "nvidia/Nemotron-Labs-Diffusion-3B",
)

_PRIVATE_USE = range(0xE000, 0xF8FF)
"""Code points without a meaning of their own."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template's source, and the texts of the tokens that it may name.

    ends: ids that end an answer, the first is the usual one.
    """

    source: str
    bos: str
    eos: str
    ends: tuple[int, ...]


class ChatPrompt:
    """Renders and tokenises conversations for one model."""

    def __init__(self, template: ChatTemplate, tokenizer: CodeTokenizer) -> None:
        """Raises CheckpointError for a template that is not valid, or without an end."""
        self.template, self.tokenizer = template, tokenizer
        if not template.ends:
            raise CheckpointError(
                "the checkpoint has a chat template, but no end-of-text token (eos_token_id in "
                "config.json or generation_config.json)"
            )

    def __call__(self, messages: Sequence[ChatMessage], opening: str = "") -> list[int]:
        """Ids whose continuation is the next answer, which begins with `opening`.

        Raises RequestError where the template refuses the messages.
        """
        said = opening + "".join(message.content for message in messages)
        hidden = next(chr(code) for code in _PRIVATE_USE if chr(code) not in said)
        hide = self.tokenizer.hide_marks
        spelled = [replace(message, content=hide(message.content, hidden)) for message in messages]
        text = self.render(spelled) + hide(opening, hidden)
        return self.tokenizer.encode_marked(text, hidden)

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The conversation as text, up to where the next answer begins. Raises RequestError."""
        from jinja2 import TemplateError

        try:
            return self._compiled.render(
                messages=[{"role": said.role, "content": said.content} for said in messages],
                add_generation_prompt=True,
                bos_token=self.template.bos,
                eos_token=self.template.eos,
            )
        except (TemplateError, TypeError, ValueError, ArithmeticError) as refused:
            raise RequestError(
                f"the model's chat template does not accept these messages: {_first_line(refused)}"
            ) from None

    @cached_property
    def _compiled(self) -> Template:
        try:
            from jinja2 import TemplateError
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError:
            raise RequestError(
                "chat templates need the module jinja2: pip install 'fim-server[local]'"
            ) from None
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        try:
            return environment.from_string(self.template.source)
        except TemplateError as wrong:
            raise RequestError(
                f"the model's chat template is not valid: {_first_line(wrong)}"
            ) from None


def no_template(name: str) -> RequestError:
    """The error for a model that cannot converse."""
    return RequestError(
        f"{name} has no chat template, so it completes code but cannot answer or follow "
        f"instructions; models that can are {', '.join(MODELS_WITH_TEMPLATE)}, or a GGUF file of "
        "an instruct model"
    )


def fills_only(name: str) -> RequestError:
    """The error for a model that is loaded to fill holes, whatever else it was trained on."""
    return RequestError(
        f"{name} reads text both ways at once; such a model fills holes here, but neither answers "
        f"nor follows instructions; models that do are {', '.join(MODELS_WITH_TEMPLATE)}"
    )


def _to_json(value: Any, indent: int | None = None) -> str:
    """Jinja's own filter escapes for HTML; templates expect plain JSON."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
