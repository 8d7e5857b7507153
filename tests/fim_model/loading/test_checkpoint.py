"""Checkpoints: round-trip, compatibility with transformers, one-line errors for damage."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fim_model.errors import CheckpointError
from fim_model.loading.checkpoint import default_checkpoint, load_model, save_checkpoint
from fim_model.loading.headers import CONFIG, INDEX, WEIGHTS, read_config
from fim_model.network.attention_mask import Attention
from fim_model.network.transformer import TriModeTransformer
from safetensors.torch import load_file, save_file
from torch import Tensor


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> Path:
    save_checkpoint(tiny.model(tie_word_embeddings=False), tmp_path, dtype=torch.float32)
    return tmp_path


@torch.no_grad()
def logits(model: TriModeTransformer) -> Tensor:
    tokens = torch.arange(20)[None] % model.config.vocab_size
    return model.logits(model(tokens, torch.arange(20)[None], Attention.CAUSAL))


def shard(folder: Path, count: int = 2) -> None:
    """Split the weights into shards with an index, like large checkpoints."""
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    places: dict[str, str] = {}
    for number in range(count):
        part = dict(list(state.items())[number::count])
        name = f"model-{number + 1:05}-of-{count:05}.safetensors"
        save_file(part, folder / name)
        places |= dict.fromkeys(part, name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize("tied", [True, False])
def test_saving_and_loading_round_trips(tiny: Any, tmp_path: Path, tied: bool) -> None:
    model = tiny.model(tie_word_embeddings=tied, rope=tiny.yarn())
    save_checkpoint(model, tmp_path, dtype=torch.float32, metadata={"steps": "12"})
    assert ("lm_head.weight" in load_file(tmp_path / WEIGHTS)) is not tied
    again = load_model(tmp_path)
    assert again.config == model.config
    assert (again.lm_head.weight is again.model.embed_tokens.weight) is tied
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert not any(tensor.is_meta for tensor in [*again.parameters(), *again.buffers()])
    assert torch.equal(logits(again), logits(model))
    assert not list(tmp_path.glob("*.unfinished"))


def test_sharded_weights_are_loaded(tiny: Any, folder: Path) -> None:
    whole = logits(load_model(folder))
    shard(folder, 3)
    assert len(list(folder.glob("*.safetensors"))) == 3
    assert torch.equal(logits(load_model(folder)), whole)


def test_weights_have_the_requested_dtype(tiny: Any, tmp_path: Path) -> None:
    model = tiny.model()
    save_checkpoint(model, tmp_path)  # bfloat16
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS).values()} == {torch.bfloat16}
    assert {p.dtype for p in load_model(tmp_path, dtype=torch.bfloat16).parameters()} == {
        torch.bfloat16
    }
    wide = load_model(tmp_path)
    assert torch.equal(wide.lm_head.weight, model.lm_head.weight.bfloat16().float())
    assert wide.model.rotary.inverse_frequencies.dtype == torch.float32


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("stretched", [True, False])
def test_transformers_loads_our_checkpoint(
    tiny: Any, tmp_path: Path, tied: bool, stretched: bool
) -> None:
    from transformers import Ministral3ForCausalLM

    rope = {"rope": tiny.yarn(original_max_position_embeddings=8)} if stretched else {}
    model = tiny.model(1, tie_word_embeddings=tied, **rope)
    save_checkpoint(model, tmp_path, dtype=torch.float32)
    theirs, notes = Ministral3ForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not any(notes.values())
    with torch.no_grad():
        found = theirs(torch.arange(20)[None]).logits
    assert (found - logits(model)).abs().max() < 1e-4


def test_we_load_a_checkpoint_saved_by_transformers(tiny: Any, tmp_path: Path) -> None:
    from transformers import Ministral3Config, Ministral3ForCausalLM

    raw = tiny.config(rope=tiny.yarn(), tie_word_embeddings=False).to_hf()
    theirs = Ministral3ForCausalLM(Ministral3Config.from_dict(raw | {"pad_token_id": None}))
    theirs.eval().save_pretrained(tmp_path)
    with torch.no_grad():
        wanted = theirs(torch.arange(20)[None]).logits
    assert (logits(load_model(tmp_path)) - wanted).abs().max() < 1e-4


def test_an_interrupted_save_keeps_the_old_weights(
    tiny: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = logits(load_model(folder))

    def broken(state: dict[str, Tensor], path: Path, metadata: Any) -> None:
        path.write_bytes(b"half of a fi")
        raise OSError("disk full")

    monkeypatch.setattr("fim_model.loading.checkpoint.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tiny.model(9, tie_word_embeddings=False), folder)
    assert torch.equal(logits(load_model(folder)), before)


# Damage.


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)


def drop(folder: Path) -> None:
    rewrite(folder, lambda state: state.__delitem__("model.layers.1.mlp.up_proj.weight"))


def drop_the_head(folder: Path) -> None:
    rewrite(folder, lambda state: state.__delitem__("lm_head.weight"))


def add(folder: Path) -> None:
    rewrite(folder, lambda state: state.update({"model.layers.2.bias": torch.zeros(1)}))


def reshape(folder: Path) -> None:
    rewrite(folder, lambda state: state.update({"model.norm.weight": torch.zeros(25)}))


def transpose(folder: Path) -> None:
    name = "model.layers.0.self_attn.o_proj.weight"
    rewrite(folder, lambda state: state.update({name: state[name].T.contiguous()}))


def truncate(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) - 100])


def change_config(**fields: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        raw = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(raw | fields))

    return change


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def index(content: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / INDEX).write_text(json.dumps(content))

    return change


def lose_a_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def a_folder_for_a_file(folder: Path) -> None:
    (folder / CONFIG).unlink()
    (folder / CONFIG).mkdir()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove(CONFIG), "config.json: the file is missing"),
        (a_folder_for_a_file, "config.json: cannot be read as JSON"),
        (write(CONFIG, b"{"), "config.json: cannot be read as JSON"),
        (write(CONFIG, b"\xff"), "config.json: cannot be read as JSON"),
        (write(CONFIG, b"[]"), "config.json: a JSON object is expected"),
        (change_config(model_type="llama9"), "model_type 'llama9' is not supported"),
        (change_config(head_dim=6), "self_attn.q_proj.weight has shape [32, 24]"),
        (change_config(num_hidden_layers=3), "tensors are missing, the first is model.layers.2."),
        (change_config(num_hidden_layers=1), "not part of this architecture"),
        (remove(WEIGHTS), "there is no model.safetensors and no model.safetensors.index.json"),
        (truncate, "model.safetensors: not a readable safetensors file"),
        (write(WEIGHTS, b""), "model.safetensors: not a readable safetensors file"),
        (write(WEIGHTS, b"no weights at all"), "not a readable safetensors file"),
        (drop, "1 tensors are missing, the first is model.layers.1.mlp.up_proj.weight"),
        (drop_the_head, "the first is lm_head.weight"),
        (add, "1 tensors are not part of this architecture, the first is model.layers.2.bias"),
        (reshape, "model.norm.weight has shape [25], config.json says [24]"),
        (transpose, "o_proj.weight has shape [32, 24], config.json says [24, 32]"),
        (lose_a_shard, "model-00002-of-00002.safetensors: the file is missing"),
        (index({}), "'weight_map' is missing or empty"),
        (index({"weight_map": []}), "'weight_map' is missing or empty"),
        (index({"weight_map": {"model.norm.weight": 7}}), "'weight_map' names a file by 7"),
        (index({"weight_map": {"model.norm.weight": ["a"]}}), "'weight_map' names a file by ['a']"),
        (index({"weight_map": {"x": "../x.safetensors"}}), "names a file by '../x.safetensors'"),
    ],
)
def test_damage_is_reported_in_one_line(
    folder: Path, damage: Callable[[Path], None], says: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    assert says in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere/config\.json: the file is missing"):
        read_config(tmp_path / "nowhere")


def test_damage_is_found_before_reading_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(folder)
    read: list[str] = []

    class Watched:
        def __init__(self, path: Path, framework: str, device: str) -> None:
            from safetensors import safe_open

            self.inner = safe_open(path, framework=framework, device=device)

        def __enter__(self) -> Watched:
            self.inner.__enter__()
            return self

        def __exit__(self, *problem: object) -> None:
            self.inner.__exit__(*problem)

        def __getattr__(self, name: str) -> Any:
            read.append(name)
            return getattr(self.inner, name)

    monkeypatch.setattr("fim_model.loading.headers.safe_open", Watched)
    with pytest.raises(CheckpointError):
        load_model(folder)
    assert "get_slice" in read
    assert "get_tensor" not in read


def test_the_default_checkpoint_is_within_the_package() -> None:
    import fim_model

    assert Path(fim_model.__path__[0]) in default_checkpoint().parents
    assert (default_checkpoint() / "config.json").is_file()


def test_loading_imports_no_compiler(folder: Path) -> None:
    """Random initialisation on `meta` imports torch._dynamo, a second of every server start."""
    script = (
        "import sys; from pathlib import Path; "
        "from fim_model.loading.checkpoint import load_model; "
        f"load_model(Path({str(folder)!r})); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
