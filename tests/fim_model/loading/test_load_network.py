"""Stored int8: straight to integer products, bit for bit as freshly quantised; clear errors."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from fim_kernels.matmul_8bit import quantise
from fim_model.loading.checkpoint import CheckpointError, load_model, save_checkpoint, save_int8
from fim_model.loading.headers import CONFIG, SCALE, WEIGHTS
from fim_model.loading.inspection import weight_bytes
from fim_model.loading.load_network import load_network
from fim_model.network import cpu_onnx
from fim_model.network.attention_mask import Attention
from fim_model.network.contract import Network, forward_one
from fim_model.network.cpu import PackedTransformer
from fim_model.network.cpu_onnx import OnnxTransformer
from fim_model.network.kv_cache import KVCache
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from fim_model.loading.gguf_export import Precision

MATRIX = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(autouse=True)
def integers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Integer products on any processor; without the instruction by the reference."""
    monkeypatch.delenv("FIM_WEIGHTS", raising=False)
    monkeypatch.setattr("fim_model.network.cpu.available", lambda: True)


def logits(network: Network) -> Tensor:
    tokens = torch.arange(2, 22)[None]
    cache = KVCache(network.config, capacity=32)
    hidden = forward_one(network, tokens, torch.arange(20)[None], Attention.CAUSAL, cache)
    return network.logits(hidden)


@pytest.fixture(params=[PackedTransformer, OnnxTransformer])
def kind(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> type[PackedTransformer]:
    """The network that is chosen."""
    if request.param is OnnxTransformer and not cpu_onnx.available():
        pytest.skip("needs VNNI or AMX, and pip install onnxruntime")
    monkeypatch.setattr(
        "fim_model.network.cpu_onnx.available", lambda: request.param is OnnxTransformer
    )
    chosen: type[PackedTransformer] = request.param
    return chosen


@pytest.mark.parametrize("tied", [True, False])
def test_stored_equals_freshly_quantised(
    tiny: Any,
    tmp_path: Path,
    tied: bool,
    kind: type[PackedTransformer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny.model(1, tie_word_embeddings=tied)
    save_int8(model, tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a float copy of the model was made")

    monkeypatch.setattr("fim_model.loading.load_network.load_model", refuse)
    monkeypatch.setattr("fim_kernels.types.Weight8Bit.dequantise", refuse)
    network = load_network(tmp_path)
    assert type(network) is kind
    assert torch.equal(logits(network), logits(kind.of(model, storage=torch.int8)))


@pytest.mark.parametrize("precision", ["f16", "q8_0"])
def test_a_gguf_file_is_never_there_as_floats(
    tmp_path: Path,
    precision: Precision,
    kind: type[PackedTransformer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Integer products of a GGUF file: one matrix in float32 at a time, and the same values as
    from a float copy of the whole model."""
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    from fim_model.loading.gguf_export import export_gguf
    from fim_model.loading.gguf_file import GgufModel
    from gguf_files import write_own_checkpoint

    path = tmp_path / "model.gguf"
    export_gguf(write_own_checkpoint(tmp_path / "own", num_hidden_layers=4), path, precision)
    expected = logits(kind.of(load_model(path), storage=torch.int8))
    read, alive = GgufModel.tensor, weakref.WeakSet[Tensor]()
    most, matrices = 0, 0

    def counted(gguf: GgufModel, name: str) -> Tensor:
        nonlocal most, matrices
        weight = read(gguf, name)
        if weight.ndim == 2:
            alive.add(weight)
            matrices += 1
            most = max(most, len(alive))
        return weight

    monkeypatch.setattr(GgufModel, "tensor", counted)
    network = load_network(path, weights="int8")
    assert type(network) is kind
    assert matrices == 1 + 4 * 7
    assert most <= 1, f"{most} of {matrices} matrices were there in float32 at once"
    assert not alive, "float matrices are kept"
    assert torch.equal(logits(network), expected)


@pytest.mark.parametrize("levels", [127, 63, 31])
def test_values_and_scales_are_those_of_quantise(tiny: Any, tmp_path: Path, levels: int) -> None:
    model = tiny.model(2)
    save_int8(model, tmp_path, levels=levels)
    stored = load_file(tmp_path / WEIGHTS)
    for name, tensor in model.named_parameters():
        if tensor.ndim == 1:
            assert torch.equal(stored[name], tensor)
            continue
        most = levels if ".layers." in name else 127
        fresh = quantise(tensor, levels=most)
        assert torch.equal(stored[name], fresh.values)
        assert torch.equal(stored[name + SCALE], fresh.scale)
        assert 0.9 * most < stored[name].abs().max() <= most
    again = dict(load_model(tmp_path).named_parameters())
    assert torch.equal(again[MATRIX], stored[MATRIX].float() * stored[MATRIX + SCALE][:, None])
    assert load_model(tmp_path, dtype=torch.bfloat16).lm_head.weight.dtype == torch.bfloat16


def test_full_weights_are_an_environment_variable_away(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_int8(tiny.model(1), tmp_path)
    plain = logits(load_model(tmp_path))
    monkeypatch.setenv("FIM_WEIGHTS", "full")
    full = load_network(tmp_path)
    assert isinstance(full, PackedTransformer)
    assert full.products == "float32"
    assert (logits(full) - plain).abs().max() < 1e-4
    monkeypatch.delenv("FIM_WEIGHTS")
    assert not torch.equal(logits(load_network(tmp_path)), logits(full))


@pytest.mark.parametrize("tied", [True, False])
def test_bytes_stay_bytes_on_a_processor_that_does_not_multiply_them(
    tiny: Any, tmp_path: Path, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times bfloat16; the head alone is float32."""
    monkeypatch.setattr("fim_model.network.cpu.available", lambda: False)
    monkeypatch.setattr("fim_model.network.cpu_onnx.available", lambda: False)
    model = tiny.model(1, hidden_size=32, intermediate_size=48, tie_word_embeddings=tied)
    save_int8(model, tmp_path)
    plain = logits(load_model(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a float copy was made")

    monkeypatch.setattr("fim_model.loading.load_network.load_model", refuse)
    monkeypatch.setattr("fim_kernels.matmul_8bit.matmul_8bit_reference", refuse)
    network = load_network(tmp_path)
    assert type(network) is PackedTransformer
    assert network.products == "8-bit weights, bfloat16 rows"
    assert network.cache_dtype is torch.float32
    found = logits(network)
    assert found.dtype is torch.float32
    assert 0 < (found - plain).norm() / plain.norm() < 0.02


def test_full_checkpoints_stay_full(tiny: Any, tmp_path: Path) -> None:
    save_int8(tiny.model(1), tmp_path)
    save_checkpoint(load_model(tmp_path), tmp_path, dtype=torch.float32)
    network = load_network(tmp_path)
    assert isinstance(network, PackedTransformer)
    assert network.products == "float32"
    assert "quantization" not in json.loads((tmp_path / CONFIG).read_text())


def spoiled(folder: Path, **changes: Any) -> None:
    state = load_file(folder / WEIGHTS)
    for name, value in changes.items():
        key = MATRIX + SCALE if name == "scale" else MATRIX
        state.pop(key)
        if value is not None:
            state[key] = value
    save_file(state, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": None}, f"1 tensors are missing, the first is {MATRIX}{SCALE}"),
        ({"scale": torch.ones(3)}, f"{MATRIX}{SCALE} has shape .3., config.json says .32."),
        ({"scale": torch.ones(32).half()}, "is stored as F16; the quantization in config.json"),
        ({"scale": torch.full((32,), torch.nan)}, "scales that are negative or no numbers"),
        ({"scale": -torch.ones(32)}, "scales that are negative or no numbers"),
        ({"values": torch.ones(32, 24)}, "is stored as F32; .* asks for I8"),
    ],
)
def test_wrong_tensors_are_named(
    tiny: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save_int8(tiny.model(), tmp_path)
    spoiled(tmp_path, **changes)
    for load in (load_network, load_model):
        with pytest.raises(CheckpointError, match=message):
            load(tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (None, "is stored as I8; quantised checkpoints cannot be read"),
        ({"method": "gptq"}, "quantization 'gptq' cannot be read, only 'int8 rows'"),
        ("int8", "quantization 'int8' cannot be read"),
        ({"method": "int8 rows", "levels": 200}, "levels must be a whole number from 1 to 127"),
        ({"method": "int8 rows", "levels": True}, "levels must be a whole number"),
    ],
)
def test_wrong_entries_are_named(tiny: Any, tmp_path: Path, entry: Any, message: str) -> None:
    save_int8(tiny.model(), tmp_path)
    raw = json.loads((tmp_path / CONFIG).read_text()) | {"quantization": entry}
    (tmp_path / CONFIG).write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=message):
        load_network(tmp_path)


def test_a_truncated_file_is_named(tiny: Any, tmp_path: Path) -> None:
    save_int8(tiny.model(), tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match=r"model.safetensors: not a readable safetensors"):
        load_network(tmp_path)


def test_int8_takes_a_byte_a_weight(tiny: Any, tmp_path: Path) -> None:
    model = tiny.model(hidden_size=128, intermediate_size=256)
    save_int8(model, tmp_path)
    size = (tmp_path / WEIGHTS).stat().st_size
    assert size < 0.4 * weight_bytes(model.config)["float32"]
