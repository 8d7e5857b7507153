"""Graphs for ONNX Runtime, written without the `onnx` package.

A model is a message of Protocol Buffers (onnx.proto3; wire format: protobuf.dev/programming-guides/
encoding), of which a graph of a few dozen nodes needs six kinds of field. `onnx` would add 30 MB
and a dependency for them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch
from torch import Tensor

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operations."""

OPERATIONS, MICROSOFT_OPERATIONS, FORMAT = 21, 1, 10
"""Versions: of the two sets of operations, and of the format (IR) that the first came with."""

TYPES = {torch.float32: 1, torch.uint8: 2, torch.int8: 3, torch.int64: 7}
"""`TensorProto.DataType`."""

MODEL = {"format": 1, "graph": 7, "opset": 8}
GRAPH = {"node": 1, "name": 2, "constant": 5, "input": 11, "output": 12}
NODE = {"input": 1, "output": 2, "kind": 4, "attribute": 5, "domain": 7}
ATTRIBUTE = {"name": 1, "float": 2, "int": 3, "type": 20}
TENSOR = {"dim": 1, "type": 2, "name": 8, "raw": 9}
FLOAT_ATTRIBUTE, INT_ATTRIBUTE = 1, 2


class Graph:
    """A graph under construction. Values are named by strings."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: dict[str, bytes] = {}
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._count = 0

    def input(self, name: str, *shape: str | int) -> str:
        """A float32 input. A dimension that is named is free."""
        self._inputs.append(_value(name, shape))
        return name

    def output(self, name: str, *shape: str | int) -> None:
        """Declare a value, float32, as an output."""
        self._outputs.append(_value(name, shape))

    def constant(self, name: str, value: Tensor) -> str:
        """A constant, kept once under its name."""
        if name not in self._constants:
            dims = b"".join(_number(TENSOR["dim"], dim) for dim in value.shape)
            self._constants[name] = (
                dims
                + _number(TENSOR["type"], TYPES[value.dtype])
                + _text(TENSOR["name"], name)
                + _bytes(TENSOR["raw"], value.contiguous().numpy().tobytes())
            )
        return name

    def node(
        self,
        kind: str,
        *inputs: str,
        outputs: Sequence[str] | None = None,
        domain: str = "",
        **attributes: float,
    ) -> str:
        """An operation; returns its first output. An output's name "" leaves it out."""
        self._count += 1
        names = [f"{kind}{self._count}"] if outputs is None else outputs
        self._nodes.append(
            b"".join(_text(NODE["input"], name) for name in inputs)
            + b"".join(_text(NODE["output"], name) for name in names)
            + _text(NODE["kind"], kind)
            + b"".join(_bytes(NODE["attribute"], _attribute(*pair)) for pair in attributes.items())
            + _text(NODE["domain"], domain)
        )
        return names[0]

    def serialised(self) -> bytes:
        """The model, as ONNX Runtime takes it."""
        parts = {
            "node": self._nodes,
            "constant": list(self._constants.values()),
            "input": self._inputs,
            "output": self._outputs,
        }
        graph = _text(GRAPH["name"], "graph")
        for kind, messages in parts.items():
            graph += b"".join(_bytes(GRAPH[kind], message) for message in messages)
        return (
            _number(MODEL["format"], FORMAT)
            + _bytes(MODEL["graph"], graph)
            + _bytes(MODEL["opset"], _text(1, "") + _number(2, OPERATIONS))
            + _bytes(MODEL["opset"], _text(1, MICROSOFT) + _number(2, MICROSOFT_OPERATIONS))
        )


def _value(name: str, shape: Sequence[str | int]) -> bytes:
    """`ValueInfoProto` of a float32 tensor."""
    dims = b"".join(
        _bytes(1, _text(2, dim) if isinstance(dim, str) else _number(1, dim)) for dim in shape
    )
    tensor = _number(1, TYPES[torch.float32]) + _bytes(2, dims)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _attribute(name: str, value: float) -> bytes:
    """`AttributeProto`: a Python float becomes a float, an int an int."""
    text = _text(ATTRIBUTE["name"], name)
    if isinstance(value, float):
        single = _key(ATTRIBUTE["float"], 5) + struct.pack("<f", value)
        return text + single + _number(ATTRIBUTE["type"], FLOAT_ATTRIBUTE)
    return text + _number(ATTRIBUTE["int"], value) + _number(ATTRIBUTE["type"], INT_ATTRIBUTE)


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64 bits."""
    value &= 2**64 - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
