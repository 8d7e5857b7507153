"""The configuration of a run: one TOML file, whose keys are all checked at the start."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fim_model.errors import ConfigError
from fim_model.network.config import ModelConfig
from fim_model.network.rope import RopeConfig
from fim_model.prompt.tokenizer import CodeTokenizer

from fim_training.corpus.corpus_languages import LANGUAGES
from fim_training.trainer.lora_training import TARGETS
from fim_training.trainer.objective import NoiseSettings


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The configuration of one run. Lengths are in tokens.

    The run ends after `steps`, or after `minutes` where that is not 0. `base` is a checkpoint to
    start from, by folder or hub id: its shape, tokenizer, mask token and block size are then those
    of the run, and with a `lora_rank` only low-rank updates are trained, of the projections in
    `lora_targets` (none: of all), with `train_embeddings` beside embeddings and norms (whole
    checkpoints are written then). A base learns by AdamW,
    `matrix_lr` being the rate of matrices or their updates, `vector_lr` that of embeddings and
    norms; a model from nothing learns matrices by Muon. Without `noisy_blocks` a model learns next
    tokens alone, and has no other mode. `edit_share` of the examples are regions
    to rewrite after edits, half of them from `commits`, a file of `examples.hunk_sequences`, if one
    is given. `languages` weighs text of a language relative to its amount in the
    corpus: `{javascript = 0.5}` draws it half as often. `workers` is the number of
    processes that draw examples, 0 for a thread, -1 for what the device needs. `state_mb` limits
    the saved state, in megabytes, 0 for no limit. `recompute` recomputes each layer's activations
    in the backward instead of keeping them. `rows_at_once` bounds the memory of a step by
    gradient accumulation over parts of that many rows (0: all at once). A copy of the checkpoint is
    kept in `checkpoints/` every `keep_every` tokens (0: never).
    """

    corpus: str
    out: str
    tokenizer: str = ""
    steps: int = 0
    minutes: float = 0.0
    rows: int = 24
    rows_at_once: int = 0
    length: int = 384
    noisy_blocks: int = 6
    block_size: int = 16
    hidden_size: int = 256
    layers: int = 8
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 32
    intermediate_size: int = 704
    base: str = ""
    lora_rank: int = 0
    lora_alpha: float = 32.0
    lora_targets: list[str] = field(default_factory=list)
    train_embeddings: bool = False
    matrix_lr: float = 0.02
    vector_lr: float = 0.003
    weight_decay: float = 0.05
    warmup: int = 100
    cooldown: float = 0.4
    diffusion_weight: float = 0.3
    edit_share: float = 0.3
    commits: str = ""
    languages: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    threads: int = 2
    workers: int = -1
    compile: bool = True
    recompute: bool = False
    save_every: int = 100
    validate_every: int = 200
    keep_every: int = 0
    state_mb: int = 64

    def __post_init__(self) -> None:
        least = [
            ("rows", 1), ("length", 64), ("warmup", 1), ("save_every", 1), ("validate_every", 1),
            ("lora_rank", 0), ("workers", -1), ("threads", 1), ("keep_every", 0), ("state_mb", 0),
            ("noisy_blocks", 0), ("rows_at_once", 0),
        ]  # fmt: skip
        if not self.minutes:
            least.append(("steps", 1))
        for name, smallest in least:
            if getattr(self, name) < smallest:
                raise ConfigError(f"{name} must be at least {smallest}, not {getattr(self, name)}")
        if self.minutes < 0:
            raise ConfigError(f"minutes must not be negative, as {self.minutes} is")
        if not 0 < self.cooldown <= 1:
            raise ConfigError(f"cooldown must be a share of the run, not {self.cooldown}")
        if not 0 <= self.edit_share <= 1:
            raise ConfigError(f"edit_share must be a share of the examples, not {self.edit_share}")
        for name, weight in self.languages.items():
            if name not in LANGUAGES:
                raise ConfigError(f"language {name!r} is not known; known are {sorted(LANGUAGES)}")
            if weight < 0:
                raise ConfigError(f"the weight of {name} must not be negative, as {weight} is")
        if bool(self.base) == bool(self.tokenizer):
            raise ConfigError("give a tokenizer, to train from nothing, or else a base checkpoint")
        if self.train_embeddings and not self.lora_rank:
            raise ConfigError("train_embeddings is for a run with lora_rank; others train them all")
        if unknown := set(self.lora_targets) - set(TARGETS):
            raise ConfigError(f"lora_targets may be {TARGETS}, not {sorted(unknown)[0]!r}")
        if self.lora_rank and not self.base:
            raise ConfigError("lora_rank is for a base checkpoint; give base, or leave it out")

    @classmethod
    def read(cls, path: Path, **changes: Any) -> TrainConfig:
        """Read a TOML file; `changes` override it.

        Raises ConfigError, which names the file and the key.
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as broken:
            raise ConfigError(f"{path}: cannot be read as TOML ({broken})") from None
        known = {field.name for field in fields(cls)}
        if unknown := sorted(raw.keys() - known):
            raise ConfigError(f"{path}: unknown key {unknown[0]!r}; known are {sorted(known)}")
        try:
            return cls(**(raw | changes))
        except (ConfigError, TypeError) as wrong:
            raise ConfigError(f"{path}: {wrong}") from None

    def model(self, tokenizer: CodeTokenizer) -> ModelConfig:
        """The shape of a model that is trained from nothing."""
        return ModelConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            intermediate_size=self.intermediate_size,
            mask_token_id=tokenizer.special.mask if self.noisy_blocks else None,
            block_size=self.block_size,
            # What the model has seen: further positions cost it quality (no YaRN is trained).
            max_position_embeddings=self.length,
            fim_edits=True,
            rope=RopeConfig(),
        )

    def noise(self) -> NoiseSettings:
        return NoiseSettings(self.block_size, self.noisy_blocks)

    def with_block(self, size: int) -> TrainConfig:
        """The configuration with a base checkpoint's block size."""
        return replace(self, block_size=size)
