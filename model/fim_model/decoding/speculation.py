"""Linear self-speculation: the model drafts as a diffuser and verifies as itself.

A round is two forwards: a bidirectional draft of `[seed, MASK …]`, then a causal verification of
the drafted tokens. What agrees with the causal model stands, and the token after it comes for free.
Greedy output is the autoregressive output; sampled output has the autoregressive distribution.
"""

from __future__ import annotations

import torch

from fim_model.decoding.core import DecodingCore, ForwardKind, Mode


def self_speculation(core: DecodingCore) -> Mode:
    while core.finish is None:
        canvas = core.open_block()
        drafted = canvas.masked.clone()
        draft = core.sampler.draft(core.draft(canvas, core.model.draft_lora))
        scores = canvas.spread(draft.scores)
        canvas.commit(drafted, scores.token, scores.confidence)
        yield core.draft_step(canvas, drafted)

        draft = draft.until(core.stop.eom_id)
        before = len(core.tokens)
        block = torch.cat((canvas.tokens[:1], draft.tokens))
        accepted = core.sampler.accept_draft(core.causal(block), draft)
        core.keep(len(accepted.tokens))
        core.commit(accepted.tokens, accepted.confidences)
        yield core.step(ForwardKind.VERIFY, len(block), before)
