"""Write a checkpoint as a GGUF file, which llama.cpp and what is built on it run.

The counterpart of `gguf_file.py`: every Llama-shaped family, with its tokenizer, FIM markers and
the end of a middle as end of generation. Weights are converted one tensor at a time. The `gguf`
package writes the container. Format: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fim_model.errors import CheckpointError
from fim_model.families.fim_layouts import FimLayout, Slot
from fim_model.loading.attribution import Provenance
from fim_model.loading.checkpoint import Read, float_tensors
from fim_model.loading.gguf_file import LAYER_TENSORS, OUTER_TENSORS
from fim_model.loading.gguf_vocabulary import Vocabulary
from fim_model.loading.headers import (
    TOKENIZER,
    Shape,
    check_headers,
    read_config,
    read_headers,
    read_json,
    weight_files,
    weight_shapes,
)
from fim_model.loading.progress import Progress, unseen
from fim_model.loading.stored_tokenizer import read_tokenizer
from fim_model.network.config import ModelConfig
from fim_model.prompt.window import fim_prompt

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter

Precision = Literal["f32", "f16", "q8_0"]
"""Of matrices; vectors stay in float32. `q8_0`: 8 bits, one float16 scale for 32 numbers of a
row, as llama.cpp's own quantiser; a matrix whose rows do not divide by 32 is stored as f16."""

_Q8_BLOCK = 32
"""Numbers that share a scale in Q8_0."""

MAX_F16 = 65504.0
"""Largest float16."""

_LLAMA, _QWEN2 = "llama", "qwen2"
_FREQUENCIES = "rope_freqs.weight"


@dataclass(frozen=True, slots=True)
class GgufExport:
    """What was written. words: llama.cpp's name of the rule that cuts text before merges apply, ""
    for SentencePiece. layout: the FIM layout; suffix_first: whether its prompt begins with the
    suffix (`llama-server --spm-infill`); marked: whether a marker precedes the middle."""

    path: Path
    bytes: int
    tensors: int
    precision: Precision
    words: str
    layout: str
    suffix_first: bool
    marked: bool


def export_gguf(
    folder: Path,
    path: Path,
    precision: Precision = "f16",
    *,
    name: str = "",
    any_words: bool = False,
    progress: Progress = unseen,
) -> GgufExport:
    """Write the checkpoint in `folder` as a GGUF file; a crash leaves no unfinished one at `path`.

    `name` is `general.name`, the folder's name if empty. `any_words` also writes a model whose
    words llama.cpp cuts differently: right for token ids, wrong for text. A draft LoRA is left
    out. Raises CheckpointError for a checkpoint that llama.cpp cannot run or that is damaged, a
    file that cannot be written, or where the package `gguf` is not installed.
    """
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise CheckpointError(
            f"{path}: writing GGUF needs the package gguf; pip install gguf"
        ) from None
    if folder.is_file():
        raise CheckpointError(f"{folder}: is a file; name the folder of a checkpoint")
    config, files = read_config(folder), weight_files(folder)
    check_headers(config, read_headers(files), folder)
    if config.family.full_attention:
        raise CheckpointError(
            f"{folder}: a {config.model_type} model reads its text both ways at once, which the "
            "GGUF architectures written here do not; export a causal model"
        )
    tokenizer = read_tokenizer(folder)
    prompt = fim_prompt(config, tokenizer)
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder; name the file to write")
    if not path.parent.is_dir():
        raise CheckpointError(f"{path}: there is no folder {path.parent}; create it first")
    architecture = _QWEN2 if config.model_type == _QWEN2 else _LLAMA
    shapes, provenance = _stored_shapes(config), Provenance.read(folder)
    vocabulary = Vocabulary.of(
        read_json(folder / TOKENIZER), config, prompt, folder / TOKENIZER, any_words=any_words
    )
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        writer = GGUFWriter(unfinished, architecture)
        _add_shape(writer, config, precision, name or folder.resolve().name, folder)
        _add_origin(writer, provenance or Provenance())
        vocabulary.add_to(writer)
        with float_tensors(folder, config) as read:
            tensors = _Tensors(config, read, architecture == _LLAMA, precision, progress)
            for stored, shape in shapes.items():
                writer.add_tensor_info(stored, *tensors.layout(stored, shape))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for stored in shapes:
                writer.write_tensor_data(tensors.read(stored))
        writer.close()
        unfinished.replace(path)
    except OSError as full:
        unfinished.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot be written ({full.strerror or full})") from None
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return GgufExport(
        path,
        path.stat().st_size,
        len(shapes),
        precision,
        vocabulary.words,
        prompt.layout.name,
        _suffix_first(prompt.layout),
        not prompt.layout.joined,
    )


def _suffix_first(layout: FimLayout) -> bool:
    order = layout.order
    return Slot.SUFFIX in order and order.index(Slot.SUFFIX) < order.index(Slot.PREFIX)


def _add_shape(
    writer: GGUFWriter, config: ModelConfig, precision: Precision, name: str, folder: Path
) -> None:
    """The network's metadata. Raises CheckpointError for a rotary embedding that is not written."""
    from gguf import LlamaFileType, RopeScalingType

    kinds = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_name(name)
    writer.add_file_type(LlamaFileType[kinds[precision]])
    writer.add_context_length(config.reach)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope.rope_theta)
    if config.rope.rope_type == "yarn" or config.rope.llama_4_scaling_beta:
        raise CheckpointError(
            f"{folder}: its rotary embedding ({config.rope.rope_type}, with a scale of the query) "
            "cannot be written as GGUF; supported are default, linear and llama3"
        )
    if config.rope.rope_type == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope.factor)


def _add_origin(writer: GGUFWriter, base: Provenance) -> None:
    """The base's licence, and which base it is."""
    if base.licence:
        writer.add_license(base.licence)
    if base.name:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, base.name)
    if source := ", ".join(filter(None, (base.file, base.package))):
        writer.add_base_model_description(0, source)


def _stored_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Shape by GGUF name of every tensor, in the order of the layers."""
    shapes = {_gguf_name(name): shape for name, shape in weight_shapes(config).items()}
    if config.rope.rope_type == "llama3":
        shapes[_FREQUENCIES] = (config.head_dim // 2,)
    return shapes


def _gguf_name(local: str) -> str:
    """`model.layers.3.self_attn.q_proj.weight` -> `blk.3.attn_q.weight`."""
    if outer := _OUTER.get(local):
        return outer
    _, _, layer, *module, kind = local.split(".")
    return f"blk.{layer}.{_LAYER['.'.join(module)]}.{kind}"


_OUTER = {local: stored for stored, local in OUTER_TENSORS.items()}
_LAYER = {local: stored for stored, local in LAYER_TENSORS.items()}


class _Tensors:
    """Reads the checkpoint's tensors as they are stored in the GGUF file."""

    def __init__(
        self,
        config: ModelConfig,
        read: Read,
        interleaved: bool,
        precision: Precision,
        progress: Progress,
    ) -> None:
        self._config, self._interleaved, self._precision = config, interleaved, precision
        self._progress, self._written = progress, 0
        self._read_tensor = read
        self._names = {_gguf_name(name): name for name in weight_shapes(config)}

    def layout(self, name: str, shape: Shape) -> tuple[Shape, np.dtype[Any], int, Any]:
        """Shape, numpy type, bytes and GGML type of a tensor, for its header."""
        import numpy as np
        from gguf import GGMLQuantizationType
        from gguf.quants import quant_shape_to_byte_shape

        precision = self._precision_of(shape)
        kind = GGMLQuantizationType[precision.upper()]
        dtype = {"f32": np.float32, "f16": np.float16, "q8_0": np.uint8}[precision]
        if precision == "q8_0":
            shape = quant_shape_to_byte_shape(shape, kind)
        return shape, np.dtype(dtype), int(np.prod(shape)) * np.dtype(dtype).itemsize, kind

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """The tensor in its stored precision. Raises CheckpointError where float16 overflows."""
        import numpy as np
        from gguf import GGMLQuantizationType, quantize

        values = self._frequencies() if name == _FREQUENCIES else self._weight(name)
        self._written += 1
        self._progress("Writing the model", self._written / (len(self._names) + 1))
        precision = self._precision_of(values.shape)
        if precision == "f32":
            return values
        if not np.abs(values).max(initial=0.0) <= MAX_F16:
            raise CheckpointError(f"{name}: its values do not fit into float16; export it as f32")
        if precision == "f16":
            return values.astype(np.float16)
        quantised: np.ndarray[Any, Any] = quantize(values, GGMLQuantizationType.Q8_0)
        return quantised

    def _precision_of(self, shape: Shape) -> Precision:
        if len(shape) == 1:
            return "f32"
        return "f16" if self._precision == "q8_0" and shape[-1] % _Q8_BLOCK else self._precision

    def _weight(self, name: str) -> np.ndarray[Any, Any]:
        values: np.ndarray[Any, Any] = self._read_tensor(self._names[name]).float().numpy()
        kind = name.split(".")[-2]
        heads = {
            "attn_q": self._config.num_attention_heads,
            "attn_k": self._config.num_key_value_heads,
        }.get(kind)
        return _permuted(values, heads) if heads and self._interleaved else values

    def _frequencies(self) -> np.ndarray[Any, Any]:
        """What llama.cpp divides each pair's frequency by, for rope "llama3"."""
        rope, size = self._config.rope, self._config.head_dim
        plain = replace(rope, rope_type="default").inverse_frequencies(size)
        factors: np.ndarray[Any, Any] = (plain / rope.inverse_frequencies(size)).numpy()
        return factors


def _permuted(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """The rows of each head with rotary pairs adjacent, as llama.cpp's `llama` rotates them."""
    import numpy as np

    rest = weight.shape[1:]
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *rest)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
