"""transformers' `generate` as a filler over the same weights and prompts, for `bench modes`.

transformers is not a run-time dependency; without it, or with a checkpoint that it cannot load,
`bench modes` skips this comparison.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from fim_model.infiller import Infiller
    from fim_training.evaluation.filler import Fill, Filler, Hole


def transformers_filler(infiller: Infiller, checkpoint: Path) -> Filler | None:
    """A greedy Filler over `generate` with its KV cache; None if transformers cannot load it."""
    try:
        from transformers import AutoModelForCausalLM, StoppingCriteriaList
    except ImportError:
        return None
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float32, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError):
        return None
    model.eval()

    def fill(hole: Hole) -> Fill:
        from fim_model.prompt.line_limit import first_lines, line_limit
        from fim_model.requests import CompletionRequest
        from fim_training.evaluation.filler import Fill

        request = CompletionRequest(
            hole.prefix,
            hole.suffix,
            hole.path,
            mode="ar",
            max_tokens=hole.max_tokens,
            max_lines=hole.max_lines,
        )
        began = time.perf_counter()
        prompt = torch.tensor([infiller.prompt(request)])
        eom = infiller.tokenizer.special.eom
        done = line_limit(infiller.tokenizer, hole.max_lines)
        with torch.inference_mode():
            ids = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=hole.max_tokens,
                do_sample=False,
                eos_token_id=eom,
                pad_token_id=eom,
                stopping_criteria=StoppingCriteriaList([_after_lines(done, prompt.shape[1])]),
            )
        tokens = ids[0, prompt.shape[1] :].tolist()
        text = infiller.tokenizer.decode(tokens)
        if hole.max_lines is not None:
            text = first_lines(text, hole.max_lines)
        ms = 1000 * (time.perf_counter() - began)
        return Fill(text, len(tokens), len(tokens), ms, "eom" if tokens[-1] == eom else "length")

    return fill


def _after_lines(
    done: Callable[[Sequence[int]], bool], prompt: int
) -> Callable[..., torch.BoolTensor]:
    """A stopping criterion: all requested lines are complete. `prompt` is its length in tokens."""

    def criterion(ids: torch.Tensor, scores: Any, **unused: Any) -> Any:
        return torch.tensor([done(ids[0, prompt:].tolist())])

    return criterion
