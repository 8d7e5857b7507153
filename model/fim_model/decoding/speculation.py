"""Linear self-speculation: the model drafts as a diffuser and verifies as itself.

A round is two forwards: a bidirectional draft of `[seed, MASK …]`, then a causal verification of
the drafted tokens. The prefix that agrees with the causal model is accepted, and the
token after it comes for free: so a draft is one token shorter than what is still allowed, and the
last token needs no draft.
Greedy output is the autoregressive output; sampled output has the autoregressive distribution.
"""

from __future__ import annotations

from collections.abc import Generator

import torch

from fim_model.decoding.core import DecodingCore, ForwardKind, Step, Steps
from fim_model.decoding.sampling import Draft


def self_speculation(core: DecodingCore) -> Steps:
    while core.finish is None:
        draft = Draft.nothing()
        if core.left > 1:
            draft = yield from draft_block(core, core.left - 1)
        yield verify(core, draft)


def draft_block(core: DecodingCore, limit: int) -> Generator[Step, None, Draft]:
    """One bidirectional forward over `[seed, MASK ...]` with no more masks than `limit`."""
    canvas = core.open_block(limit)
    drafted = canvas.masked.clone()
    draft = core.sampler.draft(core.draft(canvas, core.model.draft_lora))
    scores = canvas.spread(draft.scores)
    canvas.commit(drafted, scores.token, scores.confidence)
    yield core.draft_step(canvas, drafted)
    return draft


def verify(core: DecodingCore, draft: Draft) -> Step:
    """One causal forward over the seed and a draft; commits what it accepts, and one token more."""
    draft = draft.until(core.stop.eom_id)
    before = len(core.tokens)
    block = torch.cat((torch.tensor(core.tokens[-1:]), draft.tokens))
    accepted = core.sampler.accept_draft(core.causal(block), draft)
    core.keep(len(accepted.tokens))
    core.commit(accepted.tokens, accepted.confidences)
    kind = ForwardKind.VERIFY if len(draft.tokens) else ForwardKind.CAUSAL
    return core.step(kind, len(block), before)
