"""Linear self-speculation: the model drafts as a diffuser and verifies as itself.

A round is two forwards: a bidirectional draft of `[seed, MASK …]`, then a causal verification of
the drafted tokens. The prefix that agrees with the causal model is accepted, and the
token after it comes for free: so a draft is one token shorter than what is still allowed, and the
last token needs no draft.
Greedy output is the autoregressive output; sampled output has the autoregressive distribution.
"""

from __future__ import annotations

import torch

from fim_model.decoding.core import DecodingCore, ForwardKind, Steps
from fim_model.decoding.sampling import Draft


def self_speculation(core: DecodingCore) -> Steps:
    while core.finish is None:
        draft = Draft.nothing()
        if core.left > 1:
            canvas = core.open_block(core.left - 1)
            drafted = canvas.masked.clone()
            draft = core.sampler.draft(core.draft(canvas, core.model.draft_lora))
            scores = canvas.spread(draft.scores)
            canvas.commit(drafted, scores.token, scores.confidence)
            yield core.draft_step(canvas, drafted)

        draft = draft.until(core.stop.eom_id)
        before = len(core.tokens)
        block = torch.cat((torch.tensor(core.tokens[-1:]), draft.tokens))
        accepted = core.sampler.accept_draft(core.causal(block), draft)
        core.keep(len(accepted.tokens))
        core.commit(accepted.tokens, accepted.confidences)
        kind = ForwardKind.VERIFY if len(draft.tokens) else ForwardKind.CAUSAL
        yield core.step(kind, len(block), before)
