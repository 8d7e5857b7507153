"""The tokenizer: lossless, code never becomes a control token, tokens suit code."""

from pathlib import Path

import pytest
from fim_model.prompt.tokenizer import SPECIAL_TOKEN_NAMES, CodeTokenizer, TokenizerError
from fim_training.base.train_tokenizer import SPECIAL_TOKENS, main, train
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

CODE = '''\
class Point:
    """A place <|eom|> on the plane."""

    LIMITS = (100, 1000, 100)

    def __init__(self, x, y):
        self.x = x
        self.y = y

    def moved(self, dx, dy):
        if dx == 0 and dy == 0:
            return self
        return Point(self.x + dx, self.y + dy)
'''
VOCABULARY = 420


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train([CODE] * 4, VOCABULARY)


@pytest.fixture(scope="module")
def tokenizer(trained: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> CodeTokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    trained.save(str(path))
    return CodeTokenizer.from_file(path)


def pieces(tokenizer: CodeTokenizer, text: str) -> list[str]:
    return [tokenizer.token_text(token_id) for token_id in tokenizer.encode(text)]


@given(text=st.text())
def test_any_text_round_trips_byte_for_byte(tokenizer: CodeTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_batch([text, CODE]) == [ids, tokenizer.encode(CODE)]


TRICKY = ["\r\n", "\n", " \t", "    ", "\u2028", "\f", "x", "_", "9", "==", "é", "😀"]


@given(text=st.lists(st.sampled_from(TRICKY)).map("".join))
def test_white_space_and_borders_round_trip(tokenizer: CodeTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_lone_surrogates_become_the_replacement_character(tokenizer: CodeTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud83db")) == "a\ufffdb"
    assert tokenizer.encode("\ud83d\ude00") == tokenizer.encode("😀")


@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_a_special_token_spelled_out_in_code_is_plain_text(
    tokenizer: CodeTokenizer, name: str
) -> None:
    code = f'if token == "{name}":{name}'
    ids = tokenizer.encode(code)
    assert min(ids) >= len(SPECIAL_TOKENS)
    assert min(tokenizer.encode_batch([code])[0]) >= len(SPECIAL_TOKENS)
    assert tokenizer.decode(ids) == code


def test_special_tokens_have_the_first_ids_in_order(tokenizer: CodeTokenizer) -> None:
    names = " ".join(tokenizer.token_text(token_id) for token_id in range(16))
    assert names == (
        "<|pad|> <|mask|> <|eom|> <|eot|> <|fim_prefix|> <|fim_suffix|> <|fim_middle|> <|file|> "
        "<|snippet|> <|edit|> <|old|> <|new|> "
        "<|reserved_0|> <|reserved_1|> <|reserved_2|> <|reserved_3|>"
    )
    special = tokenizer.special
    assert [special.pad, special.mask, special.eom, special.eot] == [0, 1, 2, 3]
    assert [special.prefix, special.suffix, special.middle] == [4, 5, 6]
    assert [special.file, special.snippet, special.edit, special.old, special.new] == [
        *range(7, 12)
    ]


def test_special_tokens_are_skipped_in_decoding(tokenizer: CodeTokenizer) -> None:
    special = tokenizer.special
    ids = [special.middle, *tokenizer.encode("x = 1"), special.eom, special.pad]
    assert tokenizer.decode(ids) == "x = 1"


def test_newline_and_indentation_are_one_token(tokenizer: CodeTokenizer) -> None:
    assert pieces(tokenizer, "x\n        return") == ["x", "\n        ", "return"]
    assert "\n    " in pieces(tokenizer, "x\n    self")


def test_words_include_one_leading_mark_and_digits_are_separate(tokenizer: CodeTokenizer) -> None:
    assert "|".join(pieces(tokenizer, "return(self.x, 100)")) == "return|(self|.x|,| |1|0|0|)"
    # A line's indentation is never merged with its first word.
    assert pieces(tokenizer, "\n    self")[-1] == "self"


def test_newline_ids_are_those_whose_text_has_a_newline(tokenizer: CodeTokenizer) -> None:
    expected = [
        token_id
        for token_id in range(tokenizer.vocab_size)
        if "\n" in tokenizer.token_text(token_id)
    ]
    assert list(tokenizer.newline_ids) == expected
    assert len(expected) >= 3
    assert set(tokenizer.encode("\n")) <= set(expected)


def test_an_incomplete_character_is_held_back(tokenizer: CodeTokenizer) -> None:
    ids = tokenizer.encode("a😀")
    grown = [tokenizer.decode(ids[:length]) for length in range(len(ids) + 1)]
    assert grown == ["", "a", "a", "a", "a", "a😀"]
    # In the middle of a text, an incomplete character can no longer be completed.
    assert tokenizer.decode([*ids[:-1], *tokenizer.encode("b")]) == "a\ufffdb"


def test_the_vocabulary_has_the_requested_size(
    trained: Tokenizer, tokenizer: CodeTokenizer
) -> None:
    assert tokenizer.vocab_size == trained.get_vocab_size() <= VOCABULARY
    assert all(tokenizer.token_bytes(token_id) for token_id in range(16, tokenizer.vocab_size))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no tokenizer at .*gone\.json; give the folder"):
        CodeTokenizer.from_file(tmp_path / "gone.json")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"bad\.json is not a tokenizer file"):
        CodeTokenizer.from_file(tmp_path / "bad.json")


def test_missing_special_tokens_are_named(tmp_path: Path) -> None:
    Tokenizer(models.BPE()).save(str(tmp_path / "bare.json"))
    with pytest.raises(TokenizerError, match=r"bare\.json lacks .*<\|pad\|>, <\|mask\|>"):
        CodeTokenizer.from_file(tmp_path / "bare.json")


def test_another_family_has_its_own_special_tokens(trained: Tokenizer) -> None:
    names = {**SPECIAL_TOKEN_NAMES, "mask": "<|reserved_2|>"}
    assert CodeTokenizer(trained, names).special.mask == 14


def test_training_refuses_a_vocabulary_too_small_for_bytes() -> None:
    with pytest.raises(ValueError, match="at least 272"):
        train([CODE], 271)


def test_the_command_without_a_corpus_says_how_to_build_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tokenizer.json"
    assert main(["--corpus", str(tmp_path), "--out", str(out)]) == 2
    assert "fim_training.corpus.build" in capsys.readouterr().err
    assert not out.exists()
