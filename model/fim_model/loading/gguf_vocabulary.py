"""A checkpoint's tokenizer as the metadata of a GGUF file.

Two kinds, as in `prompt/byte_alphabet.py`: byte-level BPE is llama.cpp's `gpt2`, which needs the
name of the rule that cuts text into words; SentencePiece is its `llama`, which merges by score.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fim_model.errors import CheckpointError
from fim_model.families.fim_layouts import Slot
from fim_model.loading.gguf_tokenizer import PRE_TOKENIZERS
from fim_model.network.config import ModelConfig
from fim_model.prompt.fim_prompt import FimPrompt

if TYPE_CHECKING:
    from gguf import GGUFWriter

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")

_MISTRAL_MIDDLE = "[MIDDLE]"
"""In Mistral's tokenizers, though their FIM prompts end with the prefix."""

_UNMATCHED = "default"
"""llama.cpp's rule for models that name none."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """tokens: text by id, with a name for ids that only the model has. kinds: `gguf.TokenType` by
    id. merges: byte-level only. scores: SentencePiece only. words: `tokenizer.ggml.pre`. ids:
    roles by the name of their metadata key. begins: whether llama.cpp puts `bos` first.
    space_first: whether SentencePiece puts a space before a text."""

    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    scores: list[float]
    words: str
    ids: dict[str, int]
    begins: bool
    space_first: bool

    @classmethod
    def of(
        cls,
        raw: dict[str, Any],
        config: ModelConfig,
        prompt: FimPrompt,
        path: Path,
        *,
        any_words: bool = False,
    ) -> Vocabulary:
        """From the content of a `tokenizer.json` at `path`.

        Raises CheckpointError where llama.cpp would cut text into other words, unless `any_words`.
        """
        model = raw["model"]
        sentence_piece = bool(model.get("byte_fallback"))
        words = "" if sentence_piece else _words(raw["pre_tokenizer"])
        if not words and not sentence_piece:
            if not any_words:
                raise CheckpointError(
                    f"{path}: llama.cpp has no pre-tokenizer that cuts text as this one does, so "
                    "the model would see other tokens there; models with one of "
                    f"{', '.join(PRE_TOKENIZERS)} can be exported"
                )
            words = _UNMATCHED
        texts = {token_id: text for text, token_id in model["vocab"].items()}
        added = {token["id"]: token for token in raw["added_tokens"]}
        texts |= {token_id: token["content"] for token_id, token in added.items()}
        merges = [
            merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]
        ]
        tokens = [
            texts.get(token_id, f"[unused {token_id}]") for token_id in range(config.vocab_size)
        ]
        return cls(
            tokens,
            [_kind(token_id, texts, added, model) for token_id in range(config.vocab_size)],
            [] if sentence_piece else [" ".join(pair) for pair in merges],
            _scores(tokens, merges) if sentence_piece else [],
            words,
            _roles(config, prompt),
            Slot.START in prompt.layout.order and prompt.bos is not None,
            _mentions(raw["normalizer"], "Prepend") or _mentions(raw["pre_tokenizer"], "Metaspace"),
        )

    def add_to(self, writer: GGUFWriter) -> None:
        """Write the metadata."""
        writer.add_tokenizer_model("gpt2" if self.words else "llama")
        if self.words:
            writer.add_tokenizer_pre(self.words)
            writer.add_token_merges(self.merges)
        else:
            writer.add_token_scores(self.scores)
            writer.add_add_space_prefix(self.space_first)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.kinds)
        for role, token_id in self.ids.items():
            writer.add_uint32(f"tokenizer.ggml.{role}_token_id", token_id)
        writer.add_add_bos_token(self.begins)
        writer.add_add_eos_token(False)


def _words(pre_tokenizer: dict[str, Any] | None) -> str:
    """llama.cpp's name of a rule that cuts text in the same way, "" if none is known."""
    wanted = _essence(pre_tokenizer)
    return next((name for name, rule in PRE_TOKENIZERS.items() if _essence(rule) == wanted), "")


def _essence(rule: Any) -> Any:
    """The rule without what does not change how code is cut (see `exact`)."""
    if isinstance(rule, dict):
        ignored = ("trim_offsets", "add_prefix_space")
        return {name: _essence(value) for name, value in rule.items() if name not in ignored}
    return [_essence(step) for step in rule] if isinstance(rule, list) else rule


def _kind(
    token_id: int, texts: dict[int, str], added: dict[int, dict[str, Any]], model: dict[str, Any]
) -> int:
    from gguf import TokenType

    text = texts.get(token_id)
    if text is None:
        return int(TokenType.UNUSED)
    if text == model.get("unk_token"):
        return int(TokenType.UNKNOWN)
    if token_id in added:
        blank = added[token_id]["content"].isspace()
        return int(TokenType.USER_DEFINED if blank else TokenType.CONTROL)
    if model.get("byte_fallback") and _BYTE_TOKEN.fullmatch(text):
        return int(TokenType.BYTE)
    return int(TokenType.NORMAL)


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    """Scores by which SentencePiece merges in the order of the merges; the others come last."""
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    return [-float(ranks.get(text, len(merges) + place)) for place, text in enumerate(tokens)]


def _roles(config: ModelConfig, prompt: FimPrompt) -> dict[str, int]:
    """Token ids by role, in llama.cpp's terms.

    The end of a middle is `eot`: llama.cpp ends a generation at `eos`, `eot` and `eom` alike.
    `/infill` puts a marker before every middle.
    """
    markers = _markers(prompt)
    end = config.eos_token_ids[0] if config.eos_token_ids else prompt.blank
    roles = {"bos": prompt.blank if prompt.bos is None else prompt.bos, "eos": end}
    roles["eot"] = prompt.eom
    if prompt.tokenizer.has_roles:
        roles["padding"] = prompt.tokenizer.special.pad
    if config.mask_token_id is not None:
        roles["mask"] = config.mask_token_id
    return roles | markers


def _markers(prompt: FimPrompt) -> dict[str, int]:
    """The markers before prefix, suffix and middle.

    A joined layout has none before the middle. There the padding token stands in: the model never
    saw it, so its completions are nearly those without it, whereas this project's own middle marker
    belongs to edits and ends the middle at once (docs/serving.md has the figures).
    """
    order = prompt.layout.order
    found: dict[str, int] = {}
    for role, slot in (("fim_pre", Slot.PREFIX), ("fim_suf", Slot.SUFFIX)):
        before = order[order.index(slot) - 1] if slot in order else None
        if isinstance(before, str):
            found[role] = prompt.ids[before]
    last = order[-1]
    if isinstance(last, str):
        found["fim_mid"] = prompt.ids[last]
    elif prompt.tokenizer.has_roles:
        found["fim_mid"] = prompt.tokenizer.special.pad
    elif (middle := prompt.tokenizer.token_id(_MISTRAL_MIDDLE)) is not None:
        found["fim_mid"] = middle
    return found


def _mentions(part: Any, kind: str) -> bool:
    return f'"type": "{kind}"' in json.dumps(part)
