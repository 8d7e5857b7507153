"""Models with prescribed instead of random behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from fim_model.network.config import ModelConfig
from fim_model.network.transformer import TriModeTransformer


def likely(config: ModelConfig, token: int, logit: float) -> TriModeTransformer:
    """A model that gives `token` higher odds than all others, which are equal."""
    model = TriModeTransformer(replace(config, tie_word_embeddings=False))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.model.norm.weight.fill_(1)
        model.model.embed_tokens.weight.fill_(1)
        model.lm_head.weight[token] = logit / config.hidden_size
    return model.requires_grad_(False).eval()


def bigram(config: ModelConfig, follows: Mapping[int, int], otherwise: int) -> TriModeTransformer:
    """A bigram model: predicts `follows[token]`, or `otherwise`, also for masks.

    `follows` has fewer entries than the hidden state has dimensions.
    """
    model = likely(config, 0, 0.0)
    embed, head = model.model.embed_tokens.weight, model.lm_head.weight
    embed.zero_()
    embed[:, -1] = 1
    head[otherwise, -1] = 4
    for place, (token, after) in enumerate(follows.items()):
        embed[token, -1], embed[token, place] = 0, 1
        head[after, place] = 4
    return model


def counting(config: ModelConfig, period: int) -> TriModeTransformer:
    """A model whose next token is the last token plus one, modulo `period`."""
    size = config.vocab_size
    model = bigram(replace(config, hidden_size=size + 1), {}, 0)
    embed, head = model.model.embed_tokens.weight, model.lm_head.weight
    embed[:, :-1], embed[:, -1] = torch.eye(size), 0
    head.zero_()
    for token in range(size):
        head[(token + 1) % period, token] = 4
    return model
