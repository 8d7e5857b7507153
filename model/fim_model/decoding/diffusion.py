"""Block diffusion, as Nemotron-Labs-Diffusion does it: denoise a block, make its keys exact, go on.

Each block begins with the autoregressive seed and has no more masks than tokens are still allowed.
When it is full, one causal forward writes the keys that reading it left to right gives, and yields
the next seed, so the cache is never approximate.
"""

from __future__ import annotations

from fim_model.decoding.commit_rules import CommitRule
from fim_model.decoding.core import DecodingCore, ForwardKind, Steps
from fim_model.decoding.denoise import denoise


def diffusion(core: DecodingCore, rule: CommitRule) -> Steps:
    while core.finish is None:
        canvas = core.open_block(core.left)
        for revealed in denoise(core, canvas, rule, end=core.stop.eom_id):
            yield core.draft_step(canvas, revealed)
        before = len(core.tokens)
        end = canvas.settled_end(core.stop.eom_id)
        block = slice(1, None if end is None else end + 1)
        core.commit(canvas.tokens[block].tolist(), canvas.confidence[block].tolist())
        if core.finish is None:
            core.next_seed(canvas.tokens)
            yield core.step(ForwardKind.VERIFY, len(canvas.tokens), before)
