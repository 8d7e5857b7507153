"""The fused forward against the plain transformer.

On a CPU the fused operations are the references; with a GPU (`-m gpu`) they are kernels.
"""

import copy
from collections.abc import Iterator

import pytest
import torch
from devices import DEVICES, usable
from fim_kernels.dispatch import interpreted
from fim_model.network.attention_mask import Attention
from fim_model.network.config import ModelConfig
from fim_model.network.cuda_graphs import span_bucket
from fim_model.network.fused_forward import DeviceCache, FusedTransformer
from fim_model.network.kv_cache import KVCache
from fim_model.network.rope import RopeConfig
from fim_model.network.transformer import TriModeTransformer
from torch import Tensor
from triton_interpreter import convert_as_hardware

CONFIG = ModelConfig(
    vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, intermediate_size=80, mask_token_id=1, block_size=8,
    rope=RopeConfig(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=8,
        llama_4_scaling_beta=0.1, mscale=1.0, mscale_all_dim=1.0,
    ),
)  # fmt: skip
WIDTH = CONFIG.block_size


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with usable(request.param, monkeypatch) as found:
        yield found


@pytest.fixture
def model(device: str) -> TriModeTransformer:
    torch.manual_seed(0)
    model = TriModeTransformer(CONFIG).requires_grad_(False).to(device)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0, 0.15)
        else:
            parameter.uniform_(0.5, 1.5)
    return model


def prompt(length: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(2, CONFIG.vocab_size, (1, length), generator=generator).to(device)


def plain(
    model: TriModeTransformer, tokens: Tensor, attention: Attention, cache: KVCache
) -> Tensor:
    start = cache.length
    places = torch.arange(start, start + tokens.shape[1], device=tokens.device)[None]
    return model(tokens, places, attention, cache)


def caches(device: str) -> tuple[KVCache, DeviceCache]:
    return (
        KVCache(CONFIG, capacity=64, device=device),
        DeviceCache(KVCache(CONFIG, capacity=64, device=device)),
    )


def filled(
    model: TriModeTransformer, fused: FusedTransformer, tokens: Tensor
) -> tuple[KVCache, DeviceCache]:
    cache, device_cache = caches(str(tokens.device))
    with torch.no_grad():
        plain(model, tokens, Attention.CAUSAL, cache)
    cache.advance(tokens.shape[1])
    fused.forward(tokens, Attention.CAUSAL, device_cache)
    device_cache.length += tokens.shape[1]
    return cache, device_cache


@pytest.mark.parametrize("attention", list(Attention))
@pytest.mark.parametrize("visible", [None, 40])
@torch.no_grad()
def test_fused_forward_equals_the_plain_one(
    model: TriModeTransformer, attention: Attention, visible: int | None, device: str
) -> None:
    fused = FusedTransformer.of(model)
    cache, device_cache = filled(model, fused, prompt(21, device))
    block = prompt(WIDTH, device)
    wanted = plain(model, block, attention, cache)
    found = fused.forward(block, attention, device_cache, visible=visible)
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)
    scores = fused.scores(found[0], torch.tensor([3, -1, 0], device=device))
    assert scores.token[[0, 2]].tolist() == model.logits(wanted[0, [3, 0]]).argmax(-1).tolist()


@torch.no_grad()
def test_kernels_round_no_worse_than_their_references_in_bfloat16(
    model: TriModeTransformer, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Error relative to float32, for a prompt and a block after it."""
    pytest.importorskip("triton", reason="Triton has no wheel for this system")
    if interpreted():
        monkeypatch.setattr("triton.runtime.interpreter._convert_float", convert_as_hardware)
    elif device == "cpu":
        pytest.skip("a GPU is there: the kernels run on it instead of being interpreted")

    def hidden(dtype: torch.dtype, kernels: str) -> Tensor:
        monkeypatch.setenv("FIM_KERNELS", kernels)
        fused = FusedTransformer.of(copy.deepcopy(model).to(dtype))
        cache = DeviceCache(KVCache(CONFIG, capacity=32, dtype=dtype, device=device))
        fused.forward(prompt(9, device), Attention.CAUSAL, cache)
        cache.length += 9
        return fused.forward(prompt(WIDTH, device), Attention.BLOCK, cache).float()

    exact = hidden(torch.float32, "reference")
    plain, fast = (hidden(torch.bfloat16, kernels) for kernels in ("reference", "triton"))
    rounding = (plain - exact).norm()
    assert 0 < rounding < 0.05 * exact.norm()
    assert (fast - exact).norm() <= 1.25 * rounding


@pytest.mark.parametrize("storage", [torch.int8, torch.float8_e4m3fn])
@torch.no_grad()
def test_8bit_weights_approximate_the_full_ones(
    model: TriModeTransformer, storage: torch.dtype, device: str
) -> None:
    if (
        device == "cuda"
        and torch.cuda.get_device_capability() < (8, 9)
        and storage.is_floating_point
    ):
        pytest.skip("float8 needs compute capability 8.9")
    _, cache = caches(device)
    wanted = FusedTransformer.of(model).forward(prompt(9, device), Attention.CAUSAL, cache)
    found = FusedTransformer.of(model, storage=storage).forward(
        prompt(9, device), Attention.CAUSAL, cache
    )
    error = (found - wanted).norm() / wanted.norm()
    assert 0 < error < (0.03 if storage is torch.int8 else 0.12)


@pytest.mark.parametrize(
    ("span", "capacity", "bound"),
    [(1, 4096, 512), (512, 4096, 512), (513, 4096, 1024), (9, 64, 64)],
)
def test_span_buckets(span: int, capacity: int, bound: int) -> None:
    assert span_bucket(span, capacity) == bound


def test_a_step_past_the_capacity_is_an_error() -> None:
    with pytest.raises(ValueError, match="holds 64 tokens, 65"):
        span_bucket(65, 64)
