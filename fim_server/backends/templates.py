"""FIM prompts for servers without a `suffix` parameter: prefix, suffix and the model's markers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FimTemplate:
    """A prompt with places for `{prefix}` and `{suffix}`, and the `stops` that end the middle.

    joined: nothing stands between prefix and middle, so the server must heal the tokens there.
    """

    prompt: str
    stops: tuple[str, ...] = ()
    joined: bool = False

    def fill(self, prefix: str, suffix: str) -> str:
        """The prompt. Markers in the user's text stay: only the server's tokenizer could tell them
        from real ones."""
        before, _, rest = self.prompt.partition("{prefix}")
        if "{suffix}" in before:
            first, _, second = before.partition("{suffix}")
            return f"{first}{suffix}{second}{prefix}{rest}"
        middle, _, last = rest.partition("{suffix}")
        return f"{before}{prefix}{middle}{suffix}{last}"


TEMPLATES: Mapping[str, FimTemplate] = {
    "fim-server": FimTemplate(
        "<|fim_suffix|>{suffix}<|fim_prefix|>{prefix}<|fim_middle|>", ("<|eom|>",)
    ),
    "fim-server-joined": FimTemplate(
        "<|fim_suffix|>{suffix}<|fim_prefix|>{prefix}", ("<|eom|>",), joined=True
    ),
    "qwen": FimTemplate(
        "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        ("<|endoftext|>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>"),
    ),
    "starcoder": FimTemplate(
        "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>", ("<|endoftext|>", "<file_sep>")
    ),
    "codellama": FimTemplate("<PRE> {prefix} <SUF>{suffix} <MID>", ("<EOT>",)),
    "deepseek": FimTemplate(
        "<｜fim▁begin｜>{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>", ("<｜end▁of▁sentence｜>",)
    ),
    "codestral": FimTemplate("[SUFFIX]{suffix}[PREFIX]{prefix}", ("</s>",)),
    "codegemma": FimTemplate(
        "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        ("<|file_separator|>", "<end_of_turn>"),
    ),
}
"""By the name that the setting `remoteTemplate` takes; "none" there means the server's `suffix`."""
