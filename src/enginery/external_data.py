"""Which files an ONNX model keeps its weights in, read without loading the model.

ONNX is a protobuf message; its tensors may lie in other files, named in each tensor's
`external_data`. This reads only the framing: it walks from message to message, skips whatever
cannot lead to a tensor, weights included, and needs neither the onnx package (a third of a
second to import, and the whole model in memory) nor more memory than a name takes.

Field numbers are those of onnx/onnx.proto; the wire format is protobuf's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from .digest import open_regular

# Message type -> field number -> type of the message in that field: the ways to a TensorProto.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_NAME = 1 << 16

# protobuf's own limit: a message nested deeper is not read by anybody.
_DEEPEST = 100


class _MalformedError(Exception):
    """The bytes are not protobuf."""


def external_data_locations(onnx_path: Path) -> tuple[str, ...]:
    """Locations of a model's external data as the model spells them, sorted and distinct.

    A file that is no ONNX has none: whoever parses it will say what is wrong with it.

    Raises:
        IrregularFileError: The path is no regular file.
        OSError: The file is not there or may not be read.
    """
    found: set[str] = set()
    fd, info = open_regular(onnx_path, follow_symlinks=True)
    with os.fdopen(fd, "rb", buffering=1 << 14) as stream, suppress(_MalformedError):
        found.update(_locations(stream, "model", info.st_size, 0))
    return tuple(sorted(found))


def _locations(stream: BinaryIO, kind: str, end: int, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise _MalformedError
    if kind == "tensor":
        yield from _tensor_location(stream, end)
        return
    children = _CHILDREN[kind]
    for number, wire_type, stop in _fields(stream, end):
        if wire_type == _BYTES and number in children:
            yield from _locations(stream, children[number], stop, depth + 1)
            stream.seek(stop)


def _tensor_location(stream: BinaryIO, end: int) -> Iterator[str]:
    location, external = "", False
    for number, wire_type, stop in _fields(stream, end):
        if number == _DATA_LOCATION and wire_type == _VARINT:
            external = stop == _EXTERNAL
        elif number == _EXTERNAL_DATA and wire_type == _BYTES:
            entry = {n: _text(stream, s) for n, w, s in _fields(stream, stop) if w == _BYTES}
            if entry.get(1) == "location":
                location = entry.get(2, "")
    if external and location:
        yield location


def _fields(stream: BinaryIO, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields number, wire type and, for bytes, the offset of their end; for a varint its value.

    The stream stands at a bytes field's first byte while it is yielded, and after it then.
    """
    while stream.tell() < end:
        tag = _varint(stream)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            yield number, wire_type, _varint(stream)
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire_type)
        if wire_type == _BYTES:
            size = _varint(stream)
        if size is None or (stop := stream.tell() + size) > end:
            raise _MalformedError
        yield number, wire_type, stop
        stream.seek(stop)


def _varint(stream: BinaryIO) -> int:
    value = shift = 0
    while byte := stream.read(1):
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
        if shift > 63:
            break
    raise _MalformedError


def _text(stream: BinaryIO, stop: int) -> str:
    size = stop - stream.tell()
    if size > _LONGEST_NAME:
        raise _MalformedError
    return stream.read(size).decode("utf-8", "backslashreplace")
