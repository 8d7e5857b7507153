"""Training rows: holes lie within their text, and examples equal the prompts of inference."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_training.examples.examples import (
    HOLE_KINDS,
    SHORT_PROMPT,
    SHORTEST_PROMPT,
    ExampleStream,
    Row,
    SourceFile,
    nothing,
)
from fim_training.examples.synthetic_edits import draw_edit
from hypothesis import given
from hypothesis import strategies as st

KINDS = [kind for kind, _ in HOLE_KINDS]
texts = st.text(st.sampled_from("ab1 \t\n\r(é😀"), min_size=1, max_size=80)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(text=texts, at=st.integers(0, 79), seed=st.integers(0, 5))
def test_a_hole_is_within_its_text(kind: Any, text: str, at: int, seed: int) -> None:
    start, end = kind(text, at % len(text), Random(seed))
    assert 0 <= start <= end <= len(text)


TEXT = "def f(x):\n    if x:\n        return x + 1\n\n    return 0\n"


def holes(kind: Any, text: str = TEXT, draws: int = 300) -> set[tuple[str, str, str]]:
    """Prefix, middle and suffix of many draws."""
    rng = Random(0)
    found = set()
    for _ in range(draws):
        start, end = kind(text, rng.randrange(len(text)), rng)
        found.add((text[:start], text[start:end], text[end:]))
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_hole_removes_only_its_middle(kind: Any) -> None:
    found = holes(kind)
    assert all(prefix + middle + suffix == TEXT for prefix, middle, suffix in found)
    assert len(found) > 4


def kind_named(name: str) -> Any:
    return next(kind for kind in KINDS if kind.__name__ == name)


def test_whole_lines() -> None:
    lines = TEXT.splitlines()
    found = holes(kind_named("whole_line"))
    for prefix, middle, suffix in found:
        indentation = prefix.rpartition("\n")[2]
        assert not indentation.strip()
        if middle.endswith("\n"):
            assert middle[:-1] in lines
            assert indentation == ""
        else:
            assert indentation + middle in lines
            assert suffix.startswith("\n")
    assert 0.2 < sum(middle.endswith("\n") for _, middle, _ in found) / len(found) < 0.8


def test_the_rest_of_a_line_ends_with_the_line() -> None:
    found = holes(kind_named("rest_of_line"))
    assert all(suffix[:1] in ("\n", "") for _, _, suffix in found)
    assert all("\n" not in middle for _, middle, _ in found)
    assert any(prefix[-1:].isalpha() and middle[:1].isalpha() for prefix, middle, _ in found)


def test_a_span_stays_within_its_line() -> None:
    found = holes(kind_named("span_in_line"))
    assert all("\n" not in middle for _, middle, _ in found)
    assert any(suffix[:1] not in ("\n", "") for _, _, suffix in found)


def test_several_lines_are_two_to_six() -> None:
    long = "".join(f"line {number}\n" for number in range(40))
    counts = {middle.count("\n") for _, middle, _ in holes(kind_named("several_lines"), long)}
    assert counts - {0} == {1, 2, 3, 4, 5}  # none only at the end of the file


def test_nothing_is_empty() -> None:
    assert all(middle == "" for _, middle, _ in holes(nothing))


# Whole rows.


def stream(tiny: Any, tokenizer: CodeTokenizer, **settings: Any) -> ExampleStream:
    settings = {"edit_share": 0, "snippet_share": 0} | settings
    return ExampleStream(tiny.files, tokenizer, **settings)


def rows(draws: ExampleStream, count: int, room: int, seed: int = 1) -> list[Row]:
    rng = Random(seed)
    return [draws.draw(rng, room) for _ in range(count)]


def examples(row: Row, tokenizer: CodeTokenizer) -> list[tuple[list[int], list[int]]]:
    """Each hole's prompt and middle; a prompt begins where the previous example ended."""
    found, begin = [], 0
    for middle in row.middles:
        prompt = row.tokens[begin : middle.start]
        while prompt[0] not in (tokenizer.special.file, tokenizer.special.suffix):
            prompt = prompt[1:]  # the plain text before it
        found.append((prompt, row.tokens[middle.start : middle.stop]))
        begin = middle.stop
    return found


def parts(prompt: list[int], tokenizer: CodeTokenizer) -> tuple[bytes, bytes, bytes]:
    """Header, suffix and prefix as bytes, because a cut may split a character."""
    special = tokenizer.special
    suffix, prefix = prompt.index(special.suffix), prompt.index(special.prefix)
    header = prompt[1:suffix] if prompt[0] == special.file else prompt[:suffix]
    assert prompt[-1] == special.middle
    pieces = (header, prompt[suffix + 1 : prefix], prompt[prefix + 1 : -1])
    for piece in pieces:
        assert all(tokenizer.token_bytes(token) for token in piece)  # no marker inside
    return tuple(tokenizer.decode_bytes(piece) for piece in pieces)  # type: ignore[return-value]


@pytest.mark.parametrize("room", [64, 100, 400])
def test_a_row_is_full(tiny: Any, tiny_tokenizer: CodeTokenizer, room: int) -> None:
    for row in rows(stream(tiny, tiny_tokenizer), 60, room):
        assert len(row.tokens) == room


@pytest.mark.parametrize("room", [64, 100, 400])
def test_an_example_is_a_piece_of_a_file(
    tiny: Any, tiny_tokenizer: CodeTokenizer, room: int
) -> None:
    """Prefix, middle and suffix are consecutive in one file; the end token is last."""
    special, whole = tiny_tokenizer.special, [file.text.encode() for file in tiny.files]
    filled = 0
    for row in rows(stream(tiny, tiny_tokenizer, plain_share=0), 60, room):
        assert row.tokens.count(special.eom) == len(row.middles)
        for prompt, middle in examples(row, tiny_tokenizer):
            filled += 1
            assert middle[-1] == special.eom
            header, suffix, prefix = parts(prompt, tiny_tokenizer)
            text = prefix + tiny_tokenizer.decode_bytes(middle[:-1]) + suffix
            assert any(text in example for example in whole)
            assert header == b"" or header.decode() in {file.path for file in tiny.files}
    assert filled >= 60


def test_the_position_of_a_prompt_does_not_reveal_the_middles_length(
    tiny_tokenizer: CodeTokenizer,
) -> None:
    """The lengths of the first prompt and its middle are independent, and the end's position
    varies.

    A model learns positions before it learns code. If prompts left exactly the room for the middle,
    it would learn to end at the row's last position, which is useless at inference.
    """
    lines = "".join(f"value_{number} = {'x' * (number % 40)}\n" for number in range(2000))
    draws = ExampleStream(
        [SourceFile("a.py", lines)], tiny_tokenizer, plain_share=0, edit_share=0, snippet_share=0
    )
    firsts = [row.middles[0] for row in rows(draws, 400, 256)]
    short = [middle.start for middle in firsts if len(middle) <= 8]
    long = [middle.start for middle in firsts if len(middle) >= 16]
    assert min(len(short), len(long)) > 60
    assert abs(sum(short) / len(short) - sum(long) / len(long)) < 12
    ends = [middle.stop for middle in firsts]
    assert max(ends.count(end) for end in set(ends)) < 0.1 * len(ends)


def test_plain_text_begins_at_a_line(tiny: Any, tiny_tokenizer: CodeTokenizer) -> None:
    texts = [f"\n{file.text}".encode() for file in tiny.files]
    for row in rows(stream(tiny, tiny_tokenizer, plain_share=1), 50, 64):
        assert not row.middles
        assert all(tiny_tokenizer.token_bytes(token) for token in row.tokens)
        text = tiny_tokenizer.decode_bytes(row.tokens)
        assert any(text[:12] in source and b"\n" + text[:12] in source for source in texts)


def test_examples_vary_in_what_they_show(tiny: Any, tiny_tokenizer: CodeTokenizer) -> None:
    """With and without a path, a suffix, a middle."""
    drawn = rows(stream(tiny, tiny_tokenizer, plain_share=0.2), 300, 200)
    assert 0.02 < sum(not row.middles for row in drawn) / 300 < 0.35
    shown = [example for row in drawn for example in examples(row, tiny_tokenizer)]
    headers, suffixes, _ = zip(*(parts(prompt, tiny_tokenizer) for prompt, _ in shown), strict=True)
    middles = [middle[:-1] for _, middle in shown]
    for found, least, most in (
        (headers, 0.35, 0.65), (suffixes, 0.75, 0.97), (middles, 0.85, 0.99)
    ):  # fmt: skip
        assert least < sum(map(bool, found)) / len(shown) < most


def test_most_prompts_are_short_and_some_fill_the_row(tiny_tokenizer: CodeTokenizer) -> None:
    """Short prompts give more holes per row; long ones train the whole window."""
    lines = "".join(f"value_{number} = {number}\n" for number in range(400))
    draws = ExampleStream([SourceFile("a.py", lines)], tiny_tokenizer, plain_share=0, edit_share=0)
    firsts = sorted(row.middles[0].start for row in rows(draws, 200, 512))
    most = 512 - 512 // 5
    assert firsts[-1] <= most
    assert 0.15 < sum(first > 0.7 * most for first in firsts) / 200 < 0.3
    assert firsts[100] < SHORT_PROMPT
    assert firsts[4] < SHORTEST_PROMPT + 40


# Snippets and edits.


def test_snippets_are_of_other_files_of_the_project(tiny_tokenizer: CodeTokenizer) -> None:
    files = [
        SourceFile(f"{project}/{name}.py", f"{project}_{name} = 1\n" * 60, project)
        for project in ("one", "two")
        for name in ("a", "b", "c")
    ]
    special = tiny_tokenizer.special
    draws = ExampleStream(
        files, tiny_tokenizer, plain_share=0, edit_share=0, snippet_share=1, path_share=0
    )
    seen = 0
    for row in rows(draws, 60, 400):
        if special.snippet not in row.tokens[: row.middles[0].start]:
            continue  # none was short enough
        seen += 1
        at = row.tokens.index(special.snippet)
        name = tiny_tokenizer.decode(row.tokens[1:at])
        asked = row.tokens[row.tokens.index(special.suffix) : row.middles[0].stop]
        assert row.tokens[0] == special.file
        assert f"{name[:3]}_" in tiny_tokenizer.decode(asked)
        assert f"{name.removesuffix('.py').replace('/', '_')} =" not in tiny_tokenizer.decode(asked)
    assert seen > 30


def test_an_edit_example_has_the_old_region_and_predicts_the_new_one(
    tiny: Any, tiny_tokenizer: CodeTokenizer
) -> None:
    """The prompt equals that of `FimPrompt.edit`; the answer is the case's new region."""
    special = tiny_tokenizer.special
    edited = 0
    for row in rows(stream(tiny, tiny_tokenizer, plain_share=0, edit_share=1), 60, 400):
        for prompt, _ in examples(row, tiny_tokenizer):
            if special.old not in prompt:
                continue  # too long for the row, or nothing repeats in that file
            edited += 1
            region = prompt[prompt.index(special.old) + 1 : -1]
            assert all(tiny_tokenizer.token_bytes(token) for token in region)
    assert edited > 40


@pytest.mark.parametrize("seed", range(40))
def test_the_answer_of_an_edit_example(tiny: Any, seed: int) -> None:
    """A repair restores the original; a continued change appears in the answer."""
    rng = Random(seed)
    text = rng.choice(tiny.files).text
    if (case := draw_edit(text, rng)) is None:
        return
    assert (case.kind == "none") == (case.old == case.new)
    assert "\n" not in (case.prefix[-1:] or "\n").replace("\n", "", 1)
    assert case.suffix[:1] in ("", "\n")
    if case.kind in ("typo", "import"):
        assert case.prefix + case.new + case.suffix in text
    if case.kind in ("rename", "literal", "argument"):
        assert case.edits
        assert all(old != new for old, new in case.edits)


def test_the_same_seed_draws_the_same(tiny: Any, tiny_tokenizer: CodeTokenizer) -> None:
    draws = stream(tiny, tiny_tokenizer)
    first, again, other = (draws.draw(Random(seed), 100) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_long_files_are_drawn_more_often(tiny_tokenizer: CodeTokenizer) -> None:
    files = [SourceFile("long.py", "long = 1\n" * 90), SourceFile("short.py", "short = 2\n" * 9)]
    draws = ExampleStream(files, tiny_tokenizer, plain_share=1)
    rng = Random(4)
    found = [tiny_tokenizer.decode(draws.draw(rng, 64).tokens) for _ in range(200)]
    assert 0.8 < sum("long" in text for text in found) / 200 < 0.98


def test_no_files_are_an_error() -> None:
    with pytest.raises(ValueError, match="no training files: build the corpus first"):
        ExampleStream([], None)  # type: ignore[arg-type]


# Holes by syntax: arguments, and the bodies of blocks.

CALLS = 'x = call(one, [two, f(3)], "four")\n'


def test_in_brackets_ends_before_the_closing_bracket() -> None:
    """The hole begins anywhere inside; the closing bracket belongs to the suffix."""
    found = holes(kind_named("in_brackets"), CALLS)
    for prefix, middle, suffix in found:
        depth, opened = 0, len(prefix + middle)
        while depth >= 0:
            opened -= 1
            depth += (CALLS[opened] in ")]") - (CALLS[opened] in "([")
        assert opened < len(prefix)
        assert CALLS[opened] + suffix[0] in ("()", "[]")
    middles = {middle for _, middle, _ in found}
    assert {'one, [two, f(3)], "four"', "two, f(3)", "3", ""} <= middles
    assert ', "four"' in middles, "a hole may begin behind an inner pair"


def test_in_brackets_mostly_begins_right_after_the_opening_bracket() -> None:
    rng, kind = Random(1), kind_named("in_brackets")
    starts = [kind("f(abcdefgh)\n", 3, rng)[0] for _ in range(400)]
    assert 0.6 < starts.count(2) / len(starts) < 0.8
    assert set(starts) == set(range(2, 11))


@pytest.mark.parametrize("text", ["no brackets here\n", "open( only\n", "close) only\n"])
def test_in_brackets_without_a_pair_is_the_rest_of_the_line(text: str) -> None:
    assert all(suffix == "\n" for _, _, suffix in holes(kind_named("in_brackets"), text))


def test_brackets_pair_within_their_line() -> None:
    text = "f(\n    g(1),\n)\n"
    assert {middle for _, middle, suffix in holes(kind_named("in_brackets"), text)
            if suffix == "),\n)\n"} == {"1", ""}  # fmt: skip


BLOCKS = """\
class A:
    def f(self):
        if self:
            return 1

        return 2


    def g(self):
        pass


x = 1
"""


def block_at(line: str, text: str = BLOCKS) -> str:
    start, end = kind_named("block")(text, text.index(line), Random(0))
    assert text[:start].endswith(line)
    return text[start:end]


def test_a_block_is_the_deeper_indented_lines() -> None:
    """It begins at the end of its header line; trailing blank lines belong to the suffix."""
    assert block_at("        if self:") == "\n            return 1"
    assert block_at("    def f(self):") == (
        "\n        if self:\n            return 1\n\n        return 2"
    )
    assert block_at("class A:").endswith("pass")
    assert block_at("class A:").count("\n") == 9
    assert block_at("x = 1") == ""
    assert block_at("            return 1") == ""


def test_a_block_at_the_end_of_the_text() -> None:
    assert block_at("while a:", "while a:\n  b()\n\n") == "\n  b()"
    assert block_at("while a:", "while a:") == ""
