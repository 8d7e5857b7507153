"""The fused forward and the device-side steps against the plain transformer and its loop.

On CPU the fused operations run as references; with a GPU (`-m gpu`) as kernels, inside graphs.
"""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from fim_kernels.dispatch import interpreted
from fim_kernels.token_scores import score_tokens
from fim_model.cache import KVCache
from fim_model.config import ModelConfig, RopeConfig
from fim_model.decoding.canvas import Canvas
from fim_model.decoding.commit import ConfidenceThreshold
from fim_model.fused import DeviceCache, FusedTransformer
from fim_model.graphs import DeviceSteps, StepKind, span_bucket
from fim_model.transformer import Attention, TriModeTransformer
from torch import Tensor

CONFIG = ModelConfig(
    vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, intermediate_size=80, mask_token_id=1, block_size=8,
    rope=RopeConfig(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=8,
        llama_4_scaling_beta=0.1, mscale=1.0, mscale_all_dim=1.0,
    ),
)  # fmt: skip
WIDTH = CONFIG.block_size

GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)


@dataclass(frozen=True)
class Lora:
    """As a checkpoint's draft LoRA acts."""

    down: Tensor
    up: Tensor

    def update(self, layer: int, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.down), self.up) * (layer + 1)


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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
def test_fused_forward_is_the_plain_one(
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


@pytest.mark.parametrize("storage", [torch.int8, torch.float8_e4m3fn])
@torch.no_grad()
def test_8bit_weights_stay_near_the_full_ones(
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


@torch.no_grad()
def test_device_steps_denoise_as_the_plain_loop_does(
    model: TriModeTransformer, device: str
) -> None:
    """Every draft of two blocks, the tokens, their confidences and the next seed."""
    fused = FusedTransformer.of(model)
    cache, device_cache = filled(model, fused, prompt(21, device))
    rule = ConfidenceThreshold(0.2)
    steps = DeviceSteps(fused, device_cache, WIDTH, threshold=0.2)
    seed = 5
    for _ in range(2):
        canvas = Canvas.open(seed, 0.5, WIDTH, CONFIG.mask_token_id)
        steps.open(seed, 0.5)
        drafts = 0
        while canvas.masked.any():
            hidden = plain(model, canvas.tokens[None].to(device), Attention.BLOCK, cache)[0].cpu()
            logits = model.cpu().logits(hidden[canvas.masked])
            model.to(device)
            scores = canvas.spread(score_tokens(logits))
            canvas.commit(rule(scores, canvas.masked), scores.token, scores.confidence)
            steps.run(StepKind.DRAFT, cache.length)
            drafts += 1
            assert steps.canvas.tokens[0].tolist() == canvas.tokens.tolist()
            assert int(steps.left) == int(canvas.masked.sum())
            torch.testing.assert_close(steps.canvas.confidence[0].cpu(), canvas.confidence)
            assert steps.canvas.age[0].tolist() == canvas.age.tolist()
        assert 1 < drafts < WIDTH  # neither trivial: some steps commit several, not all at once
        hidden = plain(model, canvas.tokens[None].to(device), Attention.CAUSAL, cache)
        cache.advance(WIDTH)
        steps.run(StepKind.COMMIT, cache.length - WIDTH)
        seed = int(model.logits(hidden[0, -1:]).argmax())
        assert int(steps.choices[-1]) == seed
        assert device_cache.length.tolist() == [cache.length]


@torch.no_grad()
def test_verify_keeps_exactly_what_greedy_decoding_would_write(
    model: TriModeTransformer, device: str
) -> None:
    fused = FusedTransformer.of(model)
    cache, device_cache = filled(model, fused, prompt(10, device))
    greedy = [5]
    for _ in range(WIDTH):
        hidden = plain(model, torch.tensor([greedy[-1:]], device=device), Attention.CAUSAL, cache)
        cache.advance(1)
        greedy.append(int(model.logits(hidden[0]).argmax()))
    for right in (1, 4, WIDTH):
        draft = greedy[:right] + [(t + 1) % CONFIG.vocab_size for t in greedy[right:WIDTH]]
        steps = DeviceSteps(fused, device_cache, WIDTH)
        steps.canvas.tokens[0] = torch.tensor(draft, device=device)
        device_cache.length.fill_(10)
        steps.run(StepKind.VERIFY, 10)
        assert int(steps.accepted) == right
        assert int(steps.choices[right - 1]) == greedy[right]
        assert device_cache.length.tolist() == [10 + right]


@torch.no_grad()
def test_a_draft_uses_the_lora_and_a_verify_does_not(
    model: TriModeTransformer, device: str
) -> None:
    """Catches a step that was captured without it, or one that let it into the kept cache."""
    torch.manual_seed(2)
    lora = Lora(torch.randn(4, 64).to(device), torch.randn(48, 4).to(device))
    fused = FusedTransformer.of(model)
    seen = {}
    for name, adapter in (("with", lora), ("without", None)):
        _, cache = filled(model, fused, prompt(10, device))
        steps = DeviceSteps(fused, cache, WIDTH, threshold=0.0, lora=adapter)
        steps.open(5, 1.0)
        steps.run(StepKind.DRAFT, 10)
        drafted = steps.canvas.tokens[0].tolist()
        steps.canvas.tokens[0] = prompt(WIDTH, device)[0]
        steps.run(StepKind.VERIFY, 10)
        seen[name] = (drafted, steps.choices.tolist())
    _, cache = filled(model, fused, prompt(10, device))
    block = torch.full((1, WIDTH), CONFIG.mask_token_id, device=device)
    block[0, 0] = 5
    hidden = fused.forward(block, Attention.BLOCK, cache, lora=lora)
    assert seen["with"][0] == [5, *fused.scores(hidden[0, 1:]).token.tolist()]
    assert seen["with"][0] != seen["without"][0]
    assert seen["with"][1] == seen["without"][1]


@torch.no_grad()
def test_kernels_and_references_decode_the_same_tokens(
    model: TriModeTransformer, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole draft and verify in float32, with kernels (interpreted without a GPU) and without."""
    pytest.importorskip("triton", reason="Triton has no wheel for this system")
    if device == "cpu" and not interpreted():
        pytest.skip("a GPU is there: the kernels run on it instead of being interpreted")
    fused = FusedTransformer.of(model)
    seen = []
    for backend in ("triton", "reference"):
        monkeypatch.setenv("FIM_KERNELS", backend)
        cache = DeviceCache(KVCache(CONFIG, capacity=64, device=device))
        steps = DeviceSteps(fused, cache, WIDTH, threshold=0.0)
        steps.open(5, 1.0)
        steps.run(StepKind.DRAFT, 0)
        steps.run(StepKind.VERIFY, 0)
        seen.append((steps.canvas.tokens.tolist(), steps.choices.tolist(), int(steps.accepted)))
    assert seen[0] == seen[1]


@torch.no_grad()
def test_denoise_polls_and_stops(model: TriModeTransformer, device: str) -> None:
    fused = FusedTransformer.of(model)
    _, cache = filled(model, fused, prompt(10, device))
    steps = DeviceSteps(fused, cache, WIDTH, threshold=1.1)  # one mask a step
    steps.open(5, 1.0)
    assert steps.denoise(10, cancelled=lambda: True) == 2
    assert int(steps.left) == WIDTH - 1 - 2
    assert steps.denoise(10) == 6  # five masks left, asked every second step
    assert int(steps.left) == 0
    steps.open(5, 1.0)
    assert steps.denoise(10, poll_every=100) == WIDTH - 1


@pytest.mark.parametrize(
    ("span", "capacity", "bound"),
    [(1, 4096, 512), (512, 4096, 512), (513, 4096, 1024), (9, 64, 64)],
)
def test_span_buckets(span: int, capacity: int, bound: int) -> None:
    assert span_bucket(span, capacity) == bound


def test_a_step_past_the_capacity_is_an_error() -> None:
    with pytest.raises(ValueError, match="holds 64 tokens, 65"):
        span_bucket(65, 64)
