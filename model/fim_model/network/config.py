"""The shape of a model, read from and written to a Hugging Face `config.json`.

Importing this module does not import torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from fim_model.errors import ConfigError
from fim_model.families.architectures import CAUSAL_MODES, FAMILIES, UNLOADABLE, Family
from fim_model.families.fim_layouts import OWN, OWN_LAYOUTS
from fim_model.network.rope import RopeConfig, is_number, rope_from_hf

__all__ = ["MODEL_TYPE", "ConfigError", "ModelConfig", "RopeConfig"]

MODEL_TYPE = "ministral3"
ARCHITECTURE = "Ministral3ForCausalLM"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A Llama-shaped transformer that may also denoise blocks.

    `head_dim * num_attention_heads` need not equal `hidden_size`. `mask_token_id` is the id that
    stands for a position yet to be written, None for a model that only reads causally;
    `block_size` the positions denoised together. `sliding_window` is how far a token sees back:
    this package never reads further than that, so that it need not mask. `bos_token_id` and
    `eos_token_ids` are the ids that begin and end a text. `fim_edits` says that the model was
    trained to rewrite a region after recent edits (`FimPrompt.edit`); `fim_layout` names the layout
    of this project that it was trained with. `expand_token_id` is what a mask becomes that asks for
    another beside it, where the config says so.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    mask_token_id: int | None = None
    block_size: int = 16
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 4096
    tie_word_embeddings: bool = True
    rope: RopeConfig = field(default_factory=RopeConfig)
    model_type: str = MODEL_TYPE
    query_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    expand_token_id: int | None = None
    fim_edits: bool = False
    fim_layout: str = OWN.name

    def __post_init__(self) -> None:
        for name in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "intermediate_size", "block_size",
            "max_position_embeddings", *(["sliding_window"] if self.sliding_window else []),
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} must be a positive integer, not {value!r}")
        if self.block_size < 2:
            raise ConfigError("block_size must be at least 2: a block is a token and masks")
        if not is_number(self.rms_norm_eps) or not 0 <= self.rms_norm_eps < 1:
            raise ConfigError(f"rms_norm_eps must be a small number, not {self.rms_norm_eps!r}")
        for name in (
            "tie_word_embeddings", "query_bias", "output_bias", "mlp_bias", "fim_edits",
        ):  # fmt: skip
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, not {getattr(self, name)!r}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary embedding, not {self.head_dim}")
        if self.fim_layout not in OWN_LAYOUTS:
            raise ConfigError(
                f"fim_layout {self.fim_layout!r} is unknown; known are "
                f"{', '.join(map(repr, OWN_LAYOUTS))}"
            )
        for name in ("mask_token_id", "expand_token_id"):
            token_id = getattr(self, name)
            if token_id is not None and not 0 <= token_id < self.vocab_size:
                raise ConfigError(
                    f"{name} {token_id} is outside the vocabulary of {self.vocab_size}"
                )

    @property
    def family(self) -> Family:
        """The row of the table that this model belongs to."""
        return FAMILIES[self.model_type]

    @property
    def modes(self) -> tuple[str, ...]:
        """The decoding modes that this model can be asked for, the best first."""
        return CAUSAL_MODES if self.mask_token_id is None else self.family.modes

    @property
    def mask_id(self) -> int:
        """The mask token of a model that denoises. Raises ConfigError for one that does not."""
        if self.mask_token_id is None:
            raise ConfigError(
                f"this {self.model_type} model has no mask token; its modes are "
                f"{', '.join(self.modes)}"
            )
        return self.mask_token_id

    @property
    def reach(self) -> int:
        """How many tokens a position may look back over, itself included."""
        return min(
            self.max_position_embeddings, self.sliding_window or self.max_position_embeddings
        )

    @classmethod
    def from_hf(cls, raw: dict[str, Any]) -> ModelConfig:
        """Read a `config.json` of a supported `model_type`; raises ConfigError.

        Nothing that changes the logits is guessed: a field that is missing, or that asks for what
        this model does not do, is an error.
        """
        family = _family(raw)
        raw = _completed(raw, family)
        _check_done_here(raw, family)
        if raw.get("hidden_act", "silu") != "silu":
            raise ConfigError(
                f"hidden_act {raw['hidden_act']!r} is not supported; supported is 'silu'"
            )
        try:
            return cls(
                rope=rope_from_hf(raw),
                model_type=family.model_type,
                bos_token_id=next(iter(_token_ids(raw, "bos_token_id")), None),
                eos_token_ids=_token_ids(raw, "eos_token_id"),
                **{name: raw[name] for name in _REQUIRED},
                **_biases(raw, family),
                **({"mask_token_id": raw["mask_token_id"]} if _has_mask(raw, family) else {}),
                **{name: raw[name] for name in _OPTIONAL if name in raw},
            )
        except KeyError as missing:
            raise ConfigError(f"the field {missing} is missing") from None
        except TypeError as wrong:
            raise ConfigError(f"a field has the wrong type: {wrong}") from None

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` of a model trained here; transformers' Ministral3 reads it too.

        Raises ConfigError for another family: this package writes only its own.
        """
        if self.model_type != MODEL_TYPE:
            raise ConfigError(f"a {self.model_type} config can be read, but is not written here")
        shape = {name: getattr(self, name) for name in (*_REQUIRED, "mask_token_id", "block_size")}
        rope = {name: value for name, value in asdict(self.rope).items() if value is not None}
        return {
            "architectures": [ARCHITECTURE],
            "model_type": MODEL_TYPE,
            "hidden_act": "silu",
            "bos_token_id": self.bos_token_id,
            "eos_token_id": list(self.eos_token_ids) or None,
            **{name: value for name, value in shape.items() if value is not None},
            "rope_parameters": rope,
            **({"fim_edits": True} if self.fim_edits else {}),
            **({} if self.fim_layout == OWN.name else {"fim_layout": self.fim_layout}),
        }


_REQUIRED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "intermediate_size",
    "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings",
)  # fmt: skip
_OPTIONAL = ("block_size", "sliding_window", "fim_edits", "fim_layout", "expand_token_id")


def _family(raw: dict[str, Any]) -> Family:
    """The row of a config. Raises ConfigError, for a known diffusion family with the reason."""
    name = raw.get("model_type")
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is not None:
        masked = FAMILIES.get(family.masked)
        return masked if masked and raw.get("mask_token_id") is not None else family
    supported = ", ".join(repr(row) for row, family in FAMILIES.items() if row not in _MASKED_ROWS)
    why = UNLOADABLE.get(name) if isinstance(name, str) else None
    if why is not None:
        raise ConfigError(
            f"model_type {name!r} is not supported: this family {why}; supported are {supported}"
        )
    raise ConfigError(f"model_type {name!r} is not supported; supported are {supported}")


_MASKED_ROWS = frozenset(family.masked for family in FAMILIES.values())


def _check_done_here(raw: dict[str, Any], family: Family) -> None:
    """Raise ConfigError where a config asks for what this package's forward does not do."""
    for name, only in family.needs.items():
        if raw.get(name) != only:
            raise ConfigError(f"{name} {raw.get(name)!r} is not supported; supported is {only!r}")
    for name in family.absent_or_false:
        if raw.get(name):
            raise ConfigError(f"{name} {raw[name]!r} is not supported; supported is false")


def _completed(raw: dict[str, Any], family: Family) -> dict[str, Any]:
    """With the values that the family's own code derives for what is left out or null."""
    given = {name: value for name, value in raw.items() if value is not None}
    filled = {name: value for name, value in given.items() if name not in family.config_names}
    filled |= {ours: given[name] for name, ours in family.config_names.items() if name in given}
    said = {family.config_names.get(name, name) for name in raw}
    absent = {name: value for name, value in family.absent.items() if name not in said}
    if "rope_parameters" in filled:
        absent.pop("rope_theta", None)
    filled |= absent
    if family.absent:
        heads, hidden = filled.get("num_attention_heads"), filled.get("hidden_size")
        filled.setdefault("num_key_value_heads", heads)
        if isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
            filled.setdefault("head_dim", hidden // heads)
    if raw.get("use_sliding_window") is False:
        filled.pop("sliding_window", None)
    window = filled.get("max_position_embeddings")
    if family.longest is not None and isinstance(window, int):
        filled["max_position_embeddings"] = min(window, family.longest)
    return filled


def _has_mask(raw: dict[str, Any], family: Family) -> bool:
    return family.mask == "required" or (family.mask == "optional" and "mask_token_id" in raw)


def _biases(raw: dict[str, Any], family: Family) -> dict[str, Any]:
    def value(trait: bool | str) -> Any:
        return raw.get(trait, False) if isinstance(trait, str) else trait

    return {
        name: value(getattr(family, name)) for name in ("query_bias", "output_bias", "mlp_bias")
    }


def _token_ids(raw: dict[str, Any], name: str) -> tuple[int, ...]:
    found = raw.get(name)
    ids = found if isinstance(found, list) else [] if found is None else [found]
    size = raw.get("vocab_size")
    for token_id in ids:
        if not isinstance(token_id, int) or not isinstance(size, int) or not 0 <= token_id < size:
            raise ConfigError(f"{name} {token_id!r} is outside the vocabulary of {size}")
    return tuple(ids)
