"""One row per architecture: its checkpoint format, FIM layouts and decoding modes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fim_model.families.fim_layouts import (
    CANVAS,
    CODE_LLAMA,
    CODESTRAL,
    DEEPSEEK,
    DREAM,
    DREAM_ON,
    OPEN_DCODER,
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

CANVAS_MODES = ("diffusion",)
"""Modes of a model that reads prefix, masks and suffix both ways at once (`full_attention`)."""


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

    config_names: fields of the config under other names, theirs first. needs: values that fields
    must have, and `absent_or_false` those that must not be set: what else the family's own code
    can do is not done here. layer_names: what follows `model.layers.N.`, theirs first.
    longest: most tokens of a text that the model was trained on, where its config allows more.

    full_attention: every token sees every other, so that nothing read before can be kept.
    shifted: row i of a forward over masks predicts token i + 1, as in the causal model it was made
    from; otherwise token i. rule: which masks a forward reveals (`decoding/commit_rules.py`).
    first_masks: how many masks stand for a hole whose length the model finds itself.
    masked: the row of a checkpoint whose tokenizer names a mask token, "" if that changes nothing.
    models: published checkpoints of this row. tested: on what this row was run.
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
    config_names: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)
    absent_or_false: tuple[str, ...] = ()
    layer_names: tuple[tuple[str, str], ...] = ()
    longest: int | None = None
    full_attention: bool = False
    shifted: bool = False
    rule: str = "confidence:0.9"
    first_masks: int = 0
    masked: str = ""
    models: tuple[str, ...] = ()
    tested: str = "tiny random checkpoints in this layout; never run on published weights"
    note: str = ""

    def local_name(self, stored: str) -> str:
        """The name in this package of a tensor in the file."""
        for theirs, ours in self.stored_names:
            if stored.startswith(theirs):
                return self._in_layer(ours + stored.removeprefix(theirs), self.layer_names)
        return stored

    def stored_name(self, local: str) -> str:
        """The inverse of `local_name`."""
        local = self._in_layer(local, [(ours, theirs) for theirs, ours in self.layer_names])
        for theirs, ours in self.stored_names:
            if local.startswith(ours):
                return theirs + local.removeprefix(ours)
        return local

    @staticmethod
    def _in_layer(name: str, renamed: Sequence[tuple[str, str]]) -> str:
        """A tensor's name with the part behind `model.layers.N.` renamed."""
        start, layers, rest = name.partition("model.layers.")
        number, _, module = rest.partition(".")
        for old, new in renamed:
            if layers and not start and module.startswith(old + "."):
                return f"{layers}{number}.{new}{module.removeprefix(old)}"
        return name


ENTROPY_RULE = "entropy:0.1"
"""Of EB-Sampler (arXiv 2505.24857), which measured it on Dream and LLaDA; `entropy:0` reveals one
mask in each forward, the surest, as the released evaluations do."""

_OLD_CONFIGS: Mapping[str, Any] = {"rope_theta": 10_000.0, "tie_word_embeddings": False}

FAMILIES: Mapping[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            "ministral3",
            (OWN, TEKKEN),
            mask="optional",
            modes=BLOCK_MODES,
            tested="this project's own models; Ministral-3 itself was never run",
        ),
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
        Family(
            "qwen2", (QWEN,), absent=_OLD_CONFIGS, query_bias=True, masked="qwen2, masked diffusion"
        ),
        Family(
            "qwen2, masked diffusion",
            (OPEN_DCODER, CANVAS),
            mask="required",
            modes=CANVAS_MODES,
            absent=_OLD_CONFIGS,
            query_bias=True,
            full_attention=True,
            shifted=True,
            rule=ENTROPY_RULE,
            models=("fredzzp/open-dcoder-0.5B",),
        ),
        Family(
            "Dream",
            (DREAM_ON, DREAM, CANVAS),
            mask="required",
            modes=CANVAS_MODES,
            absent={**_OLD_CONFIGS, "rms_norm_eps": 1e-6, "mask_token_id": 151_666},
            query_bias=True,
            absent_or_false=("use_mrope", "use_sliding_window"),
            longest=2048,
            full_attention=True,
            shifted=True,
            rule=ENTROPY_RULE,
            first_masks=16,
            models=(
                "Dream-org/DreamOn-v0-7B",
                "Dream-org/Dream-Coder-v0-Base-7B",
                "Dream-org/Dream-Coder-v0-Instruct-7B",
                "Dream-org/Dream-v0-Base-7B",
                "apple/DiffuCoder-7B-Base",
                "apple/DiffuCoder-7B-cpGRPO",
            ),
        ),
        Family(
            "llada",
            (CANVAS,),
            mask="required",
            modes=CANVAS_MODES,
            stored_names=(
                ("model.transformer.blocks.", "model.layers."),
                ("model.transformer.wte.", "model.embed_tokens."),
                ("model.transformer.ln_f.", "model.norm."),
                ("model.transformer.ff_out.", "lm_head."),
            ),
            layer_names=(
                ("attn_norm", "input_layernorm"),
                ("q_proj", "self_attn.q_proj"),
                ("k_proj", "self_attn.k_proj"),
                ("v_proj", "self_attn.v_proj"),
                ("attn_out", "self_attn.o_proj"),
                ("ff_norm", "post_attention_layernorm"),
                ("ff_proj", "mlp.gate_proj"),
                ("up_proj", "mlp.up_proj"),
                ("ff_out", "mlp.down_proj"),
            ),
            config_names={
                "d_model": "hidden_size",
                "n_layers": "num_hidden_layers",
                "n_heads": "num_attention_heads",
                "n_kv_heads": "num_key_value_heads",
                "mlp_hidden_size": "intermediate_size",
                "max_sequence_length": "max_position_embeddings",
                "weight_tying": "tie_word_embeddings",
                "embedding_size": "vocab_size",
            },
            absent={"rope_theta": 10_000.0, "tie_word_embeddings": True, "rms_norm_eps": 1e-5},
            needs={
                "rope": True,
                "activation_type": "silu",
                "block_type": "llama",
                "layer_norm_type": "rms",
            },
            absent_or_false=(
                "alibi",
                "attention_layer_norm",
                "bias_for_layer_norm",
                "include_bias",
                "input_emb_norm",
                "multi_query_attention",
                "scale_logits",
            ),
            query_bias="include_qkv_bias",
            full_attention=True,
            rule=ENTROPY_RULE,
            models=("GSAI-ML/LLaDA-8B-Base", "GSAI-ML/LLaDA-8B-Instruct", "GSAI-ML/LLaDA-1.5"),
        ),
    )
}

UNLOADABLE: Mapping[str, str] = {
    "sdar": "normalises queries and keys by head, and reads its prompt in blocks both ways",
    "sdar_moe": "is a mixture of experts with normalised queries and keys",
    "Fast_dLLM_Qwen": "reads its prompt in blocks of 32 both ways and fills no holes",
    "llada_moe": "is a mixture of experts",
    "llada2_moe": "is a mixture of experts",
}
"""Diffusion families of known layout that are not loaded, and why: what follows "this family"."""
