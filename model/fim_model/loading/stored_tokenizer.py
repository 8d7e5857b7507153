"""The tokenizer of a checkpoint, and its chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from fim_model.errors import CheckpointError
from fim_model.families.fim_layouts import OWN
from fim_model.loading.gguf_file import is_gguf, read_gguf
from fim_model.loading.headers import TOKENIZER, TOKENIZER_CONFIG, read_config, read_json
from fim_model.loading.vocabulary_files import VOCABULARY, tokenizer_of_files
from fim_model.prompt.chat_prompt import ChatPrompt, ChatTemplate
from fim_model.prompt.tokenizer import SPECIAL_TOKEN_NAMES, CodeTokenizer, TokenizerError
from fim_model.prompt.window import fim_prompt

GENERATION_CONFIG = "generation_config.json"
TEMPLATE_FILE, OLD_TEMPLATE_FILE = "chat_template.jinja", "chat_template.json"


def read_tokenizer(folder: Path) -> CodeTokenizer:
    """Read a checkpoint's tokenizer, and check that it fits the model.

    Needs only the JSON files. Raises CheckpointError.
    """
    config = read_config(folder)
    if is_gguf(folder):
        path, tokenizer = folder, _gguf_tokenizer(folder, config.vocab_size)
    elif not (folder / TOKENIZER).is_file() and (folder / VOCABULARY).is_file():
        path = folder / VOCABULARY
        tokenizer = _made(tokenizer_of_files(folder), path, config.vocab_size)
    else:
        path = folder / TOKENIZER
        # Our own AR-only models have no mask token, but they are the only family with edit prompts.
        ours = config.mask_token_id is not None or config.fim_edits
        own = OWN in config.family.layouts and ours
        names = SPECIAL_TOKEN_NAMES if own else None
        tokenizer = CodeTokenizer.from_file(path, names, ids=config.vocab_size)
    try:
        fim_prompt(config, tokenizer)
    except TokenizerError as lacking:
        raise TokenizerError(f"{path}: {lacking}") from None
    return tokenizer


def read_chat(folder: Path, tokenizer: CodeTokenizer) -> ChatPrompt | None:
    """The conversations of a checkpoint with a chat template, None for one without.

    Raises CheckpointError for files that are not valid.
    """
    config = read_config(folder)
    if is_gguf(folder):
        source, words = read_gguf(folder).chat_template, {}
    else:
        words = _optional(folder / TOKENIZER_CONFIG)
        source = _template(folder, words)
    if not source:
        return None
    begin = None if config.bos_token_id is None else tokenizer.token_name(config.bos_token_id)
    generation = {} if is_gguf(folder) else _optional(folder / GENERATION_CONFIG)
    stated = generation.get("eos_token_id")
    eos = _text(words.get("eos_token"))
    ends = [
        *config.eos_token_ids,
        *(stated if isinstance(stated, list) else [stated]),
        tokenizer.token_id(eos) if eos else None,
    ]
    known = [end for end in ends if isinstance(end, int) and 0 <= end < config.vocab_size]
    template = ChatTemplate(
        source,
        bos=_text(words.get("bos_token")) or begin or "",
        eos=eos or (tokenizer.token_name(known[0]) if known else None) or "",
        ends=tuple(dict.fromkeys(known)),
    )
    return ChatPrompt(template, tokenizer)


def _gguf_tokenizer(path: Path, ids: int) -> CodeTokenizer:
    gguf = read_gguf(path)
    return _made(gguf.tokenizer, path, ids, gguf.fim_markers)


def _made(
    raw: dict[str, Any], path: Path, ids: int, fim_markers: tuple[str, str, str] | None = None
) -> CodeTokenizer:
    """From the content of a `tokenizer.json` that was made of other files."""
    try:
        tokenizer = Tokenizer.from_str(json.dumps(raw))
        return CodeTokenizer(tokenizer, None, ids=ids, fim_markers=fim_markers)
    except Exception as unfit:  # the library raises plain Exception
        raise TokenizerError(f"{path}: its tokenizer cannot be used for code ({unfit})") from None


def _template(folder: Path, words: dict[str, Any]) -> str:
    """The source of the template, wherever this checkpoint has it; "" if it has none."""
    if (folder / TEMPLATE_FILE).is_file():
        try:
            return (folder / TEMPLATE_FILE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as broken:
            raise CheckpointError(f"{folder / TEMPLATE_FILE}: cannot be read ({broken})") from None
    found = words.get("chat_template") or _optional(folder / OLD_TEMPLATE_FILE).get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found}
        found = named.get("default")
    return found if isinstance(found, str) else ""


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _text(token: Any) -> str:
    """A token in `tokenizer_config.json`, which is a text or an object."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""
