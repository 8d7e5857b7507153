"""Tiny random checkpoints of models that read both ways at once, in exactly the published layouts.

The weights are those of transformers' Qwen2 or Llama, whose forward without a causal mask is the
oracle. Nothing here imports the code under test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from checkpoints import random_weights, write_shards
from tokenizers import pre_tokenizers
from torch import Tensor, nn

DREAM_CONFIG: dict[str, Any] = {
    "architectures": ["DreamModel"],
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_dream.DreamConfig",
        "AutoModel": "modeling_dream.DreamModel",
    },
    "eos_token_id": 262,
    "bos_token_id": 262,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "mask_token_id": 266,
    "max_position_embeddings": 131072,
    "max_window_layers": 28,
    "model_type": "Dream",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 262,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.46.2",
    "use_cache": True,
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": 288,
}
"""Dream's 7B config in miniature; its vocabulary is the bytes, six merges and the added tokens."""

LLADA_CONFIG: dict[str, Any] = {
    "activation_type": "silu",
    "alibi": False,
    "alibi_bias_max": 8.0,
    "architectures": ["LLaDAModelLM"],
    "attention_dropout": 0.0,
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": True,
    "auto_map": {
        "AutoConfig": "configuration_llada.LLaDAConfig",
        "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM",
        "AutoModel": "modeling_llada.LLaDAModelLM",
    },
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": 32,
    "embedding_dropout": 0.0,
    "embedding_size": 288,
    "eos_token_id": 263,
    "flash_attention": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "init_cutoff_factor": None,
    "init_device": "meta",
    "init_fn": "mitchell",
    "init_std": 0.02,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mask_token_id": 264,
    "max_sequence_length": 4096,
    "mlp_hidden_size": 48,
    "mlp_ratio": 4,
    "model_type": "llada",
    "multi_query_attention": None,
    "n_heads": 4,
    "n_kv_heads": 4,
    "n_layers": 2,
    "pad_token_id": 263,
    "precision": "amp_bf16",
    "residual_dropout": 0.0,
    "rms_norm_eps": 1e-05,
    "rope": True,
    "rope_full_precision": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "transformers_version": "4.46.3",
    "use_cache": False,
    "vocab_size": 288,
    "weight_tying": False,
}
"""LLaDA's 8B config in miniature."""

QWEN_ADDED = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
DREAM_ADDED = (*QWEN_ADDED, "<|beginoftext|>", "<|mask|>")
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [("Ġ", "Ġ"), ("ĠĠ", "ĠĠ"), ("Ċ", "ĠĠ"), ("e", "f"), ("d", "ef"), ("r", "e")]
WORDS = [*ALPHABET, *(a + b for a, b in MERGES)]

TRAP = 'raise SystemExit("code of a checkpoint was run")\n'

Oracle = Callable[[Sequence[int]], Tensor]
"""Token ids `[T]` to logits `[T, V]`, each row reading all tokens."""


@dataclass(frozen=True)
class Tiny:
    """A written checkpoint: what the published code would compute, and its ids."""

    folder: Path
    logits: Oracle
    mask: int
    eos: int
    begin: int | None
    expand: int | None
    shifted: bool
    ends: frozenset[int] = frozenset()
    """Tokens after which a hole of fixed length holds nothing."""


def dream(
    folder: Path,
    *,
    expand: str | None = "<|expand|>",
    seed: int = 0,
    loud: Mapping[str, float] = {},
    **changes: Any,
) -> Tiny:
    """Dream and Dream-Coder; DreamOn with `expand`; DiffuCoder has `<|dlm_pad|>` at its place.

    `loud` multiplies the head's row of a token or word, so that random weights predict it more
    often; with 0 its logit is 0.
    """
    added = [*DREAM_ADDED, *([expand] if expand else [])]
    ids = {text: len(WORDS) + place for place, text in enumerate(added)}
    eos, mask = ids["<|endoftext|>"], ids["<|mask|>"]
    tokens = {"eos_token_id": eos, "bos_token_id": eos, "pad_token_id": eos, "mask_token_id": mask}
    raw = DREAM_CONFIG | tokens | changes
    model = _qwen2(raw)
    random_weights(model, seed)
    known = {word: place for place, word in enumerate(WORDS)} | ids
    _amplify(model, {known[text]: factor for text, factor in loud.items()})
    folder.mkdir(parents=True, exist_ok=True)
    write_shards(folder, model.state_dict(), 2)
    _write(folder / "config.json", raw)
    _write(folder / "generation_config.json", {"_from_model_config": True} | tokens)
    _vocabulary_files(folder, ids)
    for name in ("configuration_dream", "modeling_dream", "tokenization_dream", "generation_utils"):
        (folder / f"{name}.py").write_text(TRAP)
    lengthens = ids["<|expand|>"] if expand == "<|expand|>" else None
    begin = ids["<|beginoftext|>"]
    ends = {ids["<|im_end|>"], *([ids[expand]] if expand and lengthens is None else [])}
    return Tiny(folder, _oracle(model), mask, eos, begin, lengthens, True, frozenset({eos, *ends}))


def open_dcoder(folder: Path, *, seed: int = 0, mask_token: Any = "[MASK]") -> Tiny:
    """Open-dCoder: a qwen2 checkpoint whose tokenizer was given a mask token."""
    added = [*QWEN_ADDED, "[MASK]"]
    ids = {text: len(WORDS) + place for place, text in enumerate(added)}
    eos = ids["<|endoftext|>"]
    raw = {
        name: value
        for name, value in DREAM_CONFIG.items()
        if name not in ("auto_map", "mask_token_id", "use_mrope", "pad_token_id")
    } | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": True,
         "bos_token_id": eos, "eos_token_id": eos}  # fmt: skip
    model = _qwen2(raw)
    random_weights(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"
    }
    write_shards(folder, state, 1)
    _write(folder / "config.json", raw)
    _tokenizer_json(folder, ids)
    described = _described(ids, "Qwen2Tokenizer") | {"mask_token": mask_token}
    _write(folder / "tokenizer_config.json", described)
    ends = frozenset({eos, ids["<|im_end|>"]})
    return Tiny(folder, _oracle(model), ids["[MASK]"], eos, None, None, True, ends)


def llada(
    folder: Path,
    *,
    seed: int = 0,
    begins: bool = True,
    loud: Mapping[str, float] = {},
    **changes: Any,
) -> Tiny:
    """LLaDA: OLMo's names of fields and tensors, predictions of a token at its own position."""
    added = ["<|startoftext|>", "<|endoftext|>", "<|mdm_mask|>"]
    ids = {text: len(WORDS) + place for place, text in enumerate(added)}
    eos, mask = ids["<|endoftext|>"], ids["<|mdm_mask|>"]
    raw = LLADA_CONFIG | {"eos_token_id": eos, "pad_token_id": eos, "mask_token_id": mask} | changes
    from transformers import LlamaConfig, LlamaForCausalLM

    theirs = LlamaConfig(
        vocab_size=raw["embedding_size"],
        hidden_size=raw["d_model"],
        num_hidden_layers=raw["n_layers"],
        num_attention_heads=raw["n_heads"],
        num_key_value_heads=raw["n_kv_heads"],
        intermediate_size=raw["mlp_hidden_size"],
        max_position_embeddings=raw["max_sequence_length"],
        rms_norm_eps=raw["rms_norm_eps"],
        rope_parameters={"rope_type": "default", "rope_theta": raw["rope_theta"]},
        tie_word_embeddings=raw["weight_tying"],
        pad_token_id=None,
    )
    model = LlamaForCausalLM(theirs).eval()
    random_weights(model, seed)
    known = {word: place for place, word in enumerate(WORDS)} | ids
    _amplify(model, {known[text]: factor for text, factor in loud.items()})
    folder.mkdir(parents=True, exist_ok=True)
    write_shards(folder, {_llada_name(n): t for n, t in model.state_dict().items()}, 3)
    _write(folder / "config.json", raw)
    _tokenizer_json(folder, ids, begin="<|startoftext|>" if begins else None)
    _write(folder / "tokenizer_config.json", _described(ids, "PreTrainedTokenizerFast"))
    for name in ("configuration_llada", "modeling_llada"):
        (folder / f"{name}.py").write_text(TRAP)
    begin = ids["<|startoftext|>"] if begins else None
    return Tiny(folder, _oracle(model), mask, eos, begin, None, False, frozenset({eos}))


LLADA_NAMES = {
    "model.embed_tokens": "model.transformer.wte",
    "model.norm": "model.transformer.ln_f",
    "lm_head": "model.transformer.ff_out",
}
LLADA_MODULES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "q_proj",
    "self_attn.k_proj": "k_proj",
    "self_attn.v_proj": "v_proj",
    "self_attn.o_proj": "attn_out",
    "post_attention_layernorm": "ff_norm",
    "mlp.gate_proj": "ff_proj",
    "mlp.up_proj": "up_proj",
    "mlp.down_proj": "ff_out",
}


def _llada_name(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if module in LLADA_NAMES:
        return f"{LLADA_NAMES[module]}.{kind}"
    number, _, inner = module.removeprefix("model.layers.").partition(".")
    return f"model.transformer.blocks.{number}.{LLADA_MODULES[inner]}.{kind}"


def _qwen2(raw: Mapping[str, Any]) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    fields = {
        name: raw[name]
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                     "num_key_value_heads", "intermediate_size", "rms_norm_eps",
                     "tie_word_embeddings", "max_position_embeddings")
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": raw["rope_theta"]}
    config = Qwen2Config(**fields, rope_parameters=rope, pad_token_id=None)
    return Qwen2ForCausalLM(config).eval()


def _oracle(model: Any) -> Oracle:
    def logits(ids: Sequence[int]) -> Tensor:
        both_ways = torch.zeros(1, 1, len(ids), len(ids))
        with torch.no_grad():
            found: Tensor = model(torch.tensor([list(ids)]), attention_mask=both_ways).logits[0]
        return found

    return logits


def _amplify(model: nn.Module, factors: Mapping[int, float]) -> None:
    head: Any = model.get_submodule("lm_head")
    with torch.no_grad():
        for token_id, factor in factors.items():
            head.weight[token_id] *= factor


def _vocabulary_files(folder: Path, ids: Mapping[str, int]) -> None:
    """The tokenizer as Dream publishes it: no tokenizer.json."""
    _write(folder / "vocab.json", {word: place for place, word in enumerate(WORDS)})
    lines = "".join(f"{a} {b}\n" for a, b in MERGES)
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines, encoding="utf-8")
    _write(folder / "added_tokens.json", dict(ids))
    _write(folder / "special_tokens_map.json", {"mask_token": "<|mask|>"})
    described = _described(ids, "DreamTokenizer") | {
        "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
        "mask_token": "<|mask|>", "bos_token": "<|beginoftext|>", "model_max_length": 131072,
        "chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
    }  # fmt: skip
    _write(folder / "tokenizer_config.json", described)


def _described(ids: Mapping[str, int], kind: str) -> dict[str, Any]:
    added = {
        str(token_id): {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                        "single_word": False, "special": True}
        for text, token_id in ids.items()
    }  # fmt: skip
    return {
        "added_tokens_decoder": added, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
        "tokenizer_class": kind, "unk_token": None,
    }  # fmt: skip


def _tokenizer_json(folder: Path, ids: Mapping[str, int], begin: str | None = None) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors

    vocabulary = {word: place for place, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.BPE(vocabulary, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ids])
    if begin is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, ids[begin])]
        )
    tokenizer.save(str(folder / "tokenizer.json"))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
