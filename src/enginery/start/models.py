"""What an ONNX model says of its inputs, read without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ..digest import read_regular
from ..errors import EngineryError, IrregularFileError
from ..external_data import external_data_locations

Dimension = int | str | None
"""A size, the name of a dynamic dimension, or None for one without a name."""

# A protobuf message has at most 2 GiB.
_LARGEST = (2 << 30) - 1

_LFS = b"version https://git-lfs.github.com/spec/"


class ModelInput(msgspec.Struct, frozen=True):
    """An input of a model.

    Attributes:
        name: Its name in the graph.
        type: Type of its elements, such as "float32".
        shape: One dimension each, batch first.
    """

    name: str
    type: str
    shape: tuple[Dimension, ...]

    @property
    def dynamic(self) -> bool:
        """Whether a dimension is open."""
        return not all(isinstance(size, int) for size in self.shape)

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.type} [{sizes}]"


class Model(msgspec.Struct, frozen=True):
    """A model that becomes a backbone.

    Attributes:
        name: The backbone's name.
        path: The file, relative to the corpus, with "/".
        inputs: Its inputs.
    """

    name: str
    path: str
    inputs: tuple[ModelInput, ...]


def read_inputs(
    folder: Path, relative: str, types: frozenset[str] | None
) -> tuple[ModelInput, ...]:
    """The inputs of a model; at least one of them has dimensions, each of at least one.

    Args:
        folder: Folder of the corpus.
        relative: The model's file.
        types: Types of elements that a runtime takes; None for any.

    Raises:
        EngineryError: The model cannot be used; the message is the reason and does not name it.
    """
    if not relative.isprintable():
        raise EngineryError("its name has characters that cannot be shown; rename it")
    model = _parse(folder / relative)
    _check_weights(folder / relative)
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    inputs = tuple(_input(value) for value in model.graph.input if value.name not in constants)
    for one in inputs:
        if types is not None and one.type not in types:
            raise EngineryError(
                f"its input {one.name!r} is {one.type}, which the runtime does not take; "
                "export it with another type"
            )
    if not any(one.shape for one in inputs):
        raise EngineryError(
            "it has no input with dimensions, so there is no shape to build it for; "
            "export it with one"
        )
    return inputs


def _parse(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        data = read_regular(path, limit=_LARGEST, follow_symlinks=True)
    except IrregularFileError as error:
        what = str(error).removeprefix(path.name).strip()
        raise EngineryError(f"it {what}; export the model to a file") from error
    except OSError as error:
        if path.is_symlink() and not path.exists():
            raise EngineryError("it is a link to what is not there; mend the link") from error
        raise EngineryError(f"it cannot be read ({error.strerror})") from error
    if data.startswith(_LFS):
        raise EngineryError("it is a pointer of Git LFS, not the model; run: git lfs pull")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise EngineryError("it is no ONNX, or was cut short; export or copy it again") from error
    if not model.graph.node:
        raise EngineryError("it has no graph, so it is no ONNX model; export it again")
    return model


def _check_weights(path: Path) -> None:
    for location in external_data_locations(path):
        if not (path.parent / location).is_file():
            raise EngineryError(f"its weights, {location!r}, are not beside it; copy them there")


def _input(value: Any) -> ModelInput:
    import onnx

    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = (kind or "nothing_type").removesuffix("_type").replace("_", " ")
        raise EngineryError(
            f"its input {value.name!r} is no tensor but a {what}; export it with tensors"
        )
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise EngineryError(
            f"its input {value.name!r} has no shape; export it with one, dynamic or not"
        )
    shape = tuple(map(_dimension, tensor.shape.dim))
    if 0 in shape:
        raise EngineryError(
            f"its input {value.name!r} has a dimension of 0; export it with another"
        )
    element = tensor.elem_type
    known = element in onnx.TensorProto.DataType.values() and element
    type_ = onnx.TensorProto.DataType.Name(element).lower() if known else "of no known type"
    return ModelInput(
        value.name, {"float": "float32", "double": "float64"}.get(type_, type_), shape
    )


def _dimension(dimension: Any) -> Dimension:
    if dimension.HasField("dim_value"):
        # Some exporters write -1 for what is open.
        return int(dimension.dim_value) if dimension.dim_value >= 0 else None
    return str(dimension.dim_param) or None
