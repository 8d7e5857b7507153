"""Tiny random checkpoints in the published layouts, including tokenizers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor, nn

NLD_CONFIG: dict[str, Any] = {
    "architectures": ["NemotronLabsDiffusionModel"],
    "auto_map": {"AutoModel": "modeling_nemotron_labs_diffusion.NemotronLabsDiffusionModel"},
    "model_type": "nemotron_labs_diffusion",
    "vocab_size": 400,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 40,
    "bos_token_id": 1,
    "eos_token_id": 11,
    "mask_token_id": 100,
    "block_size": 32,
    "dlm_paradigm": "bidirectional",
    "ar_loss_weight": 1.0,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 262144,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
    "rope_parameters": {
        "rope_type": "yarn",
        "factor": 16.0,
        "original_max_position_embeddings": 32,
        "rope_theta": 1e6,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.1,
    },
}
"""The published 8B config, in miniature: the window before YaRN is 32 instead of 16384."""

LORA_CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 16,
    "target_modules": ["o_proj"],
    "bias": "none",
    "use_dora": False,
    "use_rslora": False,
    "fan_in_fan_out": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
}
LORA_NAME = "base_model.model.encoder.layers.{layer}.self_attn.o_proj.lora_{matrix}.weight"


def random_weights(model: nn.Module, seed: int = 0) -> None:
    """Random weights, large enough that every part of the model affects the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif weight.ndim == 1:
                weight.copy_(1 + 0.3 * noise)
            elif "embed_tokens" in name:
                weight.copy_(noise)
            else:
                weight.copy_(noise * (1.5 / weight.shape[1] ** 0.5))


def nld_checkpoint(
    folder: Path, *, lora: bool = True, shards: int = 2, seed: int = 0, **changes: Any
) -> dict[str, Tensor]:
    """Write a checkpoint in Nemotron-Labs-Diffusion's layout; return its tensors by stored name.

    The weights are those of transformers' Ministral3ForCausalLM, renamed.
    """
    raw = NLD_CONFIG | changes
    theirs = ministral3(raw)
    random_weights(theirs, seed)
    tensors = {stored_name(name): weight for name, weight in theirs.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(raw))
    write_shards(folder, tensors, shards)
    tekken().save(str(folder / "tokenizer.json"))
    if lora:
        write_lora(folder, raw, seed=seed)
    return tensors


def ministral3(raw: Mapping[str, Any]) -> Any:
    """transformers' model of an NLD config: the oracle of its AR mode."""
    from transformers import Ministral3Config, Ministral3ForCausalLM

    theirs = dict(raw) | {"model_type": "ministral3", "pad_token_id": None}
    return Ministral3ForCausalLM(Ministral3Config.from_dict(theirs)).eval()


def stored_name(name: str) -> str:
    """A tensor's name in Nemotron-Labs-Diffusion's files, from its name in transformers."""
    return name.replace("lm_head.", "diffusion_head.").replace("model.", "encoder.", 1)


def write_shards(folder: Path, tensors: Mapping[str, Tensor], count: int) -> None:
    names = sorted(tensors)
    files = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    places = {name: files[i % count] for i, name in enumerate(names)}
    for file in files:
        part = {name: tensors[name].contiguous() for name in names if places[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def write_lora(
    folder: Path,
    raw: Mapping[str, Any],
    *,
    seed: int = 0,
    name: str = LORA_NAME,
    **changes: Any,
) -> dict[str, Tensor]:
    config = LORA_CONFIG | changes
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(raw["num_hidden_layers"]):
        width = raw["num_attention_heads"] * raw["head_dim"]
        for matrix, shape in (
            ("A", (config["r"], width)),
            ("B", (raw["hidden_size"], config["r"])),
        ):
            noise = torch.randn(shape, generator=generator)
            tensors[name.format(layer=layer, matrix=matrix)] = 0.3 * noise
    lora = folder / "linear_spec_lora"
    lora.mkdir(exist_ok=True)
    (lora / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, lora / "adapter_model.safetensors")
    return tensors


# Tokenizers. The vocabularies are the byte alphabet and a few merges.

TEKKEN_CONTROL = [
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]",
    "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
]  # fmt: skip


def tekken() -> Tokenizer:
    """Mistral's Tekken in miniature: control tokens first, the mask of NLD is id 100."""
    control = TEKKEN_CONTROL + [f"<SPECIAL_{i}>" for i in range(len(TEKKEN_CONTROL), 104)]
    return byte_level(control)


def byte_level(control: Sequence[str] = (), *, added: Sequence[AddedToken] = ()) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "Ġ"), ("ĠĠ", "ĠĠ"), ("Ċ", "ĠĠ"), ("e", "f"), ("d", "ef"), ("r", "e")]
    words = [*control, *alphabet, *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    # Qwen's files normalise characters and prepend a space, which must not happen to code.
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(r"\s+|\w+|[^\s\w]+"), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in control])
    tokenizer.add_tokens(list(added))
    return tokenizer


def sentence_piece(control: Sequence[str] = (), *, metaspace: bool = False) -> Tokenizer:
    """A tokenizer like Llama's: `▁` for a space, `<0xNN>` for bytes, a space before every text."""
    letters = [chr(code) for code in range(33, 127)]
    merges = [("▁", "▁"), ("▁▁", "▁▁"), ("e", "f"), ("d", "ef"), ("▁", "def"), ("▁", "=")]
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    words += [a + b for a, b in merges]
    model = models.BPE(
        {word: i for i, word in enumerate(words)},
        merges,
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    special = ["<unk>", "<s>", "</s>", *control]
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
    return tokenizer
