"""Rewriting of regions: the text by either way (edit prompt or refill), and its cost."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from checkpoints import byte_level
from fim_model.decoding.core import ForwardKind, Step, StopRule
from fim_model.decoding.reference import autoregressive, causal_logits
from fim_model.decoding.revise_region import RegionReviser
from fim_model.errors import Cancelled
from fim_model.families.fim_layouts import QWEN
from fim_model.infiller import Infiller
from fim_model.network.config import ModelConfig
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import MAX_TOKENS, PastEdit, Rewrite, RewriteRequest
from small_models import bigram, likely

PREFIX = "def area(width, height):\n"
OLD = "    return width * height\n"
SUFFIX = "\n\nprint(area(2, 3))\n"
EDITS = (PastEdit("def area(w, h):\n", "def area(width, height):\n"), PastEdit("b\n", ""))


@pytest.fixture(scope="module")
def config(tiny: Any, tiny_tokenizer: CodeTokenizer) -> ModelConfig:
    made = tiny.config(
        vocab_size=tiny_tokenizer.vocab_size,
        mask_token_id=tiny_tokenizer.special.mask,
        block_size=8,
        hidden_size=64,
        fim_edits=True,
    )
    assert isinstance(made, ModelConfig)
    return made


@pytest.fixture(scope="module")
def same(config: ModelConfig, tiny_tokenizer: CodeTokenizer) -> Infiller:
    """Next tokens of a model that leaves `x = y` and the line's end unchanged."""
    return writer(config, tiny_tokenizer, "x = y\n")


def writer(config: ModelConfig, tokenizer: CodeTokenizer, text: str) -> Infiller:
    """A model that writes this text after any prompt. The text's tokens must be distinct."""
    ids = [tokenizer.special.middle, *tokenizer.encode(text), tokenizer.special.eom]
    assert len(set(ids)) == len(ids)
    follows = dict(pairwise(ids))
    return Infiller(bigram(config, follows, tokenizer.special.pad), tokenizer)


def request(**changes: Any) -> RewriteRequest:
    return RewriteRequest(
        **({"prefix": PREFIX, "old": OLD, "suffix": SUFFIX, "edits": EDITS} | changes)
    )


def test_the_prompt_equals_that_of_training(same: Infiller, tiny_tokenizer: CodeTokenizer) -> None:
    special, encode = tiny_tokenizer.special, tiny_tokenizer.encode
    assert same.rewriter.prompt(request(path="src/shapes/area.py")) == [
        special.file, *encode("shapes/area.py"),
        special.edit, *encode(EDITS[0].old), special.new, *encode(EDITS[0].new),
        special.edit, *encode(EDITS[1].old), special.new,
        special.suffix, *encode(SUFFIX), special.prefix, *encode(PREFIX),
        special.old, *encode(OLD), special.middle,
    ]  # fmt: skip


def test_an_unchanged_region_costs_one_forward(same: Infiller) -> None:
    steps: list[Step] = []
    result = same.rewrite(request(old="x = y\n"), on_step=steps.append)
    assert (result.new, result.gain, result.way) == ("x = y\n", 0.0, "rewrite")
    assert result.forwards == len(steps) == 1
    assert steps[0].kind is ForwardKind.PREFILL
    assert result.tokens == len(same.tokenizer.encode("x = y\n")) + 1


def test_a_changed_region(same: Infiller) -> None:
    steps: list[Step] = []
    result = same.rewrite(request(old="x = z\n"), on_step=steps.append)
    assert result.new == "x = y\n"
    assert result.gain == pytest.approx(gain(same, request(old="x = z\n"), "x = y\n"), rel=1e-3)
    assert result.gain > 1
    assert result.forwards == len(steps)
    nats = log_p(same, request(old="x = z\n"), "x = y\n")
    assert result.confidence == pytest.approx(2.718281828 ** (nats / result.tokens), rel=1e-3)


def gain(infiller: Infiller, asked: RewriteRequest, new: str) -> float:
    return log_p(infiller, asked, new) - log_p(infiller, asked, asked.old)


def log_p(infiller: Infiller, asked: RewriteRequest, text: str) -> float:
    prompt, ids = infiller.rewriter.prompt(asked), infiller.tokenizer.encode(text)
    rows = causal_logits(infiller.model, [*prompt, *ids])[len(prompt) - 1 :].log_softmax(-1)
    ids = [*ids, infiller.tokenizer.special.eom]
    return sum(float(row[token]) for row, token in zip(rows, ids, strict=True))


def test_a_region_may_vanish_or_appear(config: ModelConfig, tiny_tokenizer: CodeTokenizer) -> None:
    assert writer(config, tiny_tokenizer, "").rewrite(request(old="x = y\n")).new == ""
    assert writer(config, tiny_tokenizer, "x = y\n").rewrite(request(old="")).new == "x = y\n"


@pytest.mark.parametrize("seed", range(4))
def test_random_models_write_what_ar_writes(
    tiny: Any, config: ModelConfig, tiny_tokenizer: CodeTokenizer, seed: int
) -> None:
    model = tiny.model(
        seed, vocab_size=config.vocab_size, mask_token_id=config.mask_token_id, fim_edits=True
    )
    infiller, asked = Infiller(model, tiny_tokenizer), request(max_tokens=6)
    steps: list[Step] = []
    infiller.rewrite(asked, on_step=steps.append)
    limit = len(tiny_tokenizer.encode(OLD)) + asked.max_tokens
    stop = StopRule(tiny_tokenizer.special.eom, limit)
    wanted, _ = autoregressive(model, infiller.rewriter.prompt(asked), stop)
    written = list(steps[-1].hole)
    assert written == wanted[: len(written)], "it may stop, where it cannot win any more"


def test_drafts_are_scored_beside_the_models_own_text(same: Infiller) -> None:
    drafts = ("x = z\n", "y\n", "z = x\n", "x = y\n")
    steps: list[Step] = []
    asked = request(old="z\n", drafts=drafts)
    result = same.rewrite(asked, on_step=steps.append)
    assert (result.new, result.forwards, len(steps)) == ("x = y\n", 1, 1)
    wanted = [gain(same, asked, draft) for draft in drafts]
    assert list(result.draft_gains) == pytest.approx(wanted, rel=1e-3)
    assert result.gain == result.draft_gains[3]


def test_a_draft_wins_once_it_is_likelier_than_the_models_own_text(
    config: ModelConfig, tiny_tokenizer: CodeTokenizer
) -> None:
    """Greedy decoding stops as soon as its text is less likely than the best draft."""
    endless = Infiller(likely(config, tiny_tokenizer.encode("x")[0], 1.0), tiny_tokenizer)
    steps: list[Step] = []
    result = endless.rewrite(request(old="zz\n", drafts=("",)), on_step=steps.append)
    assert (result.new, result.gain) == ("", result.draft_gains[0])
    assert result.forwards == len(steps) < 4


def test_useless_drafts_are_ignored(same: Infiller) -> None:
    huge = "y = z\n" * 200
    result = same.rewrite(request(old="x = z\n", drafts=("x = z\n", huge, "x\n", "x\n")))
    first, second, third, fourth = result.draft_gains
    assert (first, second) == (0.0, None)
    assert third == fourth
    with pytest.raises(ValueError, match="drafts must be at most 8, not 9"):
        request(drafts=("x",) * 9)


def test_text_without_an_end_is_discarded(
    config: ModelConfig, tiny_tokenizer: CodeTokenizer
) -> None:
    endless = Infiller(likely(config, tiny_tokenizer.encode("x")[0], 20.0), tiny_tokenizer)
    result = endless.rewrite(request(max_tokens=3))
    assert (result.new, result.gain) == (OLD, 0.0)
    assert result.tokens == len(tiny_tokenizer.encode(OLD)) + 1


def test_a_rewrite_reuses_the_sessions_kv(same: Infiller) -> None:
    asked = request(old="x = z\n", session="a.py")
    first = same.rewrite(asked)
    assert first.reused_tokens == 0
    size = len(same.rewriter.prompt(asked))
    assert same.rewrite(asked).reused_tokens == size - 1
    # Only the region is new: the text before it is not prefilled again.
    other = same.rewrite(replace(asked, old="y = z\n"))
    assert other.reused_tokens > size - 8
    assert outcome(other) == outcome(same.rewrite(request(old="y = z\n")))
    same.forget("a.py")
    assert same.rewrite(asked).reused_tokens == 0


def outcome(result: Rewrite) -> tuple[object, ...]:
    return result.new, result.forwards, result.tokens


def test_cancelled_between_forwards(same: Infiller) -> None:
    asked = request(old="z = z\n", session="b.py")
    whole = same.rewrite(asked)
    assert whole.forwards > 2
    for questions in range(whole.forwards):
        answers = iter([False] * questions)
        steps: list[Step] = []
        with pytest.raises(Cancelled):
            same.rewrite(asked, should_stop=lambda: next(answers, True), on_step=steps.append)  # noqa: B023
        assert len(steps) == questions
        assert outcome(same.rewrite(asked)) == outcome(whole)


# Models without edit training.


def test_without_edit_training_the_region_is_refilled(
    tiny: Any, config: ModelConfig, tiny_tokenizer: CodeTokenizer
) -> None:
    shape = {"vocab_size": config.vocab_size, "mask_token_id": config.mask_token_id}
    infiller = Infiller(tiny.model(3, block_size=8, scale=2.0, **shape), tiny_tokenizer)
    steps: list[Step] = []
    result = infiller.rewrite(request(), on_step=steps.append)
    wanted = RegionReviser(infiller.model, tiny_tokenizer).revise(PREFIX, OLD, SUFFIX)
    assert result.way == "refill"
    assert (result.new, result.gain, result.forwards) == (
        wanted.text, wanted.gain, wanted.forwards,
    )  # fmt: skip
    assert 0 < result.confidence < 1
    assert result.tokens == len(tiny_tokenizer.encode(OLD))
    assert steps
    drafts = ("    return width\n", OLD, wanted.text)
    judged = infiller.rewrite(request(drafts=drafts))
    assert judged.forwards == wanted.forwards + 1, "all drafts together"
    assert judged.draft_gains[1] == pytest.approx(0, abs=1e-3)
    assert judged.draft_gains[0] == pytest.approx(
        plain_log_p(infiller, drafts[0]) - plain_log_p(infiller, OLD), rel=1e-3
    )
    assert judged.gain == max(wanted.gain, *judged.draft_gains)


def plain_log_p(infiller: Infiller, region: str) -> float:
    """Log-probability of the text with the region, given the text before it."""
    encode = infiller.tokenizer.encode
    fim = infiller.rewriter.fim
    before = fim.plain(PREFIX, 256)
    ids = [*encode(region), *encode(SUFFIX)[:2]]
    rows = causal_logits(infiller.model, [*before, *ids])[len(before) - 1 :].log_softmax(-1)
    return sum(float(row[token]) for row, token in zip(rows, ids, strict=False))


def test_a_model_that_supports_neither_way_says_so(tiny: Any) -> None:
    tokenizer = CodeTokenizer(byte_level(QWEN.needed), None)
    shape = {"vocab_size": tokenizer.vocab_size, "mask_token_id": None, "model_type": "qwen2"}
    infiller = Infiller(tiny.model(0, **shape), tokenizer)
    assert infiller.rewriter.way is None
    with pytest.raises(ValueError, match=r"this qwen2 model .* cannot rewrite; choose another"):
        infiller.rewrite(request())


@pytest.mark.parametrize("most", [0, -1, MAX_TOKENS + 1])
def test_max_tokens_is_bounded(most: int) -> None:
    with pytest.raises(ValueError, match=f"max_tokens must be 1 to 256, not {most}"):
        request(max_tokens=most)


def test_a_region_that_is_too_long_is_refused(same: Infiller) -> None:
    longest = same.rewriter.longest_region
    with pytest.raises(ValueError, match=rf"tokens, this model rewrites at most {longest}; choose"):
        same.rewrite(request(old="x = y\n" * 100))


def test_long_surroundings_are_trimmed_to_the_window(same: Infiller) -> None:
    long = request(prefix="a = 1\n" * 900, suffix="b = 2\n" * 900, edits=EDITS * 90, old="x = z\n")
    prompt = same.rewriter.prompt(long)
    assert len(prompt) + len(same.tokenizer.encode(long.old)) <= same.window
    assert same.rewrite(long).new == "x = y\n"
