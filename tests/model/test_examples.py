"""Training examples: every hole is within its text, and every example is what inference asks."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from fim_model.tokenizer import CodeTokenizer
from fim_model.training.examples import HOLE_KINDS, Example, ExampleStream, SourceFile, nothing
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
def test_a_hole_takes_its_middle_out_and_nothing_else(kind: Any) -> None:
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


def test_the_rest_of_a_line_ends_where_the_line_does() -> None:
    found = holes(kind_named("rest_of_line"))
    assert all(suffix[:1] in ("\n", "") for _, _, suffix in found)
    assert all("\n" not in middle for _, middle, _ in found)
    assert any(prefix[-1:].isalpha() and middle[:1].isalpha() for prefix, middle, _ in found)


def test_a_span_stays_in_its_line() -> None:
    found = holes(kind_named("span_in_line"))
    assert all("\n" not in middle for _, middle, _ in found)
    assert any(suffix[:1] not in ("\n", "") for _, _, suffix in found)


def test_several_lines_are_two_to_six() -> None:
    long = "".join(f"line {number}\n" for number in range(40))
    counts = {middle.count("\n") for _, middle, _ in holes(kind_named("several_lines"), long)}
    assert counts - {0} == {1, 2, 3, 4, 5}  # none only at the end of the file


def test_nothing_is_empty() -> None:
    assert all(middle == "" for _, middle, _ in holes(nothing))


# Whole examples.


def stream(tiny: Any, tokenizer: CodeTokenizer, **settings: Any) -> ExampleStream:
    return ExampleStream(tiny.files, tokenizer, **settings)


def parts(example: Example, tokenizer: CodeTokenizer) -> tuple[bytes, bytes, bytes, bytes]:
    """Header, suffix, prefix and middle, as bytes (a cut may go through a character)."""
    special, tokens = tokenizer.special, example.tokens
    suffix, prefix = tokens.index(special.suffix), tokens.index(special.prefix)
    header = tokens[1:suffix] if tokens[0] == special.file else tokens[:suffix]
    assert tokens[example.middle - 1] == special.middle
    pieces = (
        header,
        tokens[suffix + 1 : prefix],
        tokens[prefix + 1 : example.middle - 1],
        tokens[example.middle : -1],
    )
    for piece in pieces:
        assert all(tokenizer.token_bytes(token) for token in piece)  # no marker within
    return tuple(tokenizer.decode_bytes(piece) for piece in pieces)  # type: ignore[return-value]


@pytest.mark.parametrize("room", [64, 100, 400])
def test_an_example_is_a_piece_of_a_file(
    tiny: Any, tiny_tokenizer: CodeTokenizer, room: int
) -> None:
    """Prefix, middle and suffix stand in one file one after the other; the end is the last."""
    draws = stream(tiny, tiny_tokenizer, plain_share=0)
    rng = Random(1)
    filled = 0
    for _ in range(150):
        example = draws.draw(rng, room)
        assert len(example.tokens) <= room
        if example.middle == len(example.tokens):
            continue  # the middle was too long for the room
        filled += 1
        assert example.tokens[-1] == tiny_tokenizer.special.eom
        assert example.tokens.count(tiny_tokenizer.special.eom) == 1
        header, suffix, prefix, middle = parts(example, tiny_tokenizer)
        whole = [file.text.encode() for file in tiny.files]
        assert any(prefix + middle + suffix in text for text in whole)
        assert header == b"" or header.decode() in {file.path for file in tiny.files}
    assert filled > 100


def test_a_plain_example_is_text_from_a_line_start(
    tiny: Any, tiny_tokenizer: CodeTokenizer
) -> None:
    draws = stream(tiny, tiny_tokenizer, plain_share=1)
    rng = Random(2)
    for _ in range(50):
        example = draws.draw(rng, 64)
        assert 1 <= len(example.tokens) <= 64
        assert example.middle == len(example.tokens)
        text = tiny_tokenizer.decode_bytes(example.tokens)
        assert all(tiny_tokenizer.token_bytes(token) for token in example.tokens)
        assert any(f"\n{file.text}".encode().find(b"\n" + text) >= 0 for file in tiny.files)


def test_examples_vary_in_what_they_show(tiny: Any, tiny_tokenizer: CodeTokenizer) -> None:
    """With and without a name, a suffix, a middle."""
    draws = stream(tiny, tiny_tokenizer, plain_share=0.2)
    rng = Random(3)
    examples = [draws.draw(rng, 200) for _ in range(300)]
    fim = [one for one in examples if one.middle < len(one.tokens)]
    assert 0.1 < 1 - len(fim) / 300 < 0.35
    shown = [parts(one, tiny_tokenizer) for one in fim]
    for place, least, most in ((0, 0.35, 0.65), (1, 0.75, 0.97), (3, 0.85, 0.99)):
        share = sum(bool(one[place]) for one in shown) / len(shown)
        assert least < share < most, place


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


def test_the_prompt_fills_its_room(tiny_tokenizer: CodeTokenizer) -> None:
    """A model is to see as much context as it has room for."""
    lines = "".join(f"value_{number} = {number}\n" for number in range(400))
    draws = ExampleStream([SourceFile("a.py", lines)], tiny_tokenizer, plain_share=0)
    rng = Random(5)
    lengths = sorted(len(draws.draw(rng, 256).tokens) for _ in range(100))
    assert lengths[20] > 256 - 30


def test_no_files_are_named() -> None:
    with pytest.raises(ValueError, match="no training files: build the corpus first"):
        ExampleStream([], None)  # type: ignore[arg-type]
