"""A model's FIM prompt, its usable window, and the size of its KV cache."""

from __future__ import annotations

from fim_model.errors import CheckpointError
from fim_model.network.config import ModelConfig
from fim_model.prompt.fim_prompt import PROMPT_OVERHEAD, FimPrompt
from fim_model.prompt.tokenizer import CodeTokenizer
from fim_model.requests import MAX_TOKENS

WINDOW = 4096
"""Default limit of a prompt, in tokens: a model may allow far more than a completion needs, and
every document's KV cache is sized for it."""


def fim_prompt(config: ModelConfig, tokenizer: CodeTokenizer) -> FimPrompt:
    """The FIM prompt of a model. Raises CheckpointError where model and tokenizer do not match."""
    fim = FimPrompt.for_model(config, tokenizer)
    sizes = f"the tokenizer has {tokenizer.vocab_size} entries, the model {config.vocab_size}"
    # Published models have spare rows, so that their number divides well; ours have none.
    if tokenizer.vocab_size > config.vocab_size or (
        fim.layout.context and tokenizer.vocab_size != config.vocab_size
    ):
        raise CheckpointError(f"{sizes}; they are not of one checkpoint")
    if fim.layout.context and config.mask_token_id not in (None, tokenizer.special.mask):
        raise CheckpointError(
            f"the tokenizer's mask token is {tokenizer.special.mask}, the model's is "
            f"{config.mask_token_id}; they are not of one checkpoint"
        )
    return fim


def usable_window(config: ModelConfig, window: int, width: int) -> int:
    """The most prompt tokens: `window`, bounded by the model's own.

    Within a sliding window everything stays visible, so such a model is kept inside of it, the
    middle and a forward of `width` positions included. Raises CheckpointError where that leaves
    no room, ValueError for a window below 1.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 token, not {window}")
    window = min(window, config.max_position_embeddings)
    if config.sliding_window is not None:
        window = min(window, config.sliding_window - kv_tokens(config, 0, width))
        if window < 1:
            raise CheckpointError(
                f"the sliding window of {config.sliding_window} tokens leaves no room for a prompt"
            )
    return window


def kv_tokens(config: ModelConfig, window: int, width: int) -> int:
    """Capacity of a document's KV cache, in tokens: prompt, middle, and a forward's scratch."""
    return window + PROMPT_OVERHEAD + MAX_TOKENS + 2 * config.block_size + width
