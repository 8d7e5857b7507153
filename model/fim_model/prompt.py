"""How a hole is shown to the model: suffix, then prefix, then the middle to be written.

Suffix first (SPM, arXiv 2207.14255): what the user types is appended at the end of the prompt, so
that the cached keys and values of everything before it stay valid between keystrokes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from fim_model.tokenizer import CodeTokenizer


@dataclass(frozen=True, slots=True)
class PromptBudget:
    """How many tokens prefix and suffix may take together, and the suffix at most.

    The prefix keeps its end, the suffix its beginning. A prefix that is too long is cut in whole
    multiples of `step`, so that its first token stays where it is for `step` typed tokens and
    cached keys stay valid.
    """

    total: int
    suffix: int
    step: int = 1


def spm_prompt(
    tokenizer: CodeTokenizer, prefix: str, suffix: str, path: str, budget: PromptBudget
) -> list[int]:
    """`<file> path <suffix> … <prefix> … <middle>`: what follows is the middle, then end-of-middle.

    Prefix and middle are tokenised apart, at the very character of the cursor, in training as here.
    """
    special = tokenizer.special
    suffix_ids = tokenizer.encode(suffix)[: budget.suffix]
    prefix_ids = stepped_tail(tokenizer.encode(prefix), budget.total - len(suffix_ids), budget.step)
    return [
        *file_header(tokenizer, path),
        special.suffix,
        *suffix_ids,
        special.prefix,
        *prefix_ids,
        special.middle,
    ]


def snippet_prompt(
    tokenizer: CodeTokenizer, snippets: Sequence[tuple[str, str]], limit: int
) -> list[int]:
    """`<file> path <snippet> text` for each (path, text): what stands before `spm_prompt`.

    The first ones, whole, as long as they take no more than `limit` tokens together.
    """
    ids: list[int] = []
    for path, text in snippets:
        one = [*file_header(tokenizer, path), tokenizer.special.snippet, *tokenizer.encode(text)]
        if len(ids) + len(one) > limit:
            break
        ids += one
    return ids


def plain_prompt(tokenizer: CodeTokenizer, prefix: str, limit: int) -> list[int]:
    """The prefix alone, as left-to-right text; an end mark stands for an empty one."""
    ids = tokenizer.encode(prefix)
    return stepped_tail(ids, limit, max(1, limit // 4)) or [tokenizer.special.eot]


def stepped_tail(ids: list[int], limit: int, step: int) -> list[int]:
    """The last ids, at most `limit`, after dropping a multiple of `step` from the start."""
    excess = max(0, len(ids) - limit)
    return ids[-(-excess // step) * step :]


def file_header(tokenizer: CodeTokenizer, path: str) -> list[int]:
    """The file's name and its folder's, or nothing for a document without a path."""
    if not path:
        return []
    name = "/".join(PurePosixPath(path.replace("\\", "/").lstrip("/")).parts[-2:])
    return [tokenizer.special.file, *tokenizer.encode(name)[-HEADER_TOKENS:]]


HEADER_TOKENS = 20
"""Most tokens of a file's name."""

PROMPT_OVERHEAD = HEADER_TOKENS + 4
"""Most tokens of a prompt beyond its budget: the file's name and the four markers."""
