"""Checkpoints written as GGUF: read back the same, and the same tokens in a real llama.cpp."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fim_model.errors import CheckpointError
from fim_model.families.fim_layouts import CODE_LLAMA, JOINED, OWN
from fim_model.loading.checkpoint import default_checkpoint, load_model, save_int8
from fim_model.loading.headers import read_config
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.network.attention_mask import Attention
from fim_model.network.config import ModelConfig
from fim_model.network.kv_cache import KVCache
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.tokenizer import CodeTokenizer
from tokenizers import Tokenizer

pytest.importorskip("gguf", reason="the package gguf is not installed")

from checkpoints import random_weights, sentence_piece
from fim_model.loading.gguf_export import Precision, export_gguf
from fim_model.loading.gguf_file import read_gguf
from gguf import GGMLQuantizationType, GGUFReader, dequantize, quantize
from gguf_files import TEXT, smollm_tokenizer, write_own_checkpoint
from llama_server import WITHOUT, LlamaServer

IDS = torch.tensor([[15, 40, 7, 200, 99, 99, 260, 12, 230, 31]])
TEXTS = (
    TEXT,
    "x = 1234\n\n\n  y",
    "    return    1\r\n\tfoo's bar_baz(**kw)  # über 😀 Größe",
    "<|fim_middle|> <|eom|> in a text is text",
    " ",
    "\n",
    "if a<b and'c' in d['e']:\n        pass\n\n\n\n# 2026-11-28",
)
PROMPTS, DECODED = 20, 16
LOGPROB_ERROR = 0.01


@torch.inference_mode()
def logits_of(model: TriModeTransformer, ids: torch.Tensor) -> torch.Tensor:
    return model.logits(model(ids, torch.arange(ids.shape[1])[None], Attention.CAUSAL))


def read_back(path: Path) -> TriModeTransformer:
    """The network of a GGUF file, float32."""
    gguf = read_gguf(path)
    model = TriModeTransformer(ModelConfig.from_hf(gguf.config))
    weights = dict(gguf.tensors())
    if gguf.config["tie_word_embeddings"]:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights)
    return model.requires_grad_(False).eval()


def foreign_checkpoint(folder: Path, name: str, tokenizer: Tokenizer, **changes: Any) -> Path:
    """A random checkpoint of another family, saved by transformers."""
    import transformers

    shape = {
        "vocab_size": tokenizer.get_vocab_size() + 3,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
    }
    config = getattr(transformers, f"{name}Config")(**(shape | changes))
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    random_weights(model)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def qwen_tokenizer() -> Tokenizer:
    names = ("<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    return smollm_tokenizer(control=names)


def code_llama_tokenizer() -> Tokenizer:
    return sentence_piece(list(CODE_LLAMA.needed))


def mistral_tokenizer() -> Tokenizer:
    return sentence_piece(["[PREFIX]", "[MIDDLE]", "[SUFFIX]"], metaspace=True)


LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
FOREIGN: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "qwen2": ("Qwen2", qwen_tokenizer, {}),
    "qwen2, tied": ("Qwen2", qwen_tokenizer, {"tie_word_embeddings": True}),
    "code llama": ("Llama", code_llama_tokenizer, {}),
    "code llama, biases": ("Llama", code_llama_tokenizer, {"attention_bias": True,
                                                           "mlp_bias": True}),
    "code llama, wide heads": ("Llama", code_llama_tokenizer, {"head_dim": 32}),
    "mistral": ("Mistral", mistral_tokenizer, {"sliding_window": 400}),
    "code llama, llama3 rope": ("Llama", code_llama_tokenizer, {"rope_parameters": LLAMA3}),
    "code llama, linear rope": ("Llama", code_llama_tokenizer, {"rope_parameters": {
        "rope_type": "linear", "rope_theta": 1e5, "factor": 4.0}}),
}  # fmt: skip


@pytest.fixture(scope="module", params=[OWN.name, JOINED.name])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    return write_own_checkpoint(folder, fim_layout=request.param)


def test_stored_int8_is_written_as_what_it_stands_for(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "int8"
    shutil.copytree(checkpoint, folder)
    save_int8(load_model(checkpoint), folder)
    written = export_gguf(folder, tmp_path / "out.gguf", "f32")
    found, wanted = logits_of(read_back(written.path), IDS), logits_of(load_model(folder), IDS)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["f32", "f16", "q8_0"])
def test_a_file_read_back_gives_the_logits_of_the_checkpoint(
    checkpoint: Path, tmp_path: Path, precision: Precision
) -> None:
    """Those of the checkpoint with its matrices rounded in the same way."""
    written = export_gguf(checkpoint, tmp_path / "out.gguf", precision)
    model = load_model(checkpoint)
    exact = logits_of(model, IDS)
    assert exact.std() > 1
    for weight in model.parameters():
        if weight.ndim == 2:
            kind = GGMLQuantizationType[precision.upper()]
            rounded = dequantize(quantize(weight.numpy(), kind), kind)
            weight.copy_(torch.from_numpy(rounded))
    wanted, found = logits_of(model, IDS), logits_of(read_back(written.path), IDS)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(wanted, exact) == (precision == "f32")
    assert written.bytes == written.path.stat().st_size
    kinds = {tensor.tensor_type.name for tensor in read_gguf(written.path).reader.tensors}
    assert kinds == {"F32", precision.upper()}


def test_the_tokenizer_read_back_is_the_same(checkpoint: Path, tmp_path: Path) -> None:
    written = export_gguf(checkpoint, tmp_path / "out.gguf")
    back = CodeTokenizer(Tokenizer.from_str(json.dumps(read_gguf(written.path).tokenizer)), None)
    ours = read_tokenizer(checkpoint)
    for text in TEXTS:
        assert back.encode(text) == ours.encode(text)


def test_roles_are_named_for_llama_cpp(checkpoint: Path, tmp_path: Path) -> None:
    """The end of a middle ends a generation; a joined layout's middle marker is the padding."""
    written = export_gguf(checkpoint, tmp_path / "out.gguf")
    special = read_tokenizer(checkpoint).special
    found = {
        role: field.contents()
        for role in ("eot", "fim_pre", "fim_suf", "fim_mid", "mask", "padding")
        if (field := GGUFReader(written.path).fields.get(f"tokenizer.ggml.{role}_token_id"))
    }
    assert found == {
        "eot": special.eom,
        "fim_pre": special.prefix,
        "fim_suf": special.suffix,
        "fim_mid": special.middle if written.marked else special.pad,
        "mask": special.mask,
        "padding": special.pad,
    }
    assert written.suffix_first


def test_the_bases_licence_is_in_the_file(tmp_path: Path) -> None:
    """Where adopting the file reads it."""
    folder = write_own_checkpoint(tmp_path / "own")
    assert read_gguf(export_gguf(folder, tmp_path / "without.gguf").path).licence == ""
    about = {"name": "Some base", "licence": "apache-2.0", "file": "b.gguf", "package": "b 1.2"}
    (folder / "provenance.json").write_text(json.dumps(about))
    path = export_gguf(folder, tmp_path / "out.gguf").path
    assert read_gguf(path).licence == "apache-2.0"
    fields = GGUFReader(path).fields
    assert fields["general.base_model.0.name"].contents() == "Some base"
    assert fields["general.base_model.0.description"].contents() == "b.gguf, b 1.2"


# Errors.


def test_words_that_llama_cpp_cuts_otherwise_are_refused(tmp_path: Path) -> None:
    folder = write_own_checkpoint(tmp_path / "own")
    raw = json.loads((folder / "tokenizer.json").read_text())
    pattern = {"Regex": r"\n+|\w+|[^\w\n]"}
    raw["pre_tokenizer"]["pretokenizers"][0] = {
        "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False,
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="no pre-tokenizer that cuts text as this one"):
        export_gguf(folder, tmp_path / "out.gguf")
    assert not list(tmp_path.glob("out*"))
    export_gguf(folder, tmp_path / "out.gguf", any_words=True)


def test_yarn_is_refused(tmp_path: Path, tiny: Any) -> None:
    folder = write_own_checkpoint(tmp_path / "own", rope=tiny.yarn())
    with pytest.raises(CheckpointError, match=r"rotary embedding \(yarn"):
        export_gguf(folder, tmp_path / "out.gguf")
    assert not list(tmp_path.glob("out*"))


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    from fim_model.loading.checkpoint import save_checkpoint

    folder = write_own_checkpoint(tmp_path / "own")
    model = load_model(folder)
    model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e6
    save_checkpoint(model, folder, dtype=torch.float32)
    with pytest.raises(CheckpointError, match=r"blk\.0\.ffn_up\.weight: its values do not fit"):
        export_gguf(folder, tmp_path / "out.gguf")
    assert not list(tmp_path.glob("out*"))
    export_gguf(folder, tmp_path / "out.gguf", "f32")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    folder = write_own_checkpoint(tmp_path / "own")
    with pytest.raises(CheckpointError, match=r"is a folder; name the file"):
        export_gguf(folder, tmp_path)
    with pytest.raises(CheckpointError, match=r"is a file; name the folder"):
        export_gguf(folder / "config.json", tmp_path / "out.gguf")
    with pytest.raises(CheckpointError, match=r"there is no folder .*absent; create it"):
        export_gguf(folder, tmp_path / "absent" / "out.gguf")


def test_without_the_gguf_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(CheckpointError, match="pip install gguf"):
        export_gguf(tmp_path, tmp_path / "out.gguf")


# llama.cpp itself.


def greedy(model: TriModeTransformer, prompt: list[int], count: int, end: int) -> list[int]:
    """The greedy continuation by the reference network, the end included."""
    cache, found, fed = KVCache(model.config, capacity=len(prompt) + count), list[int](), prompt
    with torch.inference_mode():
        while len(found) < count and end not in found:
            positions = torch.arange(cache.length, cache.length + len(fed))[None]
            hidden = model(torch.tensor([fed]), positions, Attention.CAUSAL, cache)
            cache.advance(len(fed))
            fed = [int(model.logits(hidden[0, -1:]).argmax())]
            found += fed
    return found


def random_prompts(config: ModelConfig, first: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 60, (PROMPTS,), generator=generator)
    return [
        torch.randint(first, config.vocab_size, (int(n),), generator=generator).tolist()
        for n in lengths
    ]


@pytest.fixture(scope="module")
def own_server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> LlamaServer:
    pytest.importorskip("xllamacpp", reason=WITHOUT)
    return LlamaServer(export_gguf(checkpoint, tmp_path_factory.mktemp("f16") / "own.gguf").path)


@torch.inference_mode()
def assert_same_probabilities(folder: Path, path: Path) -> None:
    """llama.cpp's likeliest ten tokens after random prompts have our log-probabilities, in float32.

    Random models have too many close calls for long greedy texts to be equal.
    """
    server = LlamaServer(export_gguf(folder, path, "f32").path)
    model, letter = load_model(folder), read_tokenizer(folder).token_id("e")
    for prompt in random_prompts(model.config, 20):
        # A fixed token is chosen: the server leaves probabilities out where the text is half a
        # character. The probabilities are those before the choice.
        answer = server.greedy(prompt, 1, n_probs=10, logit_bias=[[letter, 1e6]])
        ours = logits_of(model, torch.tensor([prompt]))[0, -1].log_softmax(-1)
        likeliest = answer["completion_probabilities"][0]["top_logprobs"]
        assert len(likeliest) == 10
        for token in likeliest:
            assert abs(token["logprob"] - float(ours[token["id"]])) < LOGPROB_ERROR


def test_llama_cpp_computes_the_same_probabilities(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason=WITHOUT)
    assert_same_probabilities(checkpoint, tmp_path / "out.gguf")


def test_llama_cpp_cuts_text_into_the_same_tokens(
    checkpoint: Path, own_server: LlamaServer
) -> None:
    ours = read_tokenizer(checkpoint)
    for text in TEXTS:
        assert own_server.tokens(text) == ours.encode(text)


def test_infill_asks_with_the_models_markers(checkpoint: Path, own_server: LlamaServer) -> None:
    answer = own_server.post(
        "/infill",
        {"input_prefix": "return ", "input_suffix": " + 1", "n_predict": 4, "temperature": 0},
    )
    middle = "<|fim_middle|>" if read_config(checkpoint).fim_layout == OWN.name else "<|pad|>"
    assert answer["prompt"] == f"<|fim_prefix|>return <|fim_suffix|> + 1{middle}"
    assert answer["tokens_predicted"] > 0


def test_the_end_of_a_middle_ends_a_generation(checkpoint: Path, own_server: LlamaServer) -> None:
    eom = read_tokenizer(checkpoint).special.eom
    answer = own_server.greedy([5, "b", 4, "a"], 8, logit_bias=[[eom, 1e6]])
    assert (answer["stop_type"], answer["content"]) == ("eos", "")


@pytest.mark.parametrize(("name", "tokenizer", "changes"), FOREIGN.values(), ids=FOREIGN)
def test_llama_cpp_runs_other_families(
    tmp_path: Path, name: str, tokenizer: Any, changes: dict[str, Any]
) -> None:
    pytest.importorskip("xllamacpp", reason=WITHOUT)
    folder = foreign_checkpoint(tmp_path / "checkpoint", name, tokenizer(), **changes)
    assert_same_probabilities(folder, tmp_path / "f32.gguf")
    server = LlamaServer(export_gguf(folder, tmp_path / "f16.gguf").path)
    text = read_tokenizer(folder)
    body = {"input_prefix": "a", "input_suffix": "b", "n_predict": 2, "temperature": 0}
    assert server.post("/infill", body)["tokens_predicted"] > 0
    for sample in TEXTS:
        assert server.tokens(sample) == text.encode_opening(sample)


# The model that ships.


def default_prompts() -> list[list[int]]:
    """Holes of one line in this file."""
    folder = default_checkpoint()
    tokenizer, joined = read_tokenizer(folder), read_config(folder).fim_layout != OWN.name
    special = tokenizer.special
    code = Path(__file__).read_text(encoding="utf-8").splitlines(keepends=True)
    found = []
    for number in range(PROMPTS):
        at = 20 + 9 * number
        prefix, suffix = "".join(code[at - 12 : at]), "".join(code[at + 1 : at + 6])
        ids = [special.suffix, *tokenizer.encode(suffix), special.prefix, *tokenizer.encode(prefix)]
        found.append(ids if joined else [*ids, special.middle])
    return found


def test_llama_cpp_completes_as_the_default_model_does(tmp_path: Path) -> None:
    """The greedy middles of twenty prompts in f16 equal the float32 network's, the end included."""
    pytest.importorskip("xllamacpp", reason=WITHOUT)
    folder = default_checkpoint()
    server = LlamaServer(export_gguf(folder, tmp_path / "f16.gguf").path)
    model, end = load_model(folder), read_tokenizer(folder).special.eom
    ended = 0
    for prompt in default_prompts():
        answer = server.greedy(prompt, DECODED)
        found = list(answer["tokens"])
        if answer["stop_type"] == "eos" and found[-1:] != [end]:
            found.append(end)
        ended += answer["stop_type"] == "eos"
        assert found == greedy(model, prompt, DECODED, end)
    assert ended


@pytest.fixture(scope="module")
def eight_bits(tmp_path_factory: pytest.TempPathFactory) -> LlamaServer:
    """The default model, as `fim-server models export` writes it with `--dtype q8_0`."""
    pytest.importorskip("xllamacpp", reason=WITHOUT)
    path = tmp_path_factory.mktemp("q8") / "default.gguf"
    written = export_gguf(default_checkpoint(), path, "q8_0")
    assert read_gguf(path).licence == "apache-2.0"
    assert written.suffix_first
    return LlamaServer(path)


def test_infill_completes_with_the_default_model(eight_bits: LlamaServer) -> None:
    """The prompt of `/infill`, with its halves in the order of `llama-server --spm-infill`."""
    prefix, suffix = "def add(a, b):\n    return a", "\n\n\nprint(add(1, 2))\n"
    hole = {"input_prefix": prefix, "input_suffix": suffix, "n_predict": 8, "temperature": 0}
    asked = eight_bits.post("/infill", hole)
    first, second, middle = f"<|fim_prefix|>{prefix}", f"<|fim_suffix|>{suffix}", "<|pad|>"
    assert asked["prompt"] == f"{first}{second}{middle}"
    assert asked["tokens_predicted"] > 0
    answer = eight_bits.greedy(f"{second}{first}{middle}", 4)
    assert answer["content"].splitlines()[0] == " + b"


def test_llama_cpp_runs_the_default_model_in_eight_bits(eight_bits: LlamaServer) -> None:
    """It also rounds activations to eight bits, so that close calls may fall differently."""
    folder, server = default_checkpoint(), eight_bits
    model = load_model(folder)
    end = read_tokenizer(folder).special.eom
    prompts = default_prompts()
    firsts = [(server.greedy(prompt, 1)["tokens"] or [end])[0] for prompt in prompts]
    wanted = [greedy(model, prompt, 1, end)[0] for prompt in prompts]
    assert sum(a == b for a, b in zip(firsts, wanted, strict=True)) >= 0.8 * PROMPTS
