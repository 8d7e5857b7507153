"""The tokenizer of a checkpoint folder."""

from __future__ import annotations

from pathlib import Path

from fim_model.families.fim_layouts import OWN
from fim_model.loading.headers import TOKENIZER, read_config
from fim_model.prompt.tokenizer import SPECIAL_TOKEN_NAMES, CodeTokenizer, TokenizerError
from fim_model.prompt.window import fim_prompt


def read_tokenizer(folder: Path) -> CodeTokenizer:
    """Read a checkpoint's tokenizer, and check that it can spell the model's FIM prompt.

    Needs only the JSON files. Raises CheckpointError.
    """
    config = read_config(folder)
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
