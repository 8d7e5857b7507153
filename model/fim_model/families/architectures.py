"""One row per architecture: its checkpoint format, FIM layouts and decoding modes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fim_model.families.fim_layouts import (
    CODE_LLAMA,
    CODESTRAL,
    DEEPSEEK,
    OWN,
    QWEN,
    STARCODER,
    TEKKEN,
    FimLayout,
)

CAUSAL_MODES = ("adaptive", "lookup", "ar")
"""Modes of every causal model, the best first."""

BLOCK_MODES = (
    "adaptive", "self_speculation", "quadratic_speculation", "diffusion", "native", "lookup", "ar",
)  # fmt: skip
"""Modes of a model that also denoises blocks (it has a mask token), the best first."""


@dataclass(frozen=True, slots=True)
class Family:
    """A `model_type` of `config.json`, all of them shaped like Llama.

    layouts: how its checkpoints may ask for a middle, the first that the tokenizer can spell;
    with none of them, the model completes left to right. Many code models are `llama` by shape.
    mask: whether `mask_token_id` is "required", "optional" (without it the model is causal only)
    or "none". stored_names: prefixes of tensor names in the file, and what they are called here.
    absent: values that the family's own code takes for fields which older configs leave out.
    query_bias, output_bias, mlp_bias: whether these projections have one; a text names the field
    of the config that says so.

    A family that decodes by other means, as full-attention diffusion (Dream) does, is a row with
    `modes` of its own beside the modules of those modes.
    """

    model_type: str
    layouts: tuple[FimLayout, ...]
    mask: str = "none"
    modes: tuple[str, ...] = CAUSAL_MODES
    stored_names: tuple[tuple[str, str], ...] = ()
    absent: Mapping[str, Any] = field(default_factory=dict)
    query_bias: bool | str = False
    output_bias: bool | str = False
    mlp_bias: bool | str = False
    note: str = ""

    def local_name(self, stored: str) -> str:
        """The name in this package of a tensor in the file."""
        for theirs, ours in self.stored_names:
            if stored.startswith(theirs):
                return ours + stored.removeprefix(theirs)
        return stored

    def stored_name(self, local: str) -> str:
        """The inverse of `local_name`."""
        for theirs, ours in self.stored_names:
            if local.startswith(ours):
                return theirs + local.removeprefix(ours)
        return local


_OLD_CONFIGS: Mapping[str, Any] = {"rope_theta": 10_000.0, "tie_word_embeddings": False}

FAMILIES: Mapping[str, Family] = {
    family.model_type: family
    for family in (
        Family("ministral3", (OWN, TEKKEN), mask="optional", modes=BLOCK_MODES),
        Family(
            "nemotron_labs_diffusion",
            (TEKKEN,),
            mask="required",
            modes=BLOCK_MODES,
            stored_names=(("encoder.", "model."), ("diffusion_head.", "lm_head.")),
            note="in-prompt infilling is unverified for this family",
        ),
        Family("mistral", (CODESTRAL,), absent={**_OLD_CONFIGS, "sliding_window": 4096}),
        Family(
            "llama",
            (CODE_LLAMA, DEEPSEEK, QWEN, STARCODER, CODESTRAL),
            absent=_OLD_CONFIGS,
            query_bias="attention_bias",
            output_bias="attention_bias",
            mlp_bias="mlp_bias",
        ),
        Family("qwen2", (QWEN,), absent=_OLD_CONFIGS, query_bias=True),
    )
}
