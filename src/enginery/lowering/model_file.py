"""Reading ONNX models, and writing them: one file, or two where one cannot hold the weights.

protobuf cannot write a message of 2 GiB or more. The weights of such a model lie in a data file
beside it, named after the SHA-256 of its bytes: the ONNX names the data file, so whoever vouches
for the bytes of the ONNX vouches for the weights too, and a new model never overwrites the weights
of an old one that is still there.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from .. import atomic
from ..digest import write_hashed
from ..errors import EngineBuildError

# protobuf's limit for one message; a larger model has to keep its weights beside it.
PROTOBUF_LIMIT = 2**31 - 1

# A tensor of fewer bytes stays in the ONNX: shape inference wants to read it.
LARGE = 1024

# A page, so that a reader can map each tensor by itself; onnx's own writer rounds up to it too.
_ALIGNMENT = 4096


@dataclass(frozen=True, slots=True)
class Saved:
    """What was written.

    Attributes:
        sha256: Digest of the ONNX file, 64 hex digits.
        data: Names of the data files beside it.
    """

    sha256: str
    data: tuple[str, ...]


def load(path: Path) -> ModelProto:
    """The model in a file, its external data in memory.

    Raises:
        EngineBuildError: The file holds no model, or its external data cannot be read.
    """
    try:
        with warnings.catch_warnings():
            # Of keys in external data that onnx does not know; it goes on without them.
            warnings.simplefilter("ignore")
            model = onnx.load(path)
    except DecodeError as error:
        raise EngineBuildError(
            f"{path.name} is no ONNX model: {error}; it is damaged, export it again"
        ) from error
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        remedy = "restore what is missing or export it again"
        if "symbolic link" in str(error):
            remedy = "onnx reads no weights through links, put the file itself there"
        raise EngineBuildError(
            f"{path.name} cannot be loaded: {one_line(error)}; {remedy}"
        ) from error
    if not model.graph.output:
        raise EngineBuildError(
            f"{path.name} holds no network; it is empty or no ONNX model, export it again"
        )
    return model


def save(model: ModelProto, output: Path, artifact: str, *, limit: int = PROTOBUF_LIMIT) -> Saved:
    """Write a model: the same bytes for the same model in every process.

    A data file is there under its final name before the ONNX is written, and its weights are no
    longer in `model` then. The ONNX stays under its temporary name, for the caller to publish.

    Args:
        model: The model; of no use to the caller afterwards.
        output: Temporary path of the ONNX, in the folder where it is going to be.
        artifact: The name that the ONNX gets later; data files are named after it.
        limit: Largest size in bytes of the ONNX file.

    Raises:
        EngineBuildError: The model is too large, its large weights apart.
        OSError: The folder cannot be written to, or is full.
    """
    data: tuple[str, ...] = ()
    serialized = None if _weight_bytes(model) > limit else _serialized(model, limit)
    if serialized is None:
        data = (_move_weights(model, output.with_name(artifact)),)
        serialized = _serialized(model, limit)
    if serialized is None:
        raise EngineBuildError(
            f"{artifact} is over {limit} bytes without its weights; build the model in fp32"
        )
    return Saved(write_hashed(output, serialized), data)


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and all graphs inside its nodes, the outer before the inner."""
    yield graph
    for node in graph.node:
        yield from inner_graphs(node)


def inner_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """All graphs inside a node, the outer before the inner."""
    for attribute in node.attribute:
        for one in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from graphs(one)


def tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """All dense tensors stored in a graph: initializers and attributes, those of inner graphs."""
    yield from graph.initializer
    for node in graph.node:
        yield from _tensors_of(node)


def without_weights(
    model: ModelProto,
) -> tuple[ModelProto, list[TensorProto], list[TensorProto]]:
    """A copy of a model with the data of its large tensors left out.

    Returns:
        The copy; the model's tensors; the copy's tensors, in the same order.
    """
    kept = {field.name: value for field, value in model.ListFields() if field.name != "graph"}
    kept_graph = {
        field.name: value
        for field, value in model.graph.ListFields()
        if field.name not in ("node", "initializer")
    }
    copy = ModelProto(**kept, graph=GraphProto(**kept_graph))
    copy.graph.initializer.extend(_emptied(tensor) for tensor in model.graph.initializer)
    for node in model.graph.node:
        bare = NodeProto()
        bare.CopyFrom(node)
        for tensor in _tensors_of(bare):
            tensor.CopyFrom(_emptied(tensor))
        # A message appended is copied: what was emptied keeps its memory until then.
        copy.graph.node.append(bare)
    return copy, list(tensors(model.graph)), list(tensors(copy.graph))


def forget_stored(graph: GraphProto) -> None:
    """Drop what torch's exporter notes of initializers, which have types themselves.

    The converter changes the note of a weight that it leaves alone, such as a Resize's scales.
    """
    stored = {tensor.name for tensor in graph.initializer}
    noted = [value for value in graph.value_info if value.name not in stored]
    if len(noted) < len(graph.value_info):
        del graph.value_info[:]
        graph.value_info.extend(noted)


def one_line(error: Exception) -> str:
    """What a library says, as one line that ends without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _tensors_of(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for one in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from tensors(one)


def _emptied(tensor: TensorProto) -> TensorProto:
    if len(tensor.raw_data) < LARGE:
        return tensor
    return TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)


def _weight_bytes(model: ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in tensors(model.graph))


def _serialized(model: ModelProto, limit: int) -> bytes | None:
    """The model's bytes, or None where they are more than the limit."""
    try:
        data: bytes = model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError):
        return None
    return data if len(data) <= limit else None


def _move_weights(model: ModelProto, artifact: Path) -> str:
    """Move large weights to a data file beside the artifact; the data file's name."""
    moved: list[TensorProto] = []
    with atomic.staged(artifact) as temporary:
        hasher = hashlib.sha256()
        with temporary.open("xb") as stream:
            for tensor in tensors(model.graph):
                weight = tensor.raw_data
                if len(weight) < LARGE:
                    continue
                padding = bytes(-stream.tell() % _ALIGNMENT)
                fields = {"offset": stream.tell() + len(padding), "length": len(weight)}
                for part in (padding, weight):
                    hasher.update(part)
                    stream.write(part)
                del tensor.external_data[:]
                for key, value in fields.items():
                    tensor.external_data.add(key=key, value=str(value))
                tensor.data_location = TensorProto.EXTERNAL
                tensor.ClearField("raw_data")
                moved.append(tensor)
        name = f"{artifact.stem}.{hasher.hexdigest()}.data"
        atomic.commit(temporary, artifact.with_name(name))
    atomic.sync(artifact.parent)
    for tensor in moved:
        tensor.external_data.add(key="location", value=name)
    return name
