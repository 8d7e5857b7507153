"""Autoregressive decoding: one causal forward a token."""

from __future__ import annotations

import torch

from fim_model.decoding.core import DecodingCore, ForwardKind, Steps


def autoregressive(core: DecodingCore) -> Steps:
    while core.finish is None:
        before = len(core.tokens)
        core.next_seed(torch.tensor(core.tokens[-1:]))
        yield core.step(ForwardKind.CAUSAL, 1, before)
