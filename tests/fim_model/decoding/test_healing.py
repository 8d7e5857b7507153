"""Token healing: the prompt ends at a settled token border; the hole first spells the rest."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from fim_model.decoding.core import ForwardKind, Step
from fim_model.decoding.healing import PROBES, Continuations, left_to_spell, restricted
from fim_model.decoding.modes import MODES
from fim_model.families.fim_layouts import JOINED, OWN
from fim_model.infiller import Infiller
from fim_model.loading.gguf_tokenizer import PRE_TOKENIZERS
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.fim_prompt import FimPrompt, PromptBudget
from fim_model.prompt.line_limit import line_limit
from fim_model.prompt.tokenizer import LONGEST_UNSETTLED, CodeTokenizer
from fim_model.requests import CompletionItem, CompletionRequest
from fim_training.base.train_tokenizer import SPECIAL_TOKENS, train
from hypothesis import assume, example, given
from hypothesis import strategies as st
from small_models import bigram
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = """\
def area(width, height):
    # it's what they're told: we'll see
    if width == 10 and height != 255:
        return width * height


print(area(2, 3))
"""
PREFIX = TEXT[: TEXT.index("th * height")]
SUFFIX = "\n\n\nprint(area(2, 3))\n"
WORDS = ("own", *PRE_TOKENIZERS)

texts = st.one_of(
    st.integers(0, len(TEXT)).map(lambda at: TEXT[:at]),
    st.text(st.sampled_from("arel'’s0 1\n\t(:_é😀"), max_size=60),
    st.text(max_size=12),
)
continuations = st.one_of(
    st.sampled_from(["re", "e", "l", "ll", "th", " ", "\n", "\n\n", "0", ")", "é", "x = 1\n"]),
    st.text(max_size=6),
)


@cache
def tokenizer_of(words: str) -> CodeTokenizer:
    """A tokenizer with this project's special tokens and the given pre-tokenizer `words`."""
    if words == "own":
        return CodeTokenizer(train([TEXT] * 4, 330))
    raw = json.loads(Tokenizer(models.BPE()).to_str())
    tokenizer = Tokenizer.from_str(json.dumps(raw | {"pre_tokenizer": PRE_TOKENIZERS[words]}))
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    return CodeTokenizer(tokenizer)


def joined(words: str = "smollm") -> FimPrompt:
    return FimPrompt.own(tokenizer_of(words), JOINED)


# Where the prompt ends.


@pytest.mark.parametrize("words", WORDS)
@given(text=texts, continuation=continuations)
@example(text="they'r", continuation="e")
@example(text="we'l", continuation="l")
@example(text="a \n  ", continuation="\n")
@example(text="a\n\n\nprint", continuation="(")
@example(text="a\n\tb", continuation="c")
def test_settled_tokens_do_not_depend_on_what_follows(
    words: str, text: str, continuation: str
) -> None:
    """Tokenising the settled part and the rest separately gives the tokens of the whole text."""
    tokenizer = tokenizer_of(words)
    settled, rest = joined(words).split(text)
    assert settled + rest == text
    assume(rest or not text)  # a word longer than LONGEST_UNSETTLED
    whole = tokenizer.encode(text + continuation)
    assert tokenizer.encode(settled) + tokenizer.encode(rest + continuation) == whole


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("", ""),
        ("    return wid", " wid"),
        ("x = f(", "("),
        ("x = f(a", "a"),
        ("def f():\n    ", "\n    "),
        ("n = 12", "2"),
        ("they'r", "'r"),
        ("they're", "'re"),
        ("x = 'r", "r"),
        ("a\n\n\nprint", "\nprint"),
        ("a\n    print", " print"),
        ("a" * LONGEST_UNSETTLED, "a" * LONGEST_UNSETTLED),
        ("a" * (LONGEST_UNSETTLED + 1), ""),
    ],
)
def test_the_rest_is_the_last_word(text: str, rest: str) -> None:
    assert joined().split(text) == (text.removesuffix(rest), rest)


def test_a_layout_with_a_marker_before_the_middle_needs_no_healing() -> None:
    prompt = FimPrompt.own(tokenizer_of("smollm"), OWN)
    assert prompt.split("    return wid") == ("    return wid", "")


def test_lone_surrogates_become_text() -> None:
    settled, rest = joined().split("x = '\ud83d")
    assert (settled + rest).encode() == "x = '\ufffd".encode()


@pytest.mark.parametrize("words", WORDS)
@given(text=texts)
@example(text="\n\n0:")
@example(text="a\n\n\nprint(x)\n\n\ty")
def test_typing_only_appends_to_the_prompt(words: str, text: str) -> None:
    """The KV of an earlier prompt stays valid."""
    prompt, budget = joined(words), PromptBudget(4000, 20)
    earlier: list[int] = []
    for end in range(len(text) + 1):
        settled, rest = prompt.split(text[:end])
        ids = prompt(settled, SUFFIX, "a.py", budget)
        assume(rest or not text[:end])
        assert ids[: len(earlier)] == earlier
        earlier = ids


# Which tokens may spell the rest.


@pytest.mark.parametrize("words", ["own", "smollm"])
@given(text=texts)
def test_choices_are_tokens_that_spell_the_text_or_its_beginning(words: str, text: str) -> None:
    tokenizer, typed = tokenizer_of(words), text[-8:]
    assume(typed)
    choices = Continuations(tokenizer).choices(typed.encode())
    assert len(set(choices)) == len(choices)
    pieces = {i: tokenizer.token_bytes(i) for i in choices}
    assert all(pieces.values()), "no special token"
    for piece in pieces.values():
        assert piece.startswith(typed.encode()) or typed.encode().startswith(piece)
    covering = {i for i in range(tokenizer.vocab_size)
                if tokenizer.token_bytes(i).startswith(typed.encode())}  # fmt: skip
    assert covering <= set(choices)
    assert {tokenizer.encode(typed + probe)[0] for probe in PROBES} <= set(choices)


def test_choices_exclude_tokens_that_the_tokenizer_never_produces() -> None:
    """The merges always join the space with the first letters of ` return`."""
    tokenizer = tokenizer_of("smollm")
    choices = Continuations(tokenizer).choices(b" return")
    assert tokenizer.token_id("Ġ") not in choices
    assert min(len(tokenizer.token_bytes(i)) for i in choices) > 1


def test_choices_within_a_character() -> None:
    """The text to spell begins within a character, so a token of its single byte is allowed."""
    tokenizer = tokenizer_of("smollm")
    tail = "é".encode()[1:]
    choices = Continuations(tokenizer).choices(tail + b"a")
    assert {tokenizer.token_bytes(i) for i in choices} == {tail}


def test_what_is_left_to_spell() -> None:
    assert left_to_spell(b"width", b"wi") == b"dth"
    assert left_to_spell(b"wid", b"width") == b""


def test_restricted_logits() -> None:
    logits = torch.arange(10.0).view(2, 5)
    found = restricted(logits, [1, 3])
    assert torch.equal(found[:, [1, 3]], logits[:, [1, 3]])
    assert torch.isinf(found[:, [0, 2, 4]]).all()


# Filling.


@pytest.fixture(scope="module")
def model(tiny: Any) -> TriModeTransformer:
    tokenizer = tokenizer_of("smollm")
    made = tiny.model(
        7,
        vocab_size=tokenizer.vocab_size,
        mask_token_id=tokenizer.special.mask,
        block_size=8,
        tie_word_embeddings=False,
        scale=0.7,
        fim_layout=JOINED.name,
    )
    assert isinstance(made, TriModeTransformer)
    return made


@pytest.fixture
def infiller(model: TriModeTransformer) -> Infiller:
    return Infiller(model, tokenizer_of("smollm"))


def request(prefix: str = PREFIX, **changes: Any) -> CompletionRequest:
    return CompletionRequest(**({"prefix": prefix, "suffix": SUFFIX, "max_tokens": 12} | changes))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "prefix", [PREFIX, TEXT[:40], "def f():\n    ", "s = 'é", "x = 12345", "t = they'r"]
)
def test_a_hole_in_mid_word_spells_what_was_typed(
    infiller: Infiller, mode: str, temperature: float, prefix: str
) -> None:
    """The tokens begin with exactly the typed text; the item begins at the cursor."""
    typed = infiller.fim.split(prefix)[1]
    assert typed
    steps: list[Step] = []
    asked = request(prefix, mode=mode, temperature=temperature)
    item = infiller.infill(asked, on_step=steps.append).items[0]
    text = infiller.tokenizer.decode(steps[-1].hole)
    assert text.startswith(typed)
    assert item.text == text[len(typed) :]
    assert {step.typed for step in steps} == {len(typed)}
    assert steps[0].kind is ForwardKind.PREFILL


def test_the_typed_text_may_take_several_tokens(infiller: Infiller) -> None:
    """One causal forward for each token after the first."""
    prefix = "x = 1\nzqzqzqzq"
    steps: list[Step] = []
    infiller.infill(request(prefix, mode="diffusion"), on_step=steps.append)
    spelled = next(n for n, step in enumerate(steps, 1)
                   if infiller.tokenizer.decode(step.hole).startswith("zqzqzqzq"))  # fmt: skip
    assert spelled > 4
    assert {step.kind for step in steps[1:spelled]} == {ForwardKind.CAUSAL}


def outcome(items: list[CompletionItem]) -> list[tuple[str, str]]:
    return [(item.text, item.finish) for item in items]


@pytest.mark.parametrize(
    "mode", ["self_speculation", "quadratic_speculation", "lookup", "adaptive"]
)
@pytest.mark.parametrize("prefix", [PREFIX, TEXT[:40], "def f():\n    ", "x = 1\nzqzqzq", "a('"])
def test_greedy_speculation_gives_the_text_of_ar(
    infiller: Infiller, mode: str, prefix: str
) -> None:
    wanted = infiller.infill(request(prefix, mode="ar", alternatives=3)).items
    found = infiller.infill(request(prefix, mode=mode, alternatives=3)).items
    assert outcome(found) == outcome(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.nats == pytest.approx(theirs.nats, rel=1e-3, abs=1e-3)


def test_alternatives_spell_the_typed_text_too(infiller: Infiller) -> None:
    """They differ in their first token as long as several tokens fit."""
    typed = infiller.fim.split(PREFIX)[1].encode()
    steps: list[Step] = []
    infiller.infill(request(mode="ar", alternatives=5), on_step=steps.append)
    firsts = [step.hole[0] for step in steps if step.kind is ForwardKind.PREFILL]
    choices = infiller.continuations.choices(typed)
    assert len(firsts) == len(set(firsts)) == min(5, len(choices))
    assert set(firsts) <= set(choices)


def test_a_document_that_ends_in_half_a_character(infiller: Infiller) -> None:
    assert infiller.infill(request("x = '\ud83d", mode="ar")).items


def test_typing_reuses_the_prompts_kv(infiller: Infiller) -> None:
    read = 0
    for end in range(len(PREFIX) - 12, len(PREFIX) + 1):
        result = infiller.infill(request(PREFIX[:end], mode="ar", session="s"))
        assert result.stats.reused_tokens >= read - 1
        read = result.stats.prefill_tokens + result.stats.reused_tokens


# Line limits.


@pytest.mark.parametrize("typed", ["):\n    ", "\n", "\n\n"])
def test_a_line_limit_does_not_count_typed_newlines(typed: str) -> None:
    tokenizer = tokenizer_of("smollm")
    ids = tokenizer.encode(typed + "x = 1\n")
    done = line_limit(tokenizer, 1, len(typed))
    ends = [done(ids[:end]) for end in range(1, len(ids) + 1)]
    assert ends == [False] * (len(ids) - 1) + [True]


def test_a_one_line_hole_after_a_typed_newline(model: TriModeTransformer) -> None:
    """The typed newline is the hole's first token and does not count as a line."""
    tokenizer = tokenizer_of("smollm")
    (newline,), (x,) = tokenizer.encode("\n"), tokenizer.encode("x")
    infiller = Infiller(bigram(model.config, {x: newline}, x), tokenizer)
    for prefix, lines, text in (
        ("y = x\n", 1, "x"),
        ("y = x\n", 2, "x\nx"),
        ("y = x", 1, "\nx"),
    ):
        item = infiller.infill(request(prefix, mode="ar", max_lines=lines)).items[0]
        assert (item.text, item.finish) == (text, "lines")
