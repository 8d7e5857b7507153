"""A hole as published loops fill it, in plain lists with a whole forward of transformers a step.

Written from the descriptions of Dream and DreamOn; it shares no code with the decoding core.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from canvas_checkpoints import Tiny
from fim_model.requests import CompletionRequest

TRIED = (2, 4, 8, 16, 32)
"""Lengths of a hole that a model of fixed length is given."""


@dataclass
class Published:
    """A hole as a published loop fills it: its ids, the forwards, and what happened."""

    hole: list[int]
    forwards: int
    events: Counter[str] = field(default_factory=Counter)


def entropy_rule(gamma: float) -> Callable[[list[float]], list[int]]:
    """The surest masks by entropy, as many as the bound allows (EB-Sampler); 0 is one of them."""

    def chosen(entropies: list[float]) -> list[int]:
        order = sorted(range(len(entropies)), key=lambda i: entropies[i])
        taken, before = [order[0]], entropies[order[0]]
        for place in order[1:]:
            if before > gamma:
                break
            taken.append(place)
            before += entropies[place]
        return taken

    return chosen


def fill(
    tiny: Tiny,
    before: list[int],
    after: list[int],
    masks: int,
    limit: int,
    choose: Callable[[list[float]], list[int]],
) -> Published:
    """Dream's loop; with an expand token, DreamOn's."""
    found = Published([tiny.mask] * masks, 0)
    budget = 2 * limit
    while tiny.mask in found.hole:
        hole = found.hole
        if tiny.expand is None and tiny.ends & {*hole[: hole.index(tiny.mask)]}:
            break
        logits = tiny.logits([*before, *hole, *after]).double()
        found.forwards += 1
        logits[:, tiny.mask] = -1e30
        if tiny.expand is not None and (len(hole) == limit or not budget):
            logits[:, tiny.expand] = -1e30
            found.events["expand blocked"] += 1
        masked = [i for i, token in enumerate(hole) if token == tiny.mask]
        rows = logits[[len(before) + i - tiny.shifted for i in masked]]
        probabilities = rows.softmax(-1)
        entropies = [-sum(p * math.log(p) for p in row if p > 0) for row in probabilities.tolist()]
        revealed = [masked[k] for k in choose(entropies)]
        tokens = dict(zip(masked, rows.argmax(-1).tolist(), strict=True))
        new = [tokens[i] if i in revealed else token for i, token in enumerate(hole)]
        if tiny.expand is None:
            found.hole = new
            continue
        deletes = [i for i in revealed if tokens[i] == tiny.eos]
        if deletes:
            found.events["deleted"] += 1
            new = [t for i, t in enumerate(new) if i < min(deletes) or i not in masked]
        room = min(limit - len(hole), budget)
        longer: list[int] = []
        expanded = 0
        for token in new:
            if token == tiny.expand:
                expanded += 1
                found.events["expanded" if expanded <= room else "no room"] += 1
                longer += [tiny.mask] * (2 if expanded <= room else 1)
            else:
                longer.append(token)
        budget -= min(expanded, room)
        if deletes and expanded:
            found.events["deleted and expanded"] += 1
        found.hole = longer
    return found


def published(
    tiny: Tiny,
    ids_of: Callable[[str], list[int]],
    request: CompletionRequest,
    gamma: float,
    first: int,
) -> Published:
    """The whole request: sides as published, and the length that fits best.

    `ids_of` is the tokenizer; what it makes of a text is tested in
    `families/test_canvas_families.py`.
    """
    ends = [tiny.eos] if tiny.begin is not None and tiny.shifted else []
    before = [*([tiny.begin] if tiny.begin is not None else []), *ids_of(request.prefix)]
    after = [*ids_of(request.suffix), *ends]
    limit, choose = request.max_tokens, entropy_rule(gamma)
    if tiny.expand is not None:
        return fill(tiny, before, after, min(first, limit), limit, choose)
    scores = {}
    for length in dict.fromkeys(min(length, limit) for length in TRIED):
        rows = tiny.logits([*before, *[tiny.mask] * length, *after]).double()
        rows[:, tiny.mask] = -1e30
        start = len(before) - tiny.shifted
        best = rows[start : start + length].softmax(-1).max(-1).values
        scores[length] = float(best.mean())
    best_length = max(scores, key=lambda length: scores[length])
    found = fill(tiny, before, after, best_length, limit, choose)
    found.forwards += len(scores)
    return found
