"""Denoising steps run on the device, against the loop that the host drives.

On a CPU the steps use the graph's buffers without recording; on a GPU and on the simulated GPU they
are graphs.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import torch
from devices import DEVICES, usable
from fim_kernels.dispatch import interpreted
from fim_model.decoding.canvas import Canvas
from fim_model.decoding.commit_rules import CommitRule, ConfidenceThreshold, Leftmost
from fim_model.decoding.core import DecodingCore, Step, StopRule
from fim_model.decoding.denoise import POLL_EVERY, denoise
from fim_model.decoding.diffusion import diffusion
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.native import RightContext, native_infill
from fim_model.decoding.prompt_cache import PromptCache
from fim_model.decoding.revise_window import Revision, RevisionRule, revise_window
from fim_model.decoding.sampling import Sampler
from fim_model.network.batching import BatchedNetwork
from fim_model.network.contract import Drafted, Network
from fim_model.network.cuda import WIDEST_GRAPH, DeviceTransformer
from fim_model.network.cuda_drafts import RecordedDrafts
from fim_model.network.cuda_graphs import Record
from fim_model.network.fused_forward import FusedTransformer
from fim_model.network.transformer import TriModeTransformer
from torch import Tensor

NO_EOM = -1


@pytest.fixture(params=DEVICES)
def on_device(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[TriModeTransformer], Network]]:
    """The model's `DeviceTransformer`; the model is not modified."""
    with usable(request.param, monkeypatch) as device:
        yield lambda model: DeviceTransformer.of(copy.deepcopy(model).to(device))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the steps run on the device, and the calls that run them."""
    counts: Counter[str] = Counter()
    plain = RecordedDrafts.run

    def run(drafts: RecordedDrafts, steps: int) -> Drafted:
        counts.update(asked=1, steps=steps)
        return plain(drafts, steps)

    monkeypatch.setattr(RecordedDrafts, "run", run)
    return counts


@dataclass(frozen=True)
class Filled:
    tokens: list[int]
    finish: str | None
    steps: list[tuple[Any, ...]]
    confidences: list[float]
    forwards: int


def filled(core: DecodingCore, steps: Sequence[Step]) -> Filled:
    """Confidences are separate because they are equal only within rounding."""
    rest = [(s.kind, s.width, s.hole, s.committed, s.remasked) for s in steps]
    shown = [value for step in steps for value in step.confidences]
    return Filled(core.tokens, core.finish, rest, shown + core.confidences, core.forwards)


def fill(
    network: Network, prompt: Sequence[int], stop: StopRule, size: int, rule: CommitRule
) -> Filled:
    cache = PromptCache(network, capacity=200)
    core = DecodingCore(network, cache.kv, stop, Sampler(), block_size=size)
    core.commit_choice(cache.prefill(prompt).logits)
    return filled(core, list(diffusion(core, rule)))


def assert_same(found: Filled, wanted: Filled, blocks: int) -> None:
    assert (found.tokens, found.finish, found.steps) == (wanted.tokens, wanted.finish, wanted.steps)
    assert found.confidences == pytest.approx(wanted.confidences, abs=1e-4)
    assert 0 <= found.forwards - wanted.forwards <= blocks * (POLL_EVERY - 1)


def random_prompt(rng: Random, vocabulary: int) -> list[int]:
    return [rng.randrange(2, vocabulary) for _ in range(rng.randint(1, 12))]


def test_diffusion_reveals_the_same_tokens_in_the_same_steps(
    tiny: Any, on_device: Callable[[TriModeTransformer], Network], taken: Counter[str]
) -> None:
    """Ends within a block, several blocks, one mask per step, all at once, and in between."""
    rng, seen = Random(0), Counter[str]()
    for seed in range(6):
        model = tiny.model(seed, vocab_size=8, rope=tiny.yarn(original_max_position_embeddings=8))
        network = on_device(model)
        for _ in range(12):
            prompt = random_prompt(rng, 8)
            stop = StopRule(rng.choice([NO_EOM, 0, 2]), rng.randint(1, 16))
            size, threshold = rng.choice([2, 4, 8]), rng.choice([0.0, 0.3, 0.5, 0.7, 2.0])
            rule = ConfidenceThreshold(threshold)
            wanted = fill(model, prompt, stop, size, rule)
            before = taken["steps"]
            found = fill(network, prompt, stop, size, rule)
            assert_same(found, wanted, blocks=len(found.steps))
            seen[str(wanted.finish)] += 1
            seen["steps"] += taken["steps"] - before
            seen["needless"] += found.forwards - wanted.forwards
            seen["several at once"] += sum(1 < len(step[3]) < size - 1 for step in wanted.steps)
    assert min(seen[what] for what in ("eom", "length", "several at once", "needless")) >= 5, seen
    assert taken["asked"] < taken["steps"]


def test_native_infilling_and_revision_take_the_same_steps(
    tiny: Any, on_device: Callable[[TriModeTransformer], Network], taken: Counter[str]
) -> None:
    """Blocks with a fixed right context at its own positions."""
    for seed in range(4):
        model = tiny.model(seed, vocab_size=12)
        results: list[list[Filled]] = []
        for network in (model, on_device(model)):
            found = []
            for length in (1, 5, 9):
                core = core_after(network, [3, 7, 5, 9, 4])
                right = RightContext.of([6, 2, 8], 8)
                steps = list(native_infill(core, right, length, ConfidenceThreshold(0.5)))
                found.append(filled(core, steps))
            core = core_after(network, [3, 7, 5])
            window, editable = torch.tensor([6, 3, 8, 8, 5]), torch.tensor([False, *[True] * 4])
            rule = RevisionRule(remask_below=0.5, margin=0.0, rounds=2)
            done = list(revise_window(core, window, editable, rule, ConfidenceThreshold(0.5)))
            found.append(filled(core, [result for result in done if isinstance(result, Step)]))
            [last] = [result for result in done if isinstance(result, Revision)]
            found[-1].tokens.extend(last.tokens.tolist())
            results.append(found)
        for wanted, found in zip(*results, strict=True):
            assert_same(found, wanted, blocks=2)
    assert taken["steps"] > 20


def core_after(network: Network, past: Sequence[int], sampler: Sampler | None = None) -> Any:
    cache = PromptCache(network, capacity=300)
    cache.prefill(past)
    return DecodingCore(network, cache.kv, StopRule(NO_EOM, 64), sampler or Sampler(), block_size=8)


def warmed_up(step: Callable[[], None], state: Sequence[Tensor]) -> Callable[[], None]:
    """Stand-in for a graph capture: warm up the step, and restore the state that it changes."""
    before = [tensor.clone() for tensor in state]
    for _ in range(2):
        step()
        for tensor, old in zip(state, before, strict=True):
            tensor.copy_(old)
    return step


def test_recording_a_step_does_not_change_the_state(tiny: Any) -> None:
    record: Record = warmed_up
    rng = Random(1)
    for seed in range(3):
        model = tiny.model(seed, vocab_size=8)
        network = DeviceTransformer(FusedTransformer.of(model), record=record)
        for _ in range(4):
            case = (random_prompt(rng, 8), StopRule(NO_EOM, 14), 8, ConfidenceThreshold(0.4))
            assert_same(fill(network, *case), fill(model, *case), blocks=3)


def test_the_host_selects_tokens_where_the_device_step_cannot(
    tiny: Any, taken: Counter[str]
) -> None:
    """With another commit rule, with sampling, and for blocks too wide for a graph."""
    network = DeviceTransformer.of(tiny.model(1))

    def steps(rule: CommitRule, sampler: Sampler, masks: int = 7) -> Iterator[Tensor]:
        core = core_after(network, [3, 4, 5], sampler)
        return denoise(core, Canvas.open(3, 1.0, 1 + masks, 1), rule)

    assert len(list(steps(Leftmost(2), Sampler()))) == 4
    assert sum(int(reveal.sum()) for reveal in steps(ConfidenceThreshold(), Sampler(0.8))) == 7
    assert len(list(steps(ConfidenceThreshold(0.0), Sampler(), WIDEST_GRAPH))) == 1
    assert not taken
    assert len(list(steps(ConfidenceThreshold(0.0), Sampler(), WIDEST_GRAPH - 1))) == 1
    assert taken


def test_stopping_wastes_at_most_one_poll_interval(tiny: Any, taken: Counter[str]) -> None:
    core = core_after(DeviceTransformer.of(tiny.model(1)), [3, 4, 5])
    steps = denoise(core, core_canvas(core), ConfidenceThreshold(2.0))  # one mask per step
    next(steps)
    steps.close()
    assert core.forwards == taken["steps"] == POLL_EVERY
    core.forwards = 0
    assert len(list(denoise(core, core_canvas(core), ConfidenceThreshold(2.0)))) == 7
    assert core.forwards == 7  # the last call runs a single step: only one mask is left


def test_each_threshold_has_its_own_step(tiny: Any) -> None:
    core = core_after(DeviceTransformer.of(tiny.model(1)), [3, 4, 5])
    for threshold, steps in ((0.0, 1), (2.0, 7), (0.0, 1)):
        rule = ConfidenceThreshold(threshold)
        assert len(list(denoise(core, core_canvas(core), rule))) == steps


def core_canvas(core: DecodingCore) -> Canvas:
    return Canvas.open(3, 1.0, 8, core.model.config.mask_id)


def test_a_full_cache_is_refused(tiny: Any) -> None:
    network = DeviceTransformer.of(tiny.model(1))
    cache = PromptCache(network, capacity=10)
    cache.prefill([3, 4, 5])
    core = DecodingCore(network, cache.kv, StopRule(NO_EOM, 64), Sampler(), block_size=8)
    with pytest.raises(ValueError, match="holds 10 tokens, 11 were asked for"):
        next(denoise(core, core_canvas(core), ConfidenceThreshold()))


@pytest.mark.timeout(120)
def test_batched_holes_run_their_own_steps_on_the_device(
    tiny: Any, on_device: Callable[[TriModeTransformer], Network], taken: Counter[str]
) -> None:
    """Batched with each other and with a mode whose steps the host drives."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    model = tiny.model(2)
    joint, rng = BatchedNetwork(on_device(model)), Random(3)
    start = Barrier(4)
    asked = [(random_prompt(rng, 32), 6 + 3 * n) for n in range(4)]

    def decode(number: int, network: Network) -> list[int]:
        prompt, tokens = asked[number]
        cache = PromptCache(network, capacity=100)
        core = DecodingCore(network, cache.kv, StopRule(NO_EOM, tokens), Sampler(), prompt=prompt)
        core.commit_choice(cache.prefill(prompt).logits)
        mode = "self_speculation" if number == 3 else "diffusion"
        list(MODES[mode](core, ModeOptions(ConfidenceThreshold(0.5))))
        return core.tokens

    def in_a_thread(number: int) -> list[int]:
        with joint.filling():
            start.wait(60)
            return decode(number, joint)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(in_a_thread, range(4)))
    assert found == [decode(number, model) for number in range(4)]
    assert taken["steps"] > 6
    assert joint.counts.forwards >= joint.counts.passes >= taken["steps"]


@torch.no_grad()
def test_kernels_and_references_decode_the_same_tokens(
    tiny: Any,
    on_device: Callable[[TriModeTransformer], Network],
    monkeypatch: pytest.MonkeyPatch,
    taken: Counter[str],
) -> None:
    """Whole holes in float32, with kernels (interpreted without a GPU) and with references."""
    pytest.importorskip("triton", reason="Triton has no wheel for this system")
    network = on_device(tiny.model(4, vocab_size=16))
    if network.device.type == "cpu" and not interpreted():
        pytest.skip("a GPU is there: the kernels run on it instead of being interpreted")
    seen: list[list[int]] = []
    for backend in ("triton", "reference"):
        monkeypatch.setenv("FIM_KERNELS", backend)
        for mode in ("diffusion", "self_speculation"):
            cache = PromptCache(network, capacity=24)
            stop = StopRule(NO_EOM, 6)
            core = DecodingCore(network, cache.kv, stop, Sampler(), block_size=4)
            core.commit_choice(cache.prefill([3, 4, 5]).logits)
            list(MODES[mode](core, ModeOptions(ConfidenceThreshold(0.5))))
            seen.append(core.tokens)
    assert seen[:2] == seen[2:]
    assert taken["steps"] >= 4
