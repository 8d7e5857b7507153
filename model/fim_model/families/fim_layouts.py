"""FIM layouts by family: the markers, their order, and the end-of-middle token.

A layout is data; `prompt/fim_prompt.py` turns it into token ids. An architecture may have been
trained with several layouts (CodeLlama and DeepSeek-Coder are both `llama`): the tokenizer decides,
by the markers it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Slot(Enum):
    """A part of the prompt that is not a marker."""

    START = "begin-of-text"
    """The config's `bos_token_id`; in LEFT_TO_RIGHT what the tokenizer puts before every text."""
    FILE = "file name"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    HOLE = "hole"
    """Where the masks stand, in a layout that is read both ways at once."""


@dataclass(frozen=True, slots=True)
class FimLayout:
    """One way to ask for a middle.

    order: markers (text of a token) and slots as they follow each other; the middle comes next.
    end: the end-of-middle token; None takes the config's `eos_token_id`, which ends a middle in
    every layout. stops: tokens that end a middle too, where the tokenizer has them.
    file: the marker before a file's name, for a layout with Slot.FILE.
    verified: False where it is not documented that the model was trained with it.
    context: whether snippets of other files and recent edits have a place in it.
    expand: the token by which a mask asks to become two, for a model that finds the length of the
    hole itself; `end`, predicted for a mask, then deletes it.
    """

    name: str
    order: tuple[str | Slot, ...]
    end: str | None
    source: str
    stops: tuple[str, ...] = ()
    file: str | None = None
    verified: bool = True
    context: bool = False
    expand: str | None = None

    @property
    def joined(self) -> bool:
        """Whether the middle follows the prefix directly, without a marker in between."""
        return self.order[-1] is Slot.PREFIX

    @property
    def fills(self) -> bool:
        """Whether the text after the cursor has a place in it."""
        return Slot.SUFFIX in self.order

    @property
    def needed(self) -> tuple[str, ...]:
        """The tokens without which this layout cannot be used."""
        markers = [part for part in self.order if isinstance(part, str)]
        named = (self.file, *markers, self.end, self.expand)
        return tuple(dict.fromkeys(text for text in named if text is not None))

    def __str__(self) -> str:
        """The layout for display: `<s> [SUFFIX] suffix [PREFIX] prefix …`."""
        parts = [part if isinstance(part, str) else part.value for part in self.order]
        if Slot.HOLE in self.order:
            return " ".join(parts)
        return " ".join([*parts, "…", self.end or "end-of-text"])


OWN = FimLayout(
    name="fim-server",
    order=(Slot.FILE, "<|fim_suffix|>", Slot.SUFFIX, "<|fim_prefix|>", Slot.PREFIX,
           "<|fim_middle|>"),
    end="<|eom|>",
    file="<|file|>",
    source="this project's own training",
    context=True,
)  # fmt: skip

JOINED = FimLayout(
    name="fim-server joined",
    order=(Slot.FILE, "<|fim_suffix|>", Slot.SUFFIX, "<|fim_prefix|>", Slot.PREFIX),
    end="<|eom|>",
    file="<|file|>",
    source="this project's own training, on a pretrained base",
    context=True,
)

OWN_LAYOUTS = {layout.name: layout for layout in (OWN, JOINED)}
"""Layouts that this project trains with, by the `fim_layout` of a checkpoint's config."""

QWEN = FimLayout(
    name="Qwen2.5-Coder",
    order=("<|fim_prefix|>", Slot.PREFIX, "<|fim_suffix|>", Slot.SUFFIX, "<|fim_middle|>"),
    end="<|endoftext|>",
    stops=("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
           "<|im_end|>"),
    source="Qwen2.5-Coder's fill-in-the-middle example and its list of end tokens",
)  # fmt: skip

CODE_LLAMA = FimLayout(
    name="Code Llama",
    order=(Slot.START, "▁<PRE>", Slot.PREFIX, "▁<SUF>", Slot.SUFFIX, "▁<MID>"),
    end="▁<EOT>",
    source="infilling prompts of the Code Llama release (prefix-suffix-middle)",
)

DEEPSEEK = FimLayout(
    name="DeepSeek-Coder",
    order=(Slot.START, "<｜fim▁begin｜>", Slot.PREFIX, "<｜fim▁hole｜>", Slot.SUFFIX,
           "<｜fim▁end｜>"),
    end=None,
    source="DeepSeek-Coder's code insertion example",
)  # fmt: skip

CODESTRAL = FimLayout(
    name="Codestral",
    order=(Slot.START, "[SUFFIX]", Slot.SUFFIX, "[PREFIX]", Slot.PREFIX),
    end=None,
    source="mistral-common's FIM requests: suffix first, no middle marker",
)

# Nemotron-Labs-Diffusion and text-only Ministral-3 share Mistral's Tekken tokenizer, which names
# [PREFIX], [MIDDLE] and [SUFFIX] (ids 14, 15, 16). Whether these models were trained on them is
# not published. The choice: ask as Codestral is asked, end at the config's end-of-text token
# (Nemotron-Labs-Diffusion says 11) and at Tekken's own `</s>`.
TEKKEN = FimLayout(
    name="Tekken",
    order=CODESTRAL.order,
    end=None,
    stops=("</s>",),
    source="the names in Mistral's Tekken tokenizer",
    verified=False,
)

STARCODER = FimLayout(
    name="StarCoder",
    order=("<fim_prefix>", Slot.PREFIX, "<fim_suffix>", Slot.SUFFIX, "<fim_middle>"),
    end="<|endoftext|>",
    stops=("<fim_prefix>", "<fim_suffix>", "<fim_pad>", "<file_sep>"),
    source="StarCoder's fill-in-the-middle example",
)

DREAM_ON = FimLayout(
    name="DreamOn",
    order=("<|beginoftext|>", Slot.PREFIX, Slot.HOLE, Slot.SUFFIX, "<|endoftext|>"),
    end="<|endoftext|>",
    expand="<|expand|>",
    source="DreamOn's infilling example (arXiv 2602.01326)",
)

DREAM = FimLayout(
    name="Dream",
    order=DREAM_ON.order,
    end="<|endoftext|>",
    stops=("<|im_end|>", "<|dlm_pad|>"),
    source="DreamOn's evaluation of models whose hole has a fixed length",
)

OPEN_DCODER = FimLayout(
    name="Open-dCoder",
    order=(Slot.PREFIX, Slot.HOLE, Slot.SUFFIX),
    end="<|endoftext|>",
    stops=("<|im_end|>",),
    source="Open-dLLM's evaluation of infilling",
)

CANVAS = FimLayout(
    name="masks between prefix and suffix",
    order=(Slot.START, Slot.PREFIX, Slot.HOLE, Slot.SUFFIX),
    end=None,
    source="none: any text with masks is what such a model was trained on",
    verified=False,
)

LEFT_TO_RIGHT = FimLayout(
    name="left to right",
    order=(Slot.START, Slot.PREFIX),
    end=None,
    source="none: the tokenizer has no tokens to ask for a middle",
    verified=False,
)
"""The layout of a model that was not trained to fill in the middle: the prefix alone."""


def named_layout(prefix: str, suffix: str, middle: str) -> FimLayout:
    """The layout of a file that names its markers itself (GGUF), as llama.cpp asks for a middle."""
    return FimLayout(
        name="named by the file",
        order=(Slot.START, prefix, Slot.PREFIX, suffix, Slot.SUFFIX, middle),
        end=None,
        source="the file's own metadata, in llama.cpp's order",
    )
