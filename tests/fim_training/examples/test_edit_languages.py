"""Beyond Python: edits keep keywords, and the tokenizer suits every language."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from fim_model.prompt.tokenizer import SPECIAL_TOKEN_NAMES, CodeTokenizer
from fim_training.base.train_tokenizer import train
from fim_training.examples.grammars import GRAMMARS, PYTHON, WORDS, grammar_of
from fim_training.examples.synthetic_edits import NAME, draw_edit, missing_import

TEXTS = {
    "a.js": """\
import fs from 'fs';
import path from 'path';

async function readAll(folder, limit) {
  const names = await fs.promises.readdir(folder);
  const found = [];
  for (const name of names) {
    if (found.length >= limit) return found;
    found.push(path.join(folder, name));
  }
  return found;
}
""",
    "b.lua": """\
local fs = require("fs")
local path = require("path")

local function read_all(folder, limit)
\tlocal found = {}
\tfor _, name in ipairs(fs.list(folder)) do
\t\tif #found >= limit then
\t\t\treturn found
\t\tend
\t\tfound[#found + 1] = path.join(folder, name)
\tend
\treturn found
end
""",
    "c.h": """\
#ifndef POINT_H
#define POINT_H

typedef struct point { double x, y; } point_t;

static inline double point_dot(point_t a, point_t b)
{
        return a.x * b.x + a.y * b.y;
}
#endif
""",
    "d.sh": "#!/bin/sh\nset -eu\nfor name in \"$@\"; do\n\tif [ -f \"$name\" ]; then\n"
    "\t\techo \"$name\" 1024\n\tfi\ndone\n",
    "e.md": "# Title\r\n\r\nA *sentence* with `code`, 3.14 and 😀.\r\n\r\n- one\r\n- two\r\n",
    "f.yaml": "jobs:\n  build:\n    runs-on: ubuntu\n    steps:\n      - run: make\n",
    "g.toml": '[tool.x]\nname = "x"\nports = [8000, 8001]\n',
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "grammar"),
    [
        ("a.py", PYTHON),
        ("untitled", PYTHON),
        ("a.jsx", GRAMMARS["javascript"]),
        ("a.hpp", GRAMMARS["cpp"]),
        ("a.md", WORDS),
    ],
)
def test_a_file_is_parsed_with_its_languages_grammar(path: str, grammar: object) -> None:
    assert grammar_of(path) is grammar


@pytest.mark.parametrize("path", ["a.js", "b.lua", "c.h", "d.sh"])
def test_edits_do_not_change_keywords(path: str) -> None:
    """For any draw, every keyword occurs as often after the edits as before."""
    grammar, text = grammar_of(path), TEXTS[path]

    def keywords(code: str) -> list[str]:
        return sorted(word for word in NAME.findall(code) if word in grammar.keywords)

    kinds = set()
    for seed in range(120):
        case = draw_edit(text, Random(seed), grammar=grammar)
        if case is None or case.kind == "import":
            continue
        kinds.add(case.kind)
        after = f"{case.prefix}{case.old}{case.suffix}"
        assert keywords(after) == keywords(text), (seed, case)
        if case.kind == "typo":
            assert f"{case.prefix}{case.new}{case.suffix}" == text
    assert kinds >= {"rename", "typo", "none"}


@pytest.mark.parametrize(("path", "names"), [("a.js", {"fs", "path"}), ("b.lua", {"fs", "path"})])
def test_a_removed_import_is_restored(path: str, names: set[str]) -> None:
    lines = TEXTS[path].split("\n")
    found = [missing_import(lines, 0, Random(seed), grammar_of(path)) for seed in range(40)]
    cases = [case for case in found if case is not None]
    assert {grammar_of(path).imported(line) for line in lines[:2]} == names
    assert cases
    assert all(f"{case.prefix}{case.new}{case.suffix}" == TEXTS[path] for case in cases)


@pytest.mark.parametrize(
    ("path", "line", "name"),
    [
        ("a.py", "from os import path", "path"),
        ("a.ts", 'import type { Point } from "./point";', "Point"),
        ("a.ts", 'import * as vscode from "vscode";', "vscode"),
        ("a.js", "const fs = require('node:fs');", "fs"),
        ("a.js", "import './side-effect.js';", None),
        ("a.lua", 'local fs = require "fs"', "fs"),
        ("a.c", "#include <stdio.h>", None),
    ],
)
def test_imports_by_language(path: str, line: str, name: str | None) -> None:
    assert grammar_of(path).imported(line) == name


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CodeTokenizer:
    path = tmp_path_factory.mktemp("many") / "tokenizer.json"
    train(list(TEXTS.values()) * 3, 700).save(str(path))
    return CodeTokenizer.from_file(path)


@pytest.mark.parametrize("path", TEXTS)
def test_every_language_round_trips_byte_for_byte(tokenizer: CodeTokenizer, path: str) -> None:
    text = TEXTS[path]
    assert tokenizer.decode_bytes(tokenizer.encode(text)) == text.encode()


def test_digits_are_separate_and_indentation_is_one_token(tokenizer: CodeTokenizer) -> None:
    pieces = [
        tokenizer.token_text(token_id) for token_id in tokenizer.encode("x = 8001\n\t\tif y then\n")
    ]
    assert pieces[-2:] != ["\n\t\t", "if"]
    assert "\n\t\t" in pieces
    assert [piece for piece in pieces if any(map(str.isdigit, piece))] == ["8", "0", "0", "1"]
    deep = [tokenizer.token_text(token_id) for token_id in tokenizer.encode("steps:\n      - run")]
    assert "\n      " in deep


def test_the_special_tokens_of_edits_exist_and_never_occur_in_code(
    tokenizer: CodeTokenizer,
) -> None:
    special = tokenizer.special
    ids = {special.file, special.snippet, special.edit, special.old, special.new, special.eom}
    assert len(ids) == 6
    spelled = "".join(SPECIAL_TOKEN_NAMES.values())
    assert not set(tokenizer.encode(spelled)) & set(range(len(SPECIAL_TOKEN_NAMES)))
    assert tokenizer.decode(tokenizer.encode(spelled)) == spelled


def test_the_gpu_models_config_is_complete_and_ships(tiny_tokenizer: CodeTokenizer) -> None:
    """With its documented vocabulary, it has the default's size."""
    import fim_training
    from fim_model.loading.headers import parameter_count
    from fim_training.trainer.train_config import TrainConfig

    folder = Path(fim_training.__path__[0]) / "recipes"
    config = TrainConfig.read(folder / "scratch.toml")
    rows = 16_384 - tiny_tokenizer.vocab_size
    count = parameter_count(config.model(tiny_tokenizer)) + rows * config.hidden_size
    assert 110e6 < count < 120e6
    assert TrainConfig.read(folder / "base.toml").base == "runs/base"
    assert TrainConfig.read(folder / "nld_lora.toml").lora_rank == 32
