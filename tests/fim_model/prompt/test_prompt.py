"""The prompt: its order, its limits, and its stability while the user types."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from fim_model.decoding.prompt_cache import common_prefix
from fim_model.families.fim_layouts import QWEN
from fim_model.prompt.fim_prompt import (
    HEADER_TOKENS,
    PROMPT_OVERHEAD,
    FimPrompt,
    PromptBudget,
    stepped_tail,
)
from fim_model.prompt.tokenizer import CodeTokenizer
from hypothesis import given
from hypothesis import strategies as st

WIDE = PromptBudget(total=1000, suffix=500)


def test_the_order_is_file_suffix_prefix_middle(tiny_tokenizer: CodeTokenizer) -> None:
    encode, special = tiny_tokenizer.encode, tiny_tokenizer.special
    prompt = FimPrompt.own(tiny_tokenizer)("def f(", "):\n", "src/shapes/point.py", WIDE)
    assert prompt == [
        special.file,
        *encode("shapes/point.py"),
        special.suffix,
        *encode("):\n"),
        special.prefix,
        *encode("def f("),
        special.middle,
    ]


def test_an_empty_document_gives_a_prompt(tiny_tokenizer: CodeTokenizer) -> None:
    special = tiny_tokenizer.special
    assert FimPrompt.own(tiny_tokenizer)("", "", "", WIDE) == [
        special.suffix,
        special.prefix,
        special.middle,
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.py", "a.py"),
        ("/a.py", "a.py"),
        ("x/a.py", "x/a.py"),
        ("/home/u/x/a.py", "x/a.py"),
        ("C:\\x\\y\\a.py", "y/a.py"),
        ("x//a.py", "x/a.py"),
    ],
)
def test_a_path_is_cut_to_its_last_two_parts(
    tiny_tokenizer: CodeTokenizer, path: str, name: str
) -> None:
    wanted = [tiny_tokenizer.special.file, *tiny_tokenizer.encode(name)]
    assert FimPrompt.own(tiny_tokenizer).file_header(path) == wanted


def test_a_text_cannot_spell_a_marker(tiny_tokenizer: CodeTokenizer) -> None:
    prompt = FimPrompt.own(tiny_tokenizer)("<|fim_middle|>", "<|eom|>", "<|file|>", WIDE)
    special = tiny_tokenizer.special
    markers = [token for token in prompt if not tiny_tokenizer.token_bytes(token)]
    assert markers == [special.file, special.suffix, special.prefix, special.middle]


words = st.text(st.sampled_from("ab _(\n\té😀"), max_size=120)


@given(
    prefix=words,
    suffix=words,
    path=words,
    total=st.integers(0, 60),
    share=st.integers(0, 60),
    step=st.integers(1, 40),
)
def test_a_prompt_keeps_the_text_near_the_cursor_within_its_budget(
    tiny_tokenizer: CodeTokenizer,
    prefix: str,
    suffix: str,
    path: str,
    total: int,
    share: int,
    step: int,
) -> None:
    budget = PromptBudget(total, min(share, total), step)
    special = tiny_tokenizer.special
    prompt = FimPrompt.own(tiny_tokenizer)(prefix, suffix, path, budget)
    assert len(prompt) <= total + PROMPT_OVERHEAD
    after, before = prompt.index(special.suffix), prompt.index(special.prefix)
    assert after <= HEADER_TOKENS + 1
    suffix_ids, prefix_ids = prompt[after + 1 : before], prompt[before + 1 : -1]
    assert len(suffix_ids) <= budget.suffix
    assert suffix_ids == tiny_tokenizer.encode(suffix)[: len(suffix_ids)]
    whole = tiny_tokenizer.encode(prefix)
    assert prefix_ids == whole[len(whole) - len(prefix_ids) :]
    assert (len(whole) - len(prefix_ids)) % step == 0 or not prefix_ids
    if len(whole) + len(suffix_ids) <= total:
        assert prefix_ids == whole


@given(
    length=st.integers(0, 300), limit=st.integers(0, 100), step=st.integers(1, 50), more=st.data()
)
def test_stepped_tail(length: int, limit: int, step: int, more: st.DataObject) -> None:
    ids = list(range(length))
    kept = stepped_tail(ids, limit, step)
    assert len(kept) <= limit
    assert kept == ids[length - len(kept) :]
    if length <= limit:
        assert kept == ids
    else:
        assert len(kept) > limit - step  # no more than the step requires is dropped
    if kept and kept[0]:
        # After the first token changes, it stays the same for `step` tokens.
        born = limit + kept[0] - step + 1
        at = more.draw(st.integers(born, born + step - 1))
        assert stepped_tail(list(range(at)), limit, step)[:1] in ([kept[0]], [])


def test_typing_only_appends(tiny_tokenizer: CodeTokenizer) -> None:
    """Of ten keystrokes in a text longer than the budget, at most one moves the window."""
    text = "".join(f"value_{number} = {number}\n" for number in range(60))
    budget = PromptBudget(total=100, suffix=20, step=25)
    prompts = [
        FimPrompt.own(tiny_tokenizer)(text + "return va"[:typed], "\n\n", "a.py", budget)
        for typed in range(10)
    ]
    moved = 0
    for before, after in pairwise(prompts):
        # Besides <middle>, the prefix's last one or two tokens may merge with the typed text.
        moved += common_prefix(before, after) < len(before) - 4
    assert moved <= 1


def test_a_plain_prompt_is_never_empty(tiny_tokenizer: CodeTokenizer) -> None:
    assert FimPrompt.own(tiny_tokenizer).plain("", 10) == [tiny_tokenizer.special.eot]
    ids = tiny_tokenizer.encode("def f():\n    return 1\n" * 5)
    kept = FimPrompt.own(tiny_tokenizer).plain("def f():\n    return 1\n" * 5, 12)
    assert 8 < len(kept) <= 12
    assert kept == ids[-len(kept) :]


# Edits.


def test_an_edit_prompt_has_the_edits_then_the_region(
    tiny_tokenizer: CodeTokenizer,
) -> None:
    encode, special = tiny_tokenizer.encode, tiny_tokenizer.special
    fim = FimPrompt.own(tiny_tokenizer)
    edits = [("def f(a):", "def f(b):"), ("", "x = 1")]
    prompt = fim.edit("def f(b):\n", "    return a", "\n", "point.py", edits, WIDE)
    history = [special.edit, *encode("def f(a):"), special.new, *encode("def f(b):")]
    history += [special.edit, special.new, *encode("x = 1")]
    asked = fim("def f(b):\n", "\n", "", WIDE)
    region = [special.old, *encode("    return a"), special.middle]
    assert prompt == [special.file, *encode("point.py"), *history, *asked[:-1], *region]


@given(
    text=words,
    region=words,
    edits=st.lists(st.tuples(words, words), max_size=6),
    total=st.integers(12, 90),
)
def test_an_edit_prompt_keeps_the_latest_edits_and_the_whole_region_within_its_budget(
    tiny_tokenizer: CodeTokenizer,
    text: str,
    region: str,
    edits: list[tuple[str, str]],
    total: int,
) -> None:
    special, ids = tiny_tokenizer.special, tiny_tokenizer.encode(region)
    budget = PromptBudget(total, suffix=total // 4)
    prompt = FimPrompt.own(tiny_tokenizer).edit(text, region, text, "", edits, budget)
    markers = prompt.count(special.edit) + prompt.count(special.new) + 4
    assert prompt[-len(ids) - 2 :] == [special.old, *ids, special.middle]
    assert len(prompt) - markers <= max(total, len(ids) + 2 * (total // 3))
    shown = prompt.count(special.edit)
    latest = [] if not shown else edits[-shown:]
    flat = [
        token
        for old, new in latest
        for token in (special.edit, *tiny_tokenizer.encode(old), special.new,
                      *tiny_tokenizer.encode(new))
    ]  # fmt: skip
    assert prompt[: len(flat)] == flat


def test_a_family_without_edit_prompts_says_so(tiny_tokenizer: CodeTokenizer) -> None:
    foreign = replace(FimPrompt.own(tiny_tokenizer), layout=QWEN)
    with pytest.raises(ValueError, match="has no place for edits"):
        foreign.edit("", "a", "", "", [], WIDE)
