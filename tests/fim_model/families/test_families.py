"""AR families through the same transformer: parity with transformers, prompts, tokenizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import byte_level, nld_checkpoint, random_weights, sentence_piece, tekken
from fim_model.decoding.modes import MODES
from fim_model.errors import CheckpointError, ConfigError
from fim_model.families.architectures import BLOCK_MODES, CAUSAL_MODES, FAMILIES
from fim_model.families.fim_layouts import (
    CODE_LLAMA,
    DEEPSEEK,
    LEFT_TO_RIGHT,
    OWN,
    QWEN,
    FimLayout,
    Slot,
)
from fim_model.infiller import Infiller
from fim_model.loading.checkpoint import load_model
from fim_model.loading.headers import read_config, weight_shapes
from fim_model.network.attention_mask import Attention
from fim_model.network.config import ModelConfig
from fim_model.network.kv_cache import KVCache
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.fim_prompt import FimPrompt, PromptBudget
from fim_model.prompt.tokenizer import CodeTokenizer, TokenizerError
from fim_model.requests import NATIVE, CompletionRequest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

SHAPE: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
YARN = {
    "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 1e5, "factor": 4.0}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {}),
    "qwen2, tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2, other theta": ("Qwen2", {"rope_parameters": {"rope_type": "default",
                                                         "rope_theta": 1e6}}),
    "qwen2, yarn": ("Qwen2", {"rope_parameters": YARN}),
    "qwen2, sliding window unused": ("Qwen2", {"use_sliding_window": False, "sliding_window": 8}),
    "qwen2, sliding window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 400,
                                        "max_window_layers": 1}),
    "llama": ("Llama", {}),
    "llama, old": ("Llama", {"num_key_value_heads": 4, "rms_norm_eps": 1e-5}),
    "llama, wide heads": ("Llama", {"head_dim": 16}),
    "llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, llama3 rope": ("Llama", {"rope_parameters": LLAMA3}),
    "llama, linear rope": ("Llama", {"rope_parameters": LINEAR}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral, sliding window": ("Mistral", {"sliding_window": 350}),
    "ministral3": ("Ministral3", {"head_dim": 8}),
}  # fmt: skip


def theirs(name: str, changes: dict[str, Any], seed: int = 0) -> Any:
    import transformers

    config = getattr(transformers, f"{name}Config")(**(SHAPE | changes))
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    random_weights(model, seed)
    return model


def tokens_of(count: int) -> torch.Tensor:
    return torch.randint(400, (1, count), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "changes"), CASES.values(), ids=CASES)
def test_logits_equal_those_of_transformers(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    """Saved by transformers, loaded by us; 300 positions, prefilled in two parts."""
    model = theirs(name, changes)
    model.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    tokens = tokens_of(300)
    cache = KVCache(ours.config, capacity=300)
    found = []
    with torch.no_grad():
        wanted = model(tokens).logits
        for start, end in ((0, 170), (170, 300)):
            positions = torch.arange(start, end)[None]
            hidden = ours(tokens[:, start:end], positions, Attention.CAUSAL, cache)
            cache.advance(end - start)
            found.append(ours.logits(hidden))
    assert wanted.std() > 1
    assert (torch.cat(found, dim=1) - wanted).abs().max() < 1e-4
    assert ours.config.modes == CAUSAL_MODES


@pytest.mark.parametrize(("name", "changes"), CASES.values(), ids=CASES)
def test_the_list_of_tensors_matches_the_model(name: str, changes: dict[str, Any]) -> None:
    import transformers

    config = ModelConfig.from_hf(
        getattr(transformers, f"{name}Config")(**(SHAPE | changes)).to_dict()
    )
    with torch.device("meta"):
        state = TriModeTransformer(config).state_dict()
    if config.tie_word_embeddings:
        del state["lm_head.weight"]
    assert weight_shapes(config) == {name: tuple(t.shape) for name, t in state.items()}


def test_older_configs_mean_what_they_mean_to_transformers(tmp_path: Path) -> None:
    """Top-level `rope_scaling` and `rope_theta`, no head_dim, nulls: Code Llama, DeepSeek."""
    model = theirs("Llama", {"rope_parameters": LINEAR, "num_key_value_heads": 4})
    model.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    for name in ("rope_parameters", "head_dim", "num_key_value_heads", "tie_word_embeddings",
                 "attention_bias", "mlp_bias"):  # fmt: skip
        del raw[name]
    old = {"rope_theta": 1e5, "rope_scaling": {"type": "linear", "factor": 4.0}, "head_dim": None}
    (tmp_path / "config.json").write_text(json.dumps(raw | old))
    tokens = tokens_of(100)
    ours = load_model(tmp_path)
    with torch.no_grad():
        hidden = ours(tokens, torch.arange(100)[None], Attention.CAUSAL)
        assert (ours.logits(hidden) - model(tokens).logits).abs().max() < 1e-4


def test_a_model_stays_within_its_sliding_window(tmp_path: Path) -> None:
    checkpoint(tmp_path, "Mistral", mistral_tokenizer(), {"sliding_window": 420})
    infiller = Infiller.load(tmp_path)
    assert infiller._new_cache().kv.capacity <= 420
    assert len(infiller.prompt(CompletionRequest("x = 1\n" * 300, "y\n" * 300))) < 420 - 256
    checkpoint(tmp_path, "Mistral", mistral_tokenizer(), {"sliding_window": 100})
    with pytest.raises(CheckpointError, match="sliding window of 100 tokens leaves no room"):
        Infiller.load(tmp_path)


# Prompts


def qwen_tokenizer() -> Tokenizer:
    """Qwen's FIM tokens are added tokens, but not marked special."""
    names = ["<|endoftext|>", *(part for part in QWEN.order if isinstance(part, str)), *QWEN.stops]
    special = ["<|endoftext|>", "<|im_end|>"]
    added = [AddedToken(n, special=False, normalized=False) for n in dict.fromkeys(names[1:])]
    return byte_level(special, added=added)


def llama_tokenizer() -> Tokenizer:
    return sentence_piece(["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"])


def deepseek_tokenizer() -> Tokenizer:
    control = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"]
    markers = [part for part in DEEPSEEK.order if isinstance(part, str)]
    return byte_level(control, added=[AddedToken(name, special=False) for name in markers])


def mistral_tokenizer() -> Tokenizer:
    return sentence_piece(["[PREFIX]", "[MIDDLE]", "[SUFFIX]"], metaspace=True)


def checkpoint(
    folder: Path, name: str, tokenizer: Tokenizer, changes: dict[str, Any] | None = None
) -> Path:
    theirs(name, changes or {}).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def prompt_names(infiller: Infiller, prefix: str, suffix: str) -> list[str]:
    tokenizer = infiller.tokenizer
    ids = infiller.prompt(CompletionRequest(prefix, suffix, path="a/b.py"))
    return [
        tokenizer.token_text(i) if not tokenizer.token_bytes(i) else tokenizer.decode([i])
        for i in ids
    ]


@pytest.mark.parametrize(
    ("name", "tokenizer", "prompt", "end"),
    [
        ("Qwen2", qwen_tokenizer,
         "<|fim_prefix|> a <|fim_suffix|> b <|fim_middle|>", "<|endoftext|>"),
        ("Llama", llama_tokenizer, "<s> ▁<PRE>   a ▁<SUF> b ▁<MID>", "▁<EOT>"),
        ("Llama", deepseek_tokenizer,
         "<｜end▁of▁sentence｜> <｜fim▁begin｜> a <｜fim▁hole｜> b <｜fim▁end｜>", ""),
        ("Mistral", mistral_tokenizer, "<s> [SUFFIX] b [PREFIX]   a", "</s>"),
        ("Ministral3", tekken, "<s> [SUFFIX] b [PREFIX]", "</s>"),  # the hole spells "a"
    ],
)  # fmt: skip
def test_each_familys_prompt(
    tmp_path: Path, name: str, tokenizer: Any, prompt: str, end: str
) -> None:
    changes = {"head_dim": 8} if name == "Ministral3" else {}
    infiller = Infiller.load(checkpoint(tmp_path, name, tokenizer(), changes))
    assert " ".join(prompt_names(infiller, "a", "b")) == prompt
    if end:
        assert infiller.tokenizer.token_text(infiller.fim.eom) == end
    else:
        assert infiller.fim.eom == 2  # the config's end of text
    assert infiller.fim.layout.verified is (name != "Ministral3")


def test_end_tokens_beside_the_end_of_middle_end_a_hole_too(tmp_path: Path) -> None:
    infiller = Infiller.load(checkpoint(tmp_path, "Qwen2", qwen_tokenizer()))
    names = {infiller.tokenizer.token_text(i) for i in infiller.fim.stops}
    assert names >= {"<|file_sep|>", "<|fim_pad|>", "<|repo_name|>", "<|im_end|>"}


def test_the_default_models_prompt_equals_that_of_training(tiny_tokenizer: Any) -> None:
    s, encode = tiny_tokenizer.special, tiny_tokenizer.encode
    budget = PromptBudget(total=100, suffix=10)
    assert FimPrompt.own(tiny_tokenizer)("a = ", "\nb", "x/y/z.py", budget) == [
        s.file, *encode("y/z.py"), s.suffix, *encode("\nb"), s.prefix, *encode("a = "), s.middle,
    ]  # fmt: skip
    assert FimPrompt.own(tiny_tokenizer)("", "", "", budget) == [s.suffix, s.prefix, s.middle]


@pytest.mark.parametrize("name", ["Qwen2", "Llama", "Mistral"])
def test_a_checkpoint_without_fim_tokens_completes_left_to_right(tmp_path: Path, name: str) -> None:
    """The prompt is the prefix alone: the suffix changes nothing."""
    checkpoint(tmp_path, name, byte_level(["<s>"]))
    infiller = Infiller.load(tmp_path)
    assert infiller.fim.layout is LEFT_TO_RIGHT
    prompts = [
        infiller.prompt(CompletionRequest("def f():\n    return ", suffix))
        for suffix in ("", "\n\nclass A:\n")
    ]
    assert prompts[0] == prompts[1]
    assert "def f" in infiller.tokenizer.decode(prompts[0])
    assert infiller.infill(CompletionRequest("a = ", "", max_tokens=3)).items
    assert infiller.infill(CompletionRequest("", "", max_tokens=3)).items


def test_an_unsupported_model_type_names_the_supported_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt_bigcode"}')
    with pytest.raises(CheckpointError) as caught:
        read_config(tmp_path)
    assert "'gpt_bigcode' is not supported" in str(caught.value)
    # A row that another one turns into is not written in a config.
    written = FAMILIES.keys() - {family.masked for family in FAMILIES.values()}
    assert all(repr(name) in str(caught.value) for name in written)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "rope_type 'dynamic'"),
        ({"rope_scaling": {"type": "yarn", "factor": 2}}, "original_max_position_embeddings"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"num_attention_heads": 5}, "head_dim|multiple"),
        ({"attention_bias": "yes"}, "query_bias must be true or false"),
    ],
)
def test_unsupported_architecture_options_are_refused(change: dict[str, Any], says: str) -> None:
    raw = SHAPE | {"model_type": "llama", "rms_norm_eps": 1e-5, "rope_theta": 1e4} | change
    with pytest.raises(ConfigError, match=says):
        ModelConfig.from_hf(raw)


# Modes


def test_the_mode_tables_match_the_decoding_modes() -> None:
    assert set(BLOCK_MODES) == {*MODES, NATIVE}
    assert set(CAUSAL_MODES) < set(BLOCK_MODES)


@pytest.mark.parametrize("mode", sorted(set(BLOCK_MODES) - set(CAUSAL_MODES)))
def test_a_causal_model_names_its_modes(tmp_path: Path, mode: str) -> None:
    infiller = Infiller.load(checkpoint(tmp_path, "Qwen2", qwen_tokenizer()))
    with pytest.raises(ValueError, match=r"this qwen2 model has the modes adaptive, lookup, ar"):
        infiller.infill(CompletionRequest("a", "b", mode=mode))


@pytest.mark.parametrize(
    ("name", "tokenizer"), [("Qwen2", qwen_tokenizer), ("Llama", llama_tokenizer)]
)
def test_causal_models_fill_holes_adaptively(tmp_path: Path, name: str, tokenizer: Any) -> None:
    infiller = Infiller.load(checkpoint(tmp_path, name, tokenizer()))
    for temperature in (0.0, 1.0):
        request = CompletionRequest(
            "def f():\n    a", "\n\n", max_tokens=20, temperature=temperature
        )
        result = infiller.infill(request)
        assert result.stats.mode == "adaptive"
        assert result.stats.tokens >= 1
    greedy = CompletionRequest("def f():\n    a", "\n\n", max_tokens=20)
    ar = infiller.infill(CompletionRequest("def f():\n    a", "\n\n", max_tokens=20, mode="ar"))
    assert infiller.infill(greedy).items[0].text == ar.items[0].text


def test_free_memory_is_checked_before_reading_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path, "Qwen2", qwen_tokenizer())
    monkeypatch.setattr("fim_model.loading.memory.available_bytes", lambda device: 10_000)
    with pytest.raises(CheckpointError, match=r"the model needs .* in float32 .* cpu has .* free"):
        Infiller.load(tmp_path)


def test_dtype_and_device_are_as_requested(tmp_path: Path) -> None:
    checkpoint(tmp_path, "Qwen2", qwen_tokenizer())
    infiller = Infiller.load(tmp_path, device="cpu", dtype=torch.bfloat16)
    assert infiller.model.dtype == torch.bfloat16
    assert infiller.infill(CompletionRequest("a", "b", max_tokens=3)).stats.tokens >= 1
    assert Infiller.load(tmp_path, device="cpu").model.dtype == torch.float32


# Tokenizers: code in the hole round-trips byte for byte

TOKENIZERS = {
    "qwen": qwen_tokenizer(),
    "deepseek": deepseek_tokenizer(),
    "tekken": tekken(),
    "llama": llama_tokenizer(),
    "mistral": mistral_tokenizer(),
}
PIECES = [" ", "  ", "\t", "\n", "\r\n", "▁", "def", "x", "=", "é", "e\u0301", "😀", "\u2028", "�",
          "<s>", "[SUFFIX]", "▁<PRE>", "<|fim_middle|>", "<｜fim▁hole｜>", "<0x0A>", "<unk>", "Ġ",
          "\x00"]  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=st.lists(st.sampled_from(PIECES)).map("".join) | st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_code_round_trips_byte_for_byte(name: str, text: str) -> None:
    tokenizer = CODE_TOKENIZERS[name]
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert tokenizer.encode_batch([text]) == [ids]
    assert not CONTROL[name] & set(ids)


CODE_TOKENIZERS = {name: CodeTokenizer(tokenizer, None) for name, tokenizer in TOKENIZERS.items()}
CONTROL = {
    name: {
        i for i, token in tokenizer.get_added_tokens_decoder().items() if token.content != "<unk>"
    }
    for name, tokenizer in TOKENIZERS.items()
}


def test_sentence_piece_prepends_a_space_to_a_text_but_not_to_a_middle() -> None:
    tokenizer = CODE_TOKENIZERS["llama"]
    assert tokenizer.decode(tokenizer.encode_opening("def")) == " def"
    assert tokenizer.decode(tokenizer.encode("def")) == "def"
    # As the whole tokenizer does, including its prepended space.
    assert tokenizer.encode_opening("def x") == llama_tokenizer().encode("def x").ids
    byte_level_one = CODE_TOKENIZERS["qwen"]
    assert byte_level_one.encode_opening("def") == byte_level_one.encode("def")


def test_ids_beyond_the_tokenizer_decode_to_nothing() -> None:
    """Embeddings are padded to a divisible size, beyond the tokenizer's tokens."""
    tokenizer = CodeTokenizer(qwen_tokenizer(), None, ids=400)
    assert tokenizer.vocab_size < 399
    assert tokenizer.decode([399]) == ""


def test_a_lossy_tokenizer_is_refused(tmp_path: Path) -> None:
    from tokenizers import models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "words.json"))
    with pytest.raises(TokenizerError, match=r"words\.json cannot be used for code: .* neither"):
        CodeTokenizer.from_file(tmp_path / "words.json", None)


def test_another_familys_tokenizer_lacks_our_special_tokens() -> None:
    with pytest.raises(LookupError):
        assert CODE_TOKENIZERS["qwen"].special


def test_every_layout_has_both_sides_and_an_end() -> None:
    layouts: set[FimLayout] = {layout for family in FAMILIES.values() for layout in family.layouts}
    assert {OWN, QWEN, CODE_LLAMA, DEEPSEEK} <= layouts
    for layout in layouts:
        assert layout.order.count(Slot.PREFIX) == layout.order.count(Slot.SUFFIX) == 1
        assert layout.source


def test_the_first_layout_with_known_tokens_is_used(tmp_path: Path) -> None:
    nld_checkpoint(tmp_path)
    config = read_config(tmp_path)
    assert FimPrompt.for_model(config, CodeTokenizer(tekken(), None)).layout.name == "Tekken"
