"""Nemotron-Labs-Diffusion: tiny random checkpoints in the published layout.

AR is compared with transformers' Ministral-3, block attention with a dense mask, and the draft LoRA
with merged weights. Only drafts use the LoRA.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import (
    LORA_CONFIG,
    NLD_CONFIG,
    ministral3,
    nld_checkpoint,
    write_lora,
    write_shards,
)
from fim_model.decoding.core import DecodingCore, ForwardKind, StopRule
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.reference import block_logits, causal_logits
from fim_model.decoding.sampling import Sampler
from fim_model.errors import CheckpointError
from fim_model.infiller import Infiller
from fim_model.loading.checkpoint import load_model
from fim_model.network.attention_mask import Attention
from fim_model.network.kv_cache import KVCache
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.window import WINDOW
from fim_model.requests import CompletionRequest
from torch import Tensor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nld")
    nld_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> TriModeTransformer:
    return load_model(folder)


def tokens_of(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(NLD_CONFIG["vocab_size"], (count,), generator=generator)


@torch.no_grad()
def their_logits(folder: Path, tokens: Tensor) -> Tensor:
    theirs = ministral3(json.loads((folder / "config.json").read_text()))
    from safetensors.torch import load_file

    state = {}
    for file in folder.glob("model-*.safetensors"):
        state |= load_file(file)
    names = {name: name.replace("encoder.", "model.").replace("diffusion_head", "lm_head")
             for name in state}  # fmt: skip
    theirs.load_state_dict({names[name]: weight for name, weight in state.items()})
    return theirs(tokens[None]).logits[0]


@torch.no_grad()
def forward(model: TriModeTransformer, tokens: Tensor, attention: Attention, **more: Any) -> Tensor:
    positions = torch.arange(len(tokens))[None]
    return model.logits(model(tokens[None], positions, attention, **more))[0]


@pytest.mark.parametrize("shape", [{}, {"head_dim": 16}, {"num_key_value_heads": 4}])
def test_ar_equals_transformers_far_beyond_the_original_window(
    tmp_path: Path, shape: dict[str, Any]
) -> None:
    """400 positions with YaRN extending a window of 32: query scales from 1 to 1.26."""
    nld_checkpoint(tmp_path, **shape)
    tokens = tokens_of(400)
    wanted = their_logits(tmp_path, tokens)
    assert wanted.std() > 1
    found = forward(load_model(tmp_path), tokens, Attention.CAUSAL)
    assert (found - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("past", [0, 5, 70])
def test_a_block_of_32_equals_the_dense_mask(model: TriModeTransformer, past: int) -> None:
    tokens = tokens_of(past + 32, seed=past)
    cache = PromptCache(model, capacity=past + 32)
    if past:
        cache.prefill(tokens[:past].tolist())
    positions = torch.arange(past, past + 32)[None]
    with torch.no_grad():
        hidden = model(tokens[None, past:], positions, Attention.BLOCK, cache.kv)
        found = model.logits(hidden)[0]
    wanted = block_logits(model, tokens[:past].tolist(), tokens[past:].tolist())
    assert (found - wanted).abs().max() < 1e-4


def test_the_draft_lora_equals_merged_weights(folder: Path, model: TriModeTransformer) -> None:
    """PEFT's formula: W + alpha / r * B A, in every layer's o_proj."""
    from safetensors.torch import load_file

    lora = load_file(folder / "linear_spec_lora" / "adapter_model.safetensors")
    merged = load_model(folder)
    scale = LORA_CONFIG["lora_alpha"] / LORA_CONFIG["r"]
    for layer, block in enumerate(merged.model.layers):
        a, b = (
            lora[f"base_model.model.encoder.layers.{layer}.self_attn.o_proj.lora_{side}.weight"]
            for side in "AB"
        )
        weight = block.self_attn.o_proj.weight  # type: ignore[union-attr]
        block.self_attn.o_proj.weight = torch.nn.Parameter(weight + scale * b @ a)  # type: ignore[union-attr]
    tokens = tokens_of(32)
    found = forward(model, tokens, Attention.BLOCK, lora=model.draft_lora)
    assert (found - forward(merged, tokens, Attention.BLOCK)).abs().max() < 1e-4
    assert (found - forward(model, tokens, Attention.BLOCK)).abs().max() > 1e-1


def run(model: TriModeTransformer, mode: str, prompt: list[int], count: int = 48) -> DecodingCore:
    cache = PromptCache(model, capacity=len(prompt) + count + 80)
    prefill = cache.prefill(prompt)
    core = DecodingCore(model, cache.kv, StopRule(-1, count), Sampler(), prompt=prompt)
    core.commit_choice(prefill.logits)
    for _ in MODES[mode](core, ModeOptions()):
        pass
    return core


@pytest.mark.parametrize("mode", ["self_speculation", "quadratic_speculation", "lookup", "ar"])
def test_greedy_output_equals_ar_without_the_lora(
    tmp_path: Path, model: TriModeTransformer, mode: str
) -> None:
    """If a verification used the LoRA, the tokens would differ at once."""
    nld_checkpoint(tmp_path, lora=False)
    plain = load_model(tmp_path)
    assert plain.draft_lora is None
    assert model.draft_lora is not None
    for seed in range(4):
        prompt = tokens_of(40, seed).tolist()
        tokens = list[int]()
        for _ in range(48):
            tokens.append(int(causal_logits(plain, [*prompt, *tokens])[-1].argmax()))
        assert run(model, mode, prompt).tokens == tokens


def test_only_drafts_that_are_verified_use_the_lora(
    model: TriModeTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[object, bool]] = []
    original = TriModeTransformer.forward

    def watched(self: Any, tokens: Any, positions: Any, attention: Any, *more: Any) -> Tensor:
        seen.append((attention, len(more) > 1 and more[1] is not None))
        return original(self, tokens, positions, attention, *more)

    monkeypatch.setattr(TriModeTransformer, "forward", watched)
    for mode in MODES:
        seen.clear()
        run(model, mode, tokens_of(12).tolist())
        # Quadratic speculation drafts and verifies in one forward, where it cannot be used.
        drafts = {(Attention.BLOCK, True)} if mode in ("self_speculation", "adaptive") else set()
        assert {pair for pair in seen if pair[1]} <= drafts, mode
        assert drafts <= set(seen) or mode == "adaptive", "it may find a copy to be cheaper"
    # After drafts with the LoRA the cache is still exact, and the next prompt reuses it.


def test_keys_written_by_a_draft_are_not_kept(model: TriModeTransformer) -> None:
    prompt = tokens_of(20).tolist()
    core = run(model, "self_speculation", prompt)
    clean = KVCache(model.config, capacity=core.cache.capacity)
    kept = [*prompt, *core.tokens][: core.cache.length]
    with torch.no_grad():
        model(torch.tensor([kept]), torch.arange(len(kept))[None], Attention.CAUSAL, clean)
    for ours, exact in zip(core.cache.keys, clean.keys, strict=True):
        assert (ours[:, :, : len(kept)] - exact[:, :, : len(kept)]).abs().max() < 1e-4


def test_infilling_uses_a_practical_window(folder: Path) -> None:
    """The model allows 262144 positions, but caches are sized for the window in use."""
    infiller = Infiller.load(folder)
    assert infiller.modes[0] == "adaptive"
    assert infiller.window == WINDOW
    assert not infiller.fim.layout.verified
    request = CompletionRequest("def f(x):\n    return ", "\n", max_tokens=24)
    result = infiller.infill(request)
    assert result.stats.mode == "adaptive"
    assert result.items[0].text == infiller.infill(request).items[0].text
    assert infiller._new_cache().kv.capacity < 2 * WINDOW
    small = Infiller.load(folder, window=128)
    assert len(small.prompt(CompletionRequest("x = 1\n" * 500, "y = 2\n" * 500))) <= 128
    assert small._new_cache().kv.capacity < 600


def test_the_prompt_follows_the_family_table(folder: Path) -> None:
    infiller = Infiller.load(folder)
    encode = infiller.tokenizer.encode
    # The space before the cursor may merge with what follows, so the hole begins with it.
    assert infiller.prompt(CompletionRequest("a = ", "\nb", path="x.py")) == [
        1, 16, *encode("\nb"), 14, *encode("a ="),
    ]  # fmt: skip
    # Whatever begins a part of a prompt ends a middle as well.
    assert (infiller.fim.eom, infiller.fim.stops) == (11, {2, 14, 16})


def test_loading_does_not_copy_the_weights(tmp_path: Path) -> None:
    """Loading 64 MiB of float32 weights grows the process by far less: there is no copy, and
    torch's compiler (imported by random initialisation on `meta`) is not loaded.
    """
    nld_checkpoint(tmp_path, vocab_size=2**17, hidden_size=64, num_hidden_layers=1)
    script = f"""
from pathlib import Path
from fim_model.loading.checkpoint import load_model
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1])
before = anonymous()
model = load_model(Path({str(tmp_path)!r}))
print(anonymous() - before)
"""
    if sys.platform != "linux":
        pytest.skip("only Linux tells mapped from anonymous memory")
    grown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(grown.stdout) < 24 * 1024  # KiB


Spoil = Callable[[Path], object]


def spoil_config(**changes: Any) -> Spoil:
    return lambda folder: (folder / "config.json").write_text(json.dumps(NLD_CONFIG | changes))


def without_mask(folder: Path) -> None:
    raw = {name: value for name, value in NLD_CONFIG.items() if name != "mask_token_id"}
    (folder / "config.json").write_text(json.dumps(raw))


def drop_shard(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()


def truncate_shard(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def keep_names_of_transformers(folder: Path) -> None:
    from safetensors.torch import load_file

    tensors = {}
    for path in folder.glob("model-*.safetensors"):
        tensors |= load_file(path)
    write_shards(
        folder,
        {name.replace("encoder.", "model."): weight for name, weight in tensors.items()},
        2,
    )


def index_outside(folder: Path) -> None:
    index = {"weight_map": {"encoder.norm.weight": "../../else.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def other_layers(folder: Path) -> None:
    write_lora(folder, NLD_CONFIG | {"num_hidden_layers": 3})


def other_width(folder: Path) -> None:
    write_lora(folder, NLD_CONFIG | {"hidden_size": 32})


def other_rank(folder: Path) -> None:
    write_lora(folder, NLD_CONFIG)
    raw = LORA_CONFIG | {"r": 8}
    (folder / "linear_spec_lora" / "adapter_config.json").write_text(json.dumps(raw))


def other_module(folder: Path) -> None:
    name = "base_model.model.encoder.layers.{layer}.self_attn.q_proj.lora_{matrix}.weight"
    write_lora(folder, NLD_CONFIG, name=name)


BAD: dict[str, tuple[Spoil, str]] = {
    "no mask id": (without_mask, "the field 'mask_token_id' is missing"),
    "wider than the weights": (
        spoil_config(intermediate_size=48),
        r"mlp.*_proj.weight has shape \[.*\], config.json says",
    ),
    "deeper than the weights": (
        spoil_config(num_hidden_layers=3),
        "9 tensors are missing, the first is encoder.layers.2",
    ),
    "flatter than the weights": (
        spoil_config(num_hidden_layers=1),
        "9 tensors are not part of this architecture, the first is encoder.layers.1",
    ),
    "a shard is missing": (drop_shard, "00002-of-00002.safetensors: the file is missing"),
    "a shard is cut off": (truncate_shard, "not a readable safetensors file"),
    "names of another layout": (keep_names_of_transformers, "the first is encoder.embed_tokens"),
    "an index that leaves the folder": (index_outside, "'weight_map' names a file by"),
    "LoRA of another depth": (other_layers, "a LoRA for another size: it has 3 layers"),
    "LoRA of another width": (other_width, r"a LoRA for another size: .*lora_B.* \[32, 4\]"),
    "LoRA of another rank": (other_rank, r"another size: .*r = 8 need \[8, 32\]"),
    "LoRA of another module": (other_module, "is not an update of o_proj"),
}


@pytest.mark.parametrize(("spoil", "says"), BAD.values(), ids=BAD)
def test_errors_are_reported_before_reading_weights(
    tmp_path: Path, spoil: Spoil, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nld_checkpoint(tmp_path)
    spoil(tmp_path)
    monkeypatch.setattr(
        "fim_model.loading.checkpoint.load_model", lambda *a, **k: pytest.fail("read weights")
    )
    with pytest.raises(CheckpointError, match=says) as caught:
        Infiller.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"use_dora": True}, "use_dora True is not supported"),
        ({"rank_pattern": {"o_proj": 2}}, "rank_pattern .* is not supported"),
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported"),
        ({"r": 0}, "'r' must be a positive whole number"),
        ({"lora_alpha": "8"}, "'lora_alpha' must be a number"),
    ],
)
def test_unsupported_adapters_are_refused(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    nld_checkpoint(tmp_path)
    raw = LORA_CONFIG | change
    (tmp_path / "linear_spec_lora" / "adapter_config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=says):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.{layer}.self_attn.o_proj.lora_{matrix}.weight",
        "encoder.layers.{layer}.self_attn.o_proj.lora_{matrix}.default.weight",
        "layers.{layer}.self_attn.o_proj.lora_{matrix}.weight",
    ],
)
def test_name_prefixes_of_other_wrappers_are_accepted(
    tmp_path: Path, model: TriModeTransformer, name: str
) -> None:
    nld_checkpoint(tmp_path)
    write_lora(tmp_path, NLD_CONFIG, name=name)
    lora = load_model(tmp_path).draft_lora
    assert lora is not None
    assert model.draft_lora is not None
    assert all(torch.equal(a, b) for a, b in zip(lora.up, model.draft_lora.up, strict=True))


def test_rank_stabilised_lora_scales_by_the_root_of_the_rank(tmp_path: Path) -> None:
    nld_checkpoint(tmp_path)
    write_lora(tmp_path, NLD_CONFIG, use_rslora=True)
    lora = load_model(tmp_path).draft_lora
    assert lora is not None
    assert lora.scale == 16 / 2


def test_remote_code_is_never_executed(tmp_path: Path) -> None:
    nld_checkpoint(tmp_path)
    trap = tmp_path / "modeling_nemotron_labs_diffusion.py"
    trap.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    Infiller.load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_draft_step_is_reported_as_a_draft(folder: Path) -> None:
    kinds: list[ForwardKind] = []
    Infiller.load(folder).infill(
        CompletionRequest("x", "", max_tokens=8), on_step=lambda step: kinds.append(step.kind)
    )
    assert ForwardKind.DRAFT in kinds
