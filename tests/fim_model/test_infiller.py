"""The infiller: suggestions, sessions, statistics and errors."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from fim_model.calibration.confidence import Calibration, CopyWeights
from fim_model.copies import Copied
from fim_model.decoding.adaptive import Drafting
from fim_model.decoding.auto import ModeChoice
from fim_model.decoding.core import ForwardKind, Step, StopRule
from fim_model.decoding.modes import MODES, ModeOptions
from fim_model.decoding.native import LengthCalibration
from fim_model.decoding.reference import autoregressive, causal_logits
from fim_model.errors import Cancelled, CheckpointError
from fim_model.infiller import Infiller
from fim_model.loading.checkpoint import save_checkpoint
from fim_model.loading.progress import STEPS, in_steps, part
from fim_model.network.transformer import TriModeTransformer
from fim_model.prompt.fim_prompt import PROMPT_OVERHEAD
from fim_model.prompt.line_limit import first_lines
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import AUTO, MAX_TOKENS, NATIVE, Completion, CompletionRequest, Gate
from fixed_costs import FixedCosts
from small_models import bigram, likely

PREFIX = "def area(width, height):\n    return wid"
SUFFIX = "\n\n\nprint(area(2, 3))\n"
ALL_MODES = [*MODES, NATIVE]


@pytest.fixture(scope="module")
def model(tiny: Any, tiny_tokenizer: CodeTokenizer) -> TriModeTransformer:
    made = tiny.model(
        7,
        vocab_size=tiny_tokenizer.vocab_size,
        mask_token_id=tiny_tokenizer.special.mask,
        block_size=8,
        tie_word_embeddings=False,
        scale=0.7,
    )
    assert isinstance(made, TriModeTransformer)
    return made


@pytest.fixture
def infiller(model: TriModeTransformer, tiny_tokenizer: CodeTokenizer) -> Infiller:
    return Infiller(model, tiny_tokenizer)


def request(**changes: Any) -> CompletionRequest:
    return CompletionRequest(**({"prefix": PREFIX, "suffix": SUFFIX, "max_tokens": 12} | changes))


def outcome(result: Completion) -> tuple[Any, ...]:
    """The parts of a result that do not depend on KV reuse. (Confidences do, in the last
    digits.)
    """
    return (
        [(item.text, item.finish) for item in result.items],
        result.stats.mode,
        result.stats.tokens,
    )


# Results.


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_result_and_its_statistics(infiller: Infiller, mode: str) -> None:
    steps: list[Step] = []
    result = infiller.infill(request(mode=mode), on_step=steps.append)
    assert result.stats.mode == mode
    assert len(result.items) == 1
    assert result.items[0].finish in ("eom", "length", "filled")
    assert 0 < result.items[0].confidence <= 1
    assert 1 <= result.stats.tokens <= 12
    assert result.stats.prefill_tokens == len(infiller.prompt(request(mode=mode)))
    assert result.stats.reused_tokens == 0
    assert result.stats.tokens_per_forward == result.stats.tokens / result.stats.forwards
    assert result.stats.ms > 0
    if mode != NATIVE:
        assert len(steps) == result.stats.forwards
        assert steps[0].kind is ForwardKind.PREFILL
        assert steps[0].width == result.stats.prefill_tokens


def test_ar_commits_one_token_per_forward(infiller: Infiller) -> None:
    for most in (1, 2, 12):
        result = infiller.infill(request(mode="ar", max_tokens=most))
        assert result.stats.tokens == result.stats.forwards


def test_exact_greedy_modes_agree(infiller: Infiller) -> None:
    """Texts and confidences agree, for several alternatives."""
    wanted = infiller.infill(request(mode="ar", alternatives=3, max_lines=2))
    for mode in ("self_speculation", "quadratic_speculation"):
        found = infiller.infill(request(mode=mode, alternatives=3, max_lines=2))
        assert [item.text for item in found.items] == [item.text for item in wanted.items]
        for ours, theirs in zip(found.items, wanted.items, strict=True):
            assert ours.confidence == pytest.approx(theirs.confidence, rel=1e-3)
            assert ours.finish == theirs.finish


def test_confidence_is_the_geometric_mean(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer
) -> None:
    """Every token has probability p, so the mean is p."""
    size = model.config.vocab_size
    token = tiny_tokenizer.encode("x")[0]
    even = likely(model.config, token, logit=math.log(size - 1))  # p = 1/2
    result = Infiller(even, tiny_tokenizer).infill(request(mode="ar"))
    assert result.items[0].text == "x" * 12
    assert result.items[0].confidence == pytest.approx(0.5, abs=1e-3)


def test_a_calibrated_model_gives_the_probability_of_being_right(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer
) -> None:
    """Computed from the tokens' log-probabilities and whether a limit cut it; with a threshold."""
    gate = Gate(0.0, 1.0, 0.3, {"length": -1.0})
    calibration = Calibration(0.1, 0.2, 0.3, 0.05, -0.5, show_above=0.4, gate=gate)
    plain = Infiller(model, tiny_tokenizer).infill(request(mode="ar"))
    told = Infiller(model, tiny_tokenizer, calibration=calibration).infill(request(mode="ar"))
    item, before = told.items[0], plain.items[0]
    assert item.nats == before.nats
    assert math.exp(sum(item.nats) / len(item.nats)) == pytest.approx(before.confidence)
    assert item.confidence == calibration(item.nats, item.finish == "length")
    assert (told.show_above, plain.show_above) == (0.4, 0.0)
    assert (told.gate, plain.gate) == (gate, None)


COPY = Copied("th * height", matched=14, behind=3, distance=50)


def trusting(bias: float) -> Calibration:
    """A calibration that gives every copy the odds exp(bias), whatever the model's scores."""
    weights = CopyWeights(bias, 0, 0, 0, 0, 0, 0, 0, 0)
    return Calibration(0.1, 0.2, 0.3, 0.05, -0.5, show_above=0.4, copies=weights)


def test_a_confident_copy_costs_one_forward(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer
) -> None:
    infiller = Infiller(model, tiny_tokenizer, calibration=trusting(5.0))
    result = infiller.infill(request(mode="ar", copies=[COPY]))
    assert [(item.text, item.finish) for item in result.items] == [(COPY.text, "copied")]
    assert result.items[0].confidence == pytest.approx(1 / (1 + math.exp(-5)))
    assert result.stats.forwards == 1
    assert result.stats.tokens == len(tiny_tokenizer.encode(COPY.text)) + 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("odds", [0.2, -9.0])
def test_the_likelier_of_copy_and_own_text_comes_first(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer, mode: str, odds: float
) -> None:
    def fresh() -> Infiller:
        """One that has observed nothing, and no clock: then `adaptive` takes the same steps."""
        options = ModeOptions(drafting=Drafting(FixedCosts(further=0.1)))
        return Infiller(model, tiny_tokenizer, options, calibration=trusting(odds))

    alone = fresh().infill(request(mode=mode))
    both = fresh().infill(request(mode=mode, copies=[COPY]))
    assert {item.text for item in both.items} == {alone.items[0].text, COPY.text}
    confidences = [item.confidence for item in both.items]
    assert confidences == sorted(confidences, reverse=True)
    # The copy is prefilled with the prompt and does not change what the model writes.
    assert (both.stats.forwards, both.stats.tokens) == (alone.stats.forwards, alone.stats.tokens)
    assert both.stats.prefill_tokens == alone.stats.prefill_tokens


def test_the_nats_of_a_copy_are_the_log_probability_of_its_tokens_and_end(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer
) -> None:
    calibration = trusting(-3.0)
    infiller = Infiller(model, tiny_tokenizer, calibration=calibration)
    items = infiller.infill(request(mode="ar", copies=[COPY])).items
    [item] = [item for item in items if item.finish == "copied"]
    prompt, ids = infiller.prompt(request(mode="ar")), tiny_tokenizer.encode(COPY.text)
    target = [*ids, tiny_tokenizer.special.eom]
    nats = causal_logits(model, [*prompt, *ids]).log_softmax(-1)[len(prompt) - 1 :]
    expected = nats.gather(1, torch.tensor(target)[:, None]).squeeze(1).tolist()
    assert item.nats == pytest.approx(expected, abs=1e-4)
    assert item.confidence == calibration.of_copy(item.nats, COPY)


def test_several_copies_are_scored_as_if_alone(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer
) -> None:
    """All are scored in the forward that prefills the prompt, sharing common beginnings."""
    others = [replace(COPY, text="th * width", matched=9), replace(COPY, text="xyz")]
    infiller = Infiller(model, tiny_tokenizer, calibration=trusting(-3.0))
    asked = request(mode="ar", max_tokens=64)
    together = infiller.judge_copies(replace(asked, copies=[COPY, *others]))
    assert {item.text for item in together} == {COPY.text, "th * width", "xyz"}
    for item in together:
        [copy] = [candidate for candidate in (COPY, *others) if candidate.text == item.text]
        [alone] = infiller.judge_copies(replace(asked, copies=[copy]))
        assert item.nats == pytest.approx(alone.nats, abs=1e-4)
    forwards = infiller.infill(replace(asked, copies=[COPY, *others])).stats.forwards
    assert forwards == infiller.infill(asked).stats.forwards


def test_copies_beyond_max_tokens_are_left_out(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer
) -> None:
    infiller = Infiller(model, tiny_tokenizer, calibration=trusting(-3.0))
    size = len(tiny_tokenizer.encode(COPY.text))
    short = replace(COPY, text="a")
    asked = request(mode="ar", copies=[COPY, replace(COPY, text=COPY.text + "s"), short])
    judged = infiller.judge_copies(replace(asked, max_tokens=size + 2))
    assert {item.text for item in judged} == {COPY.text, "a"}


@pytest.mark.parametrize("calibration", [None, replace(trusting(5.0), copies=None)])
def test_without_a_calibration_copies_are_ignored(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer, calibration: Calibration | None
) -> None:
    infiller = Infiller(model, tiny_tokenizer, calibration=calibration)
    result = infiller.infill(request(mode="ar", copies=[COPY]))
    assert COPY.text not in [item.text for item in result.items]


def test_a_copy_that_is_too_long_is_left_out(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer
) -> None:
    infiller = Infiller(model, tiny_tokenizer, calibration=trusting(5.0))
    long = replace(COPY, text="one two three four five six seven " * 4)
    result = infiller.infill(request(mode="ar", copies=[long]))
    assert [item.finish for item in result.items] != ["copied"]
    assert long.text not in [item.text for item in result.items]


def test_kv_is_reused_after_a_copy(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer
) -> None:
    infiller = Infiller(model, tiny_tokenizer, calibration=trusting(0.0))
    infiller.infill(request(session="one", copies=[COPY]))
    again = infiller.infill(request(session="one"))
    fresh = infiller.infill(request())
    assert again.stats.prefill_tokens == 1
    assert outcome(again) == outcome(fresh)


def test_the_end_token_is_counted_but_not_shown(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer
) -> None:
    ending = Infiller(likely(model.config, tiny_tokenizer.special.eom, 20.0), tiny_tokenizer)
    for mode in MODES:
        result = ending.infill(request(mode=mode))
        assert (result.items[0].text, result.items[0].finish) == ("", "eom")
        assert (result.stats.tokens, result.stats.forwards) == (1, 1)


def test_pieces_show_masks_as_none(infiller: Infiller) -> None:
    mask, ids = infiller.model.config.mask_token_id, infiller.tokenizer.encode("return x")
    assert infiller.pieces([ids[0], mask]) == [infiller.tokenizer.decode(ids[:1]), None]


# Alternatives.


@pytest.mark.parametrize("mode", MODES)
def test_alternatives_are_distinct_and_begin_with_the_best(infiller: Infiller, mode: str) -> None:
    alone = infiller.infill(request(mode=mode))
    several = infiller.infill(request(mode=mode, alternatives=4))
    texts = [item.text for item in several.items]
    assert texts[0] == alone.items[0].text
    assert len(set(texts)) == len(texts) >= 3
    # One prefill, then each costs what it would cost alone.
    assert several.stats.prefill_tokens == alone.stats.prefill_tokens
    assert several.stats.tokens > alone.stats.tokens


def test_alternatives_come_in_the_order_of_their_first_token(infiller: Infiller) -> None:
    several = infiller.infill(request(mode="ar", alternatives=5, max_tokens=1))
    odds = [item.confidence for item in several.items]
    assert odds == sorted(odds, reverse=True)
    assert len(odds) >= 4


@pytest.mark.parametrize("mode", ["ar", "self_speculation", "quadratic_speculation"])
def test_each_alternative_continues_its_own_first_token(infiller: Infiller, mode: str) -> None:
    """As if it were the only one: the cache has nothing left of the earlier alternatives."""
    asked = request(mode=mode, alternatives=3)
    prompt = infiller.prompt(asked)
    first = causal_logits(infiller.model, prompt)[-1].topk(3).indices.tolist()
    stop = StopRule(infiller.tokenizer.special.eom, asked.max_tokens - 1)
    for token, item in zip(first, infiller.infill(asked).items, strict=True):
        rest, _ = autoregressive(infiller.model, [*prompt, token], stop)
        assert item.text == infiller.tokenizer.decode([token, *rest])


def test_a_repeated_alternative_is_dropped(
    infiller: Infiller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two first tokens can lead to the same text; the better one's rank and confidence are kept."""
    answers = iter(["a", "b", "a", "c", "b"])
    real = Infiller._item

    def item(self: Infiller, core: Any, asked: CompletionRequest) -> Any:
        return replace(real(self, core, asked), text=next(answers))

    monkeypatch.setattr(Infiller, "_item", item)
    result = infiller.infill(request(mode="ar", alternatives=5, max_tokens=1))
    assert [item.text for item in result.items] == ["a", "b", "c"]
    odds = [item.confidence for item in result.items]
    assert odds == sorted(odds, reverse=True)


def test_more_alternatives_than_tokens(infiller: Infiller) -> None:
    size = infiller.model.config.vocab_size
    result = infiller.infill(request(mode="ar", alternatives=size + 10, max_tokens=1))
    assert result.stats.tokens == size


# Temperature.


@pytest.mark.parametrize("mode", ALL_MODES)
def test_the_same_seed_gives_the_same_text(infiller: Infiller, mode: str) -> None:
    hot = request(mode=mode, temperature=1.5, seed=3, alternatives=2)
    assert infiller.infill(hot).items == infiller.infill(hot).items


@pytest.mark.parametrize("mode", MODES)
def test_seeds_and_alternatives_differ(infiller: Infiller, mode: str) -> None:
    hot = request(mode=mode, temperature=1.5, seed=3, alternatives=3)
    texts = [item.text for item in infiller.infill(hot).items]
    assert len(texts) == 3
    other = infiller.infill(replace(hot, seed=50)).items[0].text
    assert other not in texts


@pytest.mark.parametrize("mode", MODES)
def test_a_hole_uses_one_random_stream(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer, mode: str
) -> None:
    """With equal odds, a stream restarted for the second token would draw the first token again."""
    flat = Infiller(likely(model.config, 0, 0.0), tiny_tokenizer)
    drawn: list[tuple[int, ...]] = []
    for seed in range(4):
        steps: list[Step] = []
        hot = request(mode=mode, temperature=1.0, seed=seed, max_tokens=2)
        flat.infill(hot, on_step=steps.append)
        drawn.append(steps[-1].hole[:2])
    assert sum(first == second for first, second in drawn) <= 1


# Lines.


@pytest.mark.parametrize(
    ("text", "count", "kept"),
    [
        ("a", 1, "a"),
        ("a\nb\nc", 1, "a"),
        ("a\nb\nc", 2, "a\nb"),
        ("a\nb", 5, "a\nb"),
        ("\n    a\nb", 1, "\n    a"),
        ("\n\n  a\n\nb\nc", 3, "\n\n  a\n\nb"),
        ("", 1, ""),
        ("\n\n", 2, "\n\n"),
    ],
)
def test_first_lines(text: str, count: int, kept: str) -> None:
    assert first_lines(text, count) == kept


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lines", [1, 2, 3])
def test_max_lines_ends_the_hole(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer, mode: str, lines: int
) -> None:
    """Equals the first lines of the unlimited hole, in fewer forwards."""
    newline, a, b = (tiny_tokenizer.encode(text)[0] for text in ("\n", "a", "b"))
    infiller = Infiller(
        bigram(model.config, {a: b, b: newline, newline: a}, newline), tiny_tokenizer
    )
    free = infiller.infill(request(mode=mode, max_tokens=60))
    cut = infiller.infill(request(mode=mode, max_tokens=60, max_lines=lines))
    assert free.items[0].text.lstrip().count("\n") >= lines
    assert cut.items[0].finish == "lines"
    assert cut.items[0].text == first_lines(free.items[0].text, lines)
    assert cut.items[0].text.lstrip().count("\n") <= lines - 1
    assert cut.stats.forwards < free.stats.forwards
    if mode != "diffusion":
        assert cut.stats.tokens == 1 + 3 * lines  # a blank line, then three tokens per line


def test_blank_lines_do_not_count(model: TriModeTransformer, tiny_tokenizer: CodeTokenizer) -> None:
    newline = tiny_tokenizer.encode("\n")[0]
    blank = Infiller(likely(model.config, newline, 20.0), tiny_tokenizer)
    result = blank.infill(request(max_lines=1))
    assert (result.items[0].finish, result.items[0].text) == ("length", "\n" * 12)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "diffusion"])
def test_a_hole_that_comes_to_the_suffix_ends_there(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer, mode: str
) -> None:
    """The model writes one line over and over; the suffix begins within it."""
    newline, *letters = (tiny_tokenizer.encode(text)[0] for text in "\nabcdefghijklmn")
    follows = dict(pairwise([*letters, newline, letters[0]]))
    infiller = Infiller(bigram(model.config, follows, newline), tiny_tokenizer)
    asked = request(mode=mode, max_tokens=60, suffix="defghijklmn\n\nprint()\n")
    found = infiller.infill(asked)
    assert (found.items[0].text, found.items[0].finish) == ("\nabc", "suffix")
    free = infiller.infill(replace(asked, suffix="defghijklmn + 1\n"))
    assert (free.items[0].finish, found.stats.forwards < free.stats.forwards) == ("length", True)


# Sessions.


@pytest.mark.parametrize("mode", MODES)
def test_typing_prefills_only_the_new_tokens(infiller: Infiller, mode: str) -> None:
    typed = "th * height"
    first = infiller.infill(request(mode=mode, session="a.py"))
    assert first.stats.reused_tokens == 0
    for count in range(1, len(typed) + 1):
        now = request(mode=mode, prefix=PREFIX + typed[:count], session="a.py")
        result = infiller.infill(now)
        # The typed tokens, those they merge with, and <middle>.
        assert result.stats.prefill_tokens <= 5
        assert result.stats.prefill_tokens + result.stats.reused_tokens == len(infiller.prompt(now))
        fresh = infiller.infill(replace(now, session=""))
        assert fresh.stats.reused_tokens == 0
        assert [item.text for item in result.items] == [item.text for item in fresh.items]


def test_repeating_a_request_prefills_one_token(infiller: Infiller) -> None:
    first = infiller.infill(request(session="a.py"))
    again = infiller.infill(request(session="a.py"))
    assert again.stats.prefill_tokens == 1
    assert [i.text for i in again.items] == [i.text for i in first.items]


def test_a_changed_suffix_is_prefilled_again(infiller: Infiller) -> None:
    infiller.infill(request(session="a.py"))
    changed = request(session="a.py", suffix="X" + SUFFIX)
    result = infiller.infill(changed)
    assert result.stats.reused_tokens <= 2
    assert outcome(result) == outcome(infiller.infill(replace(changed, session="")))


def test_documents_do_not_share_kv(infiller: Infiller) -> None:
    infiller.infill(request(session="a.py"))
    assert infiller.infill(request(session="b.py")).stats.reused_tokens == 0
    assert infiller.infill(request(session="a.py")).stats.prefill_tokens == 1


def test_no_session_keeps_nothing(infiller: Infiller) -> None:
    infiller.infill(request())
    assert infiller.infill(request()).stats.reused_tokens == 0


def test_a_forgotten_document_is_prefilled_again(infiller: Infiller) -> None:
    infiller.infill(request(session="a.py"))
    infiller.forget("a.py")
    infiller.forget("never seen")
    assert infiller.infill(request(session="a.py")).stats.reused_tokens == 0


def test_the_least_recently_used_document_is_evicted(infiller: Infiller) -> None:
    def ask(name: str) -> int:
        return infiller.infill(request(session=name, max_tokens=1)).stats.reused_tokens

    names = [f"{number}.py" for number in range(5)]
    ask(names[0])
    infiller.sessions.budget_bytes = len(names) * infiller.sessions.bytes
    for name in names:
        ask(name)
    assert ask(names[0]) > 0  # now the most recently used
    assert ask("one more.py") == 0
    assert ask(names[1]) == 0  # was evicted (and evicts the third)
    assert ask(names[0]) > 0
    assert ask(names[3]) > 0


# Cancellation.


class StopAfter:
    """Returns True from the n-th call on."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("mode", ALL_MODES)
def test_cancelled_between_any_two_forwards(infiller: Infiller, mode: str) -> None:
    """After a cancellation at any point, the session's next request is answered as if alone."""
    asked = request(mode=mode, session="a.py", alternatives=2)
    whole = infiller.infill(asked)
    for questions in (0, 1, 2, 3, 5):
        infiller.forget("a.py")
        steps: list[Step] = []
        with pytest.raises(Cancelled):
            infiller.infill(asked, should_stop=StopAfter(questions), on_step=steps.append)
        assert len(steps) <= questions  # it stopped working
        longer = replace(asked, prefix=PREFIX + "t")
        assert outcome(infiller.infill(longer)) == outcome(
            infiller.infill(replace(longer, session=""))
        )
        assert outcome(infiller.infill(asked)) == outcome(whole)


def test_a_finished_result_is_returned_despite_a_late_cancellation(infiller: Infiller) -> None:
    steps = infiller.infill(request(mode="ar")).stats.forwards
    result = infiller.infill(request(mode="ar"), should_stop=StopAfter(steps))
    assert len(result.items) == 1


# Native infilling.


@pytest.mark.parametrize(("echoed", "left"), [("", 6), ("x", 6), ("xx", 4), ("xxxxxxxx", 1)])
def test_native_infilling_does_not_echo_the_suffix(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer, echoed: str, left: int
) -> None:
    """The model writes x everywhere; an end that repeats two tokens of the suffix is cut."""
    assert len(tiny_tokenizer.encode("xx")) == 2
    even = likely(model.config, tiny_tokenizer.encode("x")[0], 8.0)
    six = ModeOptions(lengths=LengthCalibration({1: 1.0, 6: 0.01}))
    result = Infiller(even, tiny_tokenizer, six).infill(
        request(mode=NATIVE, prefix="y = ", suffix=echoed + "\n", max_tokens=6)
    )
    assert result.items[0].text == "x" * left
    assert result.stats.tokens == left


def test_native_infilling_tries_several_lengths(infiller: Infiller) -> None:
    result = infiller.infill(request(mode=NATIVE, alternatives=3))
    lengths = [len(infiller.tokenizer.encode(item.text)) for item in result.items]
    assert len(result.items) == 3
    assert len(set(lengths)) > 1


# Sizes.


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        ("", ""),
        (PREFIX, ""),
        ("", SUFFIX),
        ("x = 1\n" * 20_000, SUFFIX),
        (PREFIX, "y = 2\n" * 20_000),
        ("x = 1\n" * 20_000, "y" * 100_000),
        ("😀é\n" * 500, "😀" * 500),
        ("\ud800 lone", "\udfff"),
    ],
    ids=["nothing", "prefix", "suffix", "long prefix", "long suffix", "both", "wide", "surrogate"],
)
def test_any_amount_of_context(infiller: Infiller, mode: str, prefix: str, suffix: str) -> None:
    asked = request(mode=mode, prefix=prefix, suffix=suffix, path="a/b.py", max_tokens=9)
    result = infiller.infill(asked)
    assert 1 <= result.stats.tokens <= 9
    window = infiller.model.config.max_position_embeddings
    assert result.stats.prefill_tokens + asked.max_tokens <= window


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("window", [8, 40, 300])
def test_the_longest_hole_behind_the_longest_prompt(
    tiny: Any, tiny_tokenizer: CodeTokenizer, mode: str, window: int
) -> None:
    """The cache has room for them with any window."""
    model = tiny.model(
        8,
        vocab_size=tiny_tokenizer.vocab_size,
        mask_token_id=tiny_tokenizer.special.mask,
        max_position_embeddings=window,
        block_size=16,
        num_hidden_layers=1,
    )
    asked = request(
        mode=mode,
        prefix="x = 1\n" * 300,
        suffix="y = 2\n" * 300,
        path="folder_with_a_name/file_with_a_long_name_of_many_tokens.py",
        max_tokens=MAX_TOKENS,
    )
    infiller = Infiller(model, tiny_tokenizer)
    result = infiller.infill(asked)
    assert result.stats.prefill_tokens <= max(window - MAX_TOKENS, window // 2 + PROMPT_OVERHEAD)
    assert result.items


def test_a_long_document_reuses_its_kv_while_typing(infiller: Infiller) -> None:
    text = "".join(f"value_{number} = {number}\n" for number in range(300))
    prefills: list[int] = []
    for typed in range(11):
        now = request(prefix=text + "result = va"[:typed], session="long.py", max_tokens=4)
        prefills.append(infiller.infill(now).stats.prefill_tokens)
    assert sorted(prefills)[-2] > 50  # the first prefill, and at most one move of the window
    assert sorted(prefills)[-3] <= 6


# Errors.


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"mode": "magic"}, "mode 'magic' is unknown; known are ar, diffusion"),
        ({"max_tokens": 0}, "max_tokens must be 1 to 256, not 0"),
        ({"max_tokens": 257}, "max_tokens must be 1 to 256, not 257"),
        ({"alternatives": 0}, "alternatives must be at least 1, not 0"),
        ({"max_lines": 0}, "max_lines must be at least 1, not 0"),
        ({"temperature": -0.5}, "temperature must be 0 or more, not -0.5"),
        ({"temperature": math.nan}, "temperature must be 0 or more, not nan"),
    ],
)
def test_invalid_requests_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        request(**wrong)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vocab_size": 300}, "the tokenizer has 340 entries, the model 300"),
        ({"vocab_size": 400}, "the tokenizer has 340 entries, the model 400"),
        ({"mask_token_id": 9}, "the tokenizer's mask token is 1, the model's is 9"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(
    tiny: Any, tiny_tokenizer: CodeTokenizer, changes: dict[str, int], says: str
) -> None:
    shape = {"vocab_size": tiny_tokenizer.vocab_size, "mask_token_id": tiny_tokenizer.special.mask}
    with pytest.raises(CheckpointError, match=says):
        Infiller(tiny.model(**(shape | changes)), tiny_tokenizer)


def test_a_checkpoint_folder_is_loaded(
    model: TriModeTransformer, tiny_tokenizer_file: Path, tmp_path: Path, infiller: Infiller
) -> None:
    save_checkpoint(model, tmp_path, dtype=torch.float32)
    with pytest.raises(CheckpointError, match=r"no tokenizer at .*tokenizer\.json"):
        Infiller.load(tmp_path)
    shutil.copyfile(tiny_tokenizer_file, tmp_path / "tokenizer.json")
    assert outcome(Infiller.load(str(tmp_path)).infill(request())) == outcome(
        infiller.infill(request())
    )


def test_loading_reports_its_progress(
    model: TriModeTransformer, tiny_tokenizer_file: Path, tmp_path: Path
) -> None:
    save_checkpoint(model, tmp_path)
    shutil.copyfile(tiny_tokenizer_file, tmp_path / "tokenizer.json")
    told: list[tuple[str, float]] = []
    Infiller.load(tmp_path, device="cpu", progress=lambda *one: told.append(one))
    shares = [share for _, share in told]
    assert {what for what, _ in told} == {"Loading the model"}
    assert shares == sorted(set(shares))
    assert 3 < len(shares) <= STEPS + 1
    assert (shares[0] < 0.6, shares[-1]) == (True, 1.0)


def test_a_stage_covers_its_share_of_the_progress() -> None:
    told: list[float] = []
    whole = in_steps(lambda what, share: told.append(share))
    for stage in (part(whole, 0.0, 0.9), part(whole, 0.9, 1.0)):
        for share in (0.0, 0.5, 0.5, 0.2, 1.0, 7.0):
            stage("", share)
    assert told == [0.0, 0.45, 0.9, 0.95, 1.0]


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such checkpoint folder") as caught:
        Infiller.load(tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


def test_the_number_of_threads_can_be_set(
    model: TriModeTransformer, tiny_tokenizer_file: Path, tmp_path: Path
) -> None:
    save_checkpoint(model, tmp_path)
    shutil.copyfile(tiny_tokenizer_file, tmp_path / "tokenizer.json")
    before = torch.get_num_threads()
    try:
        Infiller.load(tmp_path, threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_auto_uses_the_measured_choice(
    model: TriModeTransformer, tiny_tokenizer: CodeTokenizer
) -> None:
    choice = ModeChoice(mode="diffusion", rule="leftmost:1", block_size=4)
    infiller = Infiller(model, tiny_tokenizer, auto=choice)
    steps: list[Step] = []
    result = infiller.infill(request(mode=AUTO), on_step=steps.append)
    assert result.stats.mode == "diffusion"
    drafts = [step for step in steps if step.kind is ForwardKind.DRAFT]
    assert all((step.width, len(step.committed)) == (4, 1) for step in drafts)


def hole_of(steps: Sequence[Step]) -> list[int]:
    return list(steps[-1].hole)


def test_the_steps_end_with_the_returned_text(infiller: Infiller) -> None:
    steps: list[Step] = []
    result = infiller.infill(request(mode="self_speculation"), on_step=steps.append)
    assert infiller.tokenizer.decode(hole_of(steps)) == result.items[0].text
