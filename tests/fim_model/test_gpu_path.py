"""The CUDA path, on a simulated GPU where there is no real one.

Kernels are interpreted, graphs are recorded and replayed; for the limits see `stand_in_gpu.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fim_kernels.swiglu import swiglu
from fim_model.copies import Copied
from fim_model.infiller import Infiller
from fim_model.loading.checkpoint import save_checkpoint
from fim_model.network.attention_mask import Attention
from fim_model.network.contract import forward_one
from fim_model.network.cuda import DeviceTransformer
from fim_model.network.cuda_drafts import DraftKey, RecordedDrafts
from fim_model.network.cuda_graphs import capturing
from fim_model.network.fused_forward import DeviceCache, FusedTransformer
from fim_model.network.kv_cache import KVCache
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import CompletionRequest, RewriteRequest
from fim_training.shipping.calibrate import UNDECIDED
from stand_in_gpu import CUDA, OnDevice, StandInGpu, stand_in_gpu

PREFIX = "def area(width, height):\n    return wid"
SUFFIX = "\n\n\nprint(area(2, 3))\n"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInGpu]:
    with stand_in_gpu(monkeypatch) as found:
        yield found


# The simulated GPU itself: what it refuses, as a real one does.


def test_operations_across_devices_are_refused(gpu: StandInGpu) -> None:
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    assert there.is_cuda
    assert there.device == CUDA
    with pytest.raises(RuntimeError, match="same device"):
        there + here
    assert (there + here.to("cuda")).tolist() == [2.0] * 3
    assert (there * torch.tensor(2.0)).tolist() == [2.0] * 3, "a number goes along"
    assert there[torch.tensor([0, 2])].shape == (2,), "indices may be the host's"


def test_a_kernel_refuses_host_memory(gpu: StandInGpu) -> None:
    from fim_kernels.swiglu_triton import swiglu_triton

    here = torch.ones(1, 4)
    there = here.to("cuda")
    assert swiglu(there, there).is_cuda
    assert gpu.launches == 1
    with pytest.raises(ValueError, match="cpu tensor"):
        swiglu_triton(there, here)


def test_synchronising_while_a_graph_is_recorded_is_refused(gpu: StandInGpu) -> None:
    x = torch.ones(3, device="cuda")
    for wait in (
        lambda: x.sum().item(),
        lambda: x.cpu(),
        lambda: x.copy_(torch.zeros(3)),
        lambda: x[x > 0],
        lambda: torch.zeros(3).to("cuda"),
    ):
        with (
            pytest.raises(RuntimeError, match="while recording"),
            torch.cuda.graph(torch.cuda.CUDAGraph()),
        ):
            wait()
        wait()
    assert gpu.waits >= 5


def test_a_graph_replays_the_recording_and_invalidates_its_tensors(gpu: StandInGpu) -> None:
    x, y = torch.full((3,), 1.0, device="cuda"), torch.zeros(3, device="cuda")
    kept: list[torch.Tensor] = []
    factor, graph = 2.0, torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept.append(x * factor)
        y.copy_(kept[0] + 1)
    assert y.tolist() == [0.0] * 3, "recording is not running"
    factor = 100.0
    x.fill_(4)
    graph.replay()
    assert y.tolist() == [9.0] * 3, "no Python runs again"
    assert kept[0].isnan().all(), "what a graph allocated is not its user's"


# The path.


@torch.inference_mode()
def test_steps_on_the_device_synchronise_once(tiny: Any, gpu: StandInGpu) -> None:
    """Forward, scores, selection and canvas form one graph; only the result is copied to the
    host.
    """
    model = FusedTransformer.of(tiny.model(1).to("cuda"))
    cache = DeviceCache(KVCache(tiny.config(), capacity=16, device=CUDA))
    drafts = RecordedDrafts(model, cache, DraftKey(4, 16, 2.0), None, capturing())
    for steps in (1, 3, 2):
        tokens = torch.tensor([3, 1, 1, 1])
        drafts.open(tokens, tokens == 1, torch.arange(4))
        before = gpu.waits
        block = drafts.run(steps)
        assert gpu.waits == before + 1
        assert int(block.masked.sum()) == 3 - steps
    [graph] = gpu.graphs
    assert graph.replays == 5
    assert gpu.launches > 0


@torch.inference_mode()
def test_graphs_share_their_memory(tiny: Any, gpu: StandInGpu) -> None:
    network = DeviceTransformer.of(tiny.model(1).to("cuda"))
    cache = KVCache(tiny.config(), capacity=32, device=CUDA)
    for width in (1, 1, 4, 4):
        tokens = torch.full((1, width), 5)
        forward_one(network, tokens, torch.arange(width)[None], Attention.BLOCK, cache)
    first, second = gpu.graphs
    assert first.pool is second.pool is not None


@pytest.fixture(scope="module")
def checkpoint(
    tiny: Any, tiny_tokenizer: CodeTokenizer, tiny_tokenizer_file: Path, tmp_path_factory: Any
) -> Path:
    special = tiny_tokenizer.special
    model: TriModeTransformer = tiny.model(
        7, vocab_size=tiny_tokenizer.vocab_size, mask_token_id=special.mask, scale=0.7
    )
    folder: Path = tmp_path_factory.mktemp("gpu") / "checkpoint"
    save_checkpoint(model, folder, dtype=torch.float32)
    (folder / "tokenizer.json").write_bytes(tiny_tokenizer_file.read_bytes())
    return folder


REQUEST = CompletionRequest(PREFIX, SUFFIX, max_tokens=10, session="a")


def answers(infiller: Infiller) -> list[Any]:
    """Results of every mode twice (the second time with cached KV), copies, samples and a
    rewrite.
    """
    requests = [replace(REQUEST, mode=mode) for mode in infiller.modes for _ in range(2)]
    copies = [Copied(text, 3, 2, 4, 1, False) for text in ("th * height", "th + height", "th * 2")]
    requests += [
        replace(REQUEST, copies=copies, max_tokens=40),
        replace(REQUEST, mode="ar", temperature=0.8, alternatives=2),
        replace(REQUEST, mode="self_speculation", temperature=0.8),
    ]
    found: list[Any] = []
    for request in requests:
        result = infiller.infill(request)
        texts = [(item.text, item.finish) for item in result.items]
        found.append((texts, result.stats.tokens, result.stats.reused_tokens))
        assert sum(finish == "copied" for _, finish in texts) == len(request.copies)
    old, drafts = "    return width\n", ("    return height\n", "    return 2\n")
    for by_edit_training in (False, True):
        infiller.model.config = replace(infiller.model.config, fim_edits=by_edit_training)
        done = infiller.rewrite(
            RewriteRequest("def f():\n", old, "x = 1\n", session="b", drafts=drafts)
        )
        gains = [
            None if gain is None else round(gain, 2) for gain in (done.gain, *done.draft_gains)
        ]
        found.append((done.way, done.new, done.tokens, done.reused_tokens, gains))
    return found


def test_every_mode_answers_as_on_a_cpu(
    checkpoint: Path, gpu: StandInGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From checkpoint files to texts, with the reference operations."""
    monkeypatch.setenv("FIM_KERNELS", "reference")
    load = partial(Infiller.load, checkpoint, calibration=UNDECIDED)  # without, none judges copies
    on_gpu = load(device="cuda", dtype=torch.float32)
    assert isinstance(on_gpu.model, DeviceTransformer)
    assert isinstance(on_gpu.model._weights.head, OnDevice)
    assert answers(on_gpu) == answers(load(device="cpu"))
    assert gpu.graphs
    assert sum(graph.replays for graph in gpu.graphs) > 50
    assert gpu.launches == 0


@pytest.mark.parametrize("weights", ["full", "int8"])
def test_holes_are_filled_by_kernels_in_graphs(
    checkpoint: Path, gpu: StandInGpu, monkeypatch: pytest.MonkeyPatch, weights: Any
) -> None:
    """All parts together: kernels, graphs, drafts on the device, verification."""
    seen = []
    for kernels in ("triton", "reference"):
        monkeypatch.setenv("FIM_KERNELS", kernels)
        infiller = Infiller.load(checkpoint, device="cuda", dtype=torch.float32, weights=weights)
        short = replace(REQUEST, prefix="def area(w", max_tokens=5)
        seen.append([
            infiller.infill(replace(short, mode=mode, temperature=heat)).items[0].text
            for mode, heat in (
                ("diffusion", 0), ("self_speculation", 0), ("quadratic_speculation", 0),
                ("self_speculation", 0.8),
            )
        ])  # fmt: skip
        if kernels == "triton":
            assert gpu.launches > 100
            assert sum(graph.replays for graph in gpu.graphs) > 5
    assert seen[0] == seen[1]
