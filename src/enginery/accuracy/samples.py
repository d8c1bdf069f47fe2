"""Samples: what both models are given, read from files or made up from a seed.

The same seed, names and shapes give the same samples on every machine and version of numpy: the
numbers come from `numpy.random.RandomState`, whose stream is frozen (NEP 19).
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, TensorProto, ValueInfoProto, helper

from ..errors import BackboneSpecError, EngineBuildError

Shapes = Mapping[str, Sequence[int]]

# Operators whose second input picks from an axis of the first.
_PICKS = frozenset({"Gather", "GatherElements"})

# What an index goes through unchanged on its way to where it is used.
_PASSES = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})

# 0 and 1 are in range for masks, token types, and any axis that has something to pick from.
_SAFE_RANGE = 2


@dataclass(frozen=True, slots=True)
class ModelInput:
    """An input of a model.

    Attributes:
        name: Its name in the graph.
        dtype: The type of its elements.
        shape: One size per dimension, all known.
        limit: Integers are below this.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    limit: int = _SAFE_RANGE


@dataclass(frozen=True, slots=True)
class Sample:
    """One array per input of a model, in the types and shapes that the model declares."""

    arrays: Mapping[str, npt.NDArray[Any]]

    @property
    def sha256_hex(self) -> str:
        """SHA-256 over name, type, shape and values of every array, in the order of names."""
        hasher = hashlib.sha256()
        for name in sorted(self.arrays):
            array = self.arrays[name]
            hasher.update(f"{name}\0{array.dtype.name}\0{array.shape}\0".encode())
            hasher.update(np.ascontiguousarray(array).tobytes())
        return hasher.hexdigest()


def model_inputs(graph: GraphProto, shapes: Shapes) -> tuple[ModelInput, ...]:
    """The inputs of a graph with every dimension known.

    Args:
        graph: The graph; weights that older models list among the inputs are none.
        shapes: Sizes by input name; needed where the graph leaves a dimension open, unless the
            dimension has a name whose size another input gives.

    Raises:
        BackboneSpecError: A shape is missing, does not fit the graph, or is of no input.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    known = {value.name for value in inputs}
    if unknown := sorted(set(shapes) - known):
        raise _spec_error(
            f"the model has no input {unknown[0]!r}; its inputs are {', '.join(sorted(known))}"
        )
    sizes: dict[str, int] = {}
    for value in inputs:
        if value.name in shapes:
            _note_sizes(value, shapes[value.name], sizes)
    return tuple(
        ModelInput(
            name=value.name,
            dtype=_dtype(value),
            shape=_shape(value, shapes.get(value.name), sizes),
            limit=_limit(graph, value.name),
        )
        for value in inputs
    )


def generate(inputs: Sequence[ModelInput], *, count: int, seed: int) -> list[Sample]:
    """Samples made up from a seed: floats standard normal, integers in range, truth values.

    An input's values depend on its name, the seed and the sample's number alone.
    """
    return [
        Sample({one.name: _random(one, f"{seed}:{number}:{one.name}") for one in inputs})
        for number in range(count)
    ]


def read(paths: Sequence[Path], inputs: Sequence[ModelInput]) -> list[Sample]:
    """Samples from files, one each: `.npz` with an array per input, or `.npy` for the only one.

    Raises:
        EngineBuildError: A file cannot be read or does not hold what the model takes; the
            message names file and array.
    """
    return [_read(path, inputs) for path in paths]


def _read(path: Path, inputs: Sequence[ModelInput]) -> Sample:
    arrays = _load(path, inputs)
    names = [one.name for one in inputs]
    for name in names:
        if name not in arrays:
            found = ", ".join(sorted(arrays)) or "nothing"
            raise EngineBuildError(
                f"{path}: there is no array {name!r} for that input; it has {found}"
            )
    if unknown := sorted(set(arrays) - set(names)):
        raise EngineBuildError(
            f"{path}: array {unknown[0]!r} is for no input; the model's are {', '.join(names)}"
        )
    return Sample({one.name: _fit(path, one, arrays[one.name]) for one in inputs})


def _load(path: Path, inputs: Sequence[ModelInput]) -> dict[str, npt.NDArray[Any]]:
    if path.suffix not in {".npy", ".npz"}:
        raise EngineBuildError(f"{path}: is no sample; give .npz, or .npy for a single input")
    if path.suffix == ".npy" and len(inputs) != 1:
        names = ", ".join(one.name for one in inputs)
        raise EngineBuildError(f"{path}: the model has the inputs {names}; give an .npz of them")
    try:
        with path.open("rb") as stream:
            # Never with pickles: a sample is data, and a pickle is a program.
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {inputs[0].name: loaded}
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError as error:
        raise EngineBuildError(f"{path}: there is no such file; correct the path") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EngineBuildError(f"{path}: cannot be read ({error}); write it again") from error


def _fit(path: Path, one: ModelInput, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.shape != one.shape:
        raise EngineBuildError(
            f"{path}: array {one.name!r} has the shape {list(array.shape)}, "
            f"the model takes {list(one.shape)}"
        )
    # A float of another width is a float; a pixel that is an integer has not been normalised.
    if array.dtype != one.dtype and _family(array.dtype) != _family(one.dtype):
        raise EngineBuildError(
            f"{path}: array {one.name!r} is {array.dtype}, the model takes {one.dtype}"
        )
    if _family(array.dtype) == "float" and not np.isfinite(array).all():
        raise EngineBuildError(
            f"{path}: array {one.name!r} has NaN or infinite elements; take them out"
        )
    if _family(one.dtype) == "integer" and array.size:
        bounds = np.iinfo(one.dtype)
        if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
            raise EngineBuildError(f"{path}: array {one.name!r} does not fit in {one.dtype}")
    return array.astype(one.dtype)


def _family(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "iu":
        return "integer"
    # ml_dtypes' bfloat16 is of numpy's kind "V".
    return "float" if dtype.kind == "f" or dtype.name == "bfloat16" else dtype.name


def _random(one: ModelInput, words: str) -> npt.NDArray[Any]:
    digest = hashlib.sha256(words.encode()).digest()
    random = np.random.RandomState(int.from_bytes(digest[:4], "big"))
    if one.dtype.kind in "iu":
        return random.randint(0, one.limit, size=one.shape).astype(one.dtype)
    if one.dtype.kind == "b":
        return random.randint(0, 2, size=one.shape).astype(one.dtype)
    return np.asarray(random.standard_normal(one.shape)).astype(one.dtype)


def _dtype(value: ValueInfoProto) -> np.dtype[Any]:
    kind = value.type.tensor_type.elem_type
    if kind in {TensorProto.UNDEFINED, TensorProto.STRING}:
        raise _spec_error(
            f"input {value.name!r} is no tensor of numbers; such a model cannot be compared; "
            "leave its check out"
        )
    return np.dtype(helper.tensor_dtype_to_np_dtype(kind))


def _note_sizes(value: ValueInfoProto, shape: Sequence[int], sizes: dict[str, int]) -> None:
    for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=False):
        if dim.dim_param:
            sizes.setdefault(dim.dim_param, size)


def _shape(
    value: ValueInfoProto, given: Sequence[int] | None, sizes: Mapping[str, int]
) -> tuple[int, ...]:
    has_shape = value.type.tensor_type.HasField("shape")
    dims = list(value.type.tensor_type.shape.dim)
    declared = [dim.dim_value or dim.dim_param or "?" for dim in dims] if has_shape else "unknown"
    if given is not None:
        fits = not has_shape or (
            len(given) == len(dims)
            and all(dim.dim_value in (0, size) for dim, size in zip(dims, given, strict=True))
        )
        if not fits:
            raise _spec_error(
                f"input {value.name!r} is {declared} in the model, "
                f"which the shape {list(given)} does not fit"
            )
        return tuple(given)
    found = tuple(dim.dim_value or sizes.get(dim.dim_param, 0) for dim in dims)
    if not has_shape or 0 in found:
        raise _spec_error(f"input {value.name!r} is {declared} in the model; add it to a profile")
    return found


def _limit(graph: GraphProto, name: str) -> int:
    """The number that values of an integer input have to stay below to be valid indices."""
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    carriers, limits = {name}, []
    for node in graph.node:
        if node.op_type in _PASSES and node.input and node.input[0] in carriers:
            carriers.add(node.output[0])
        if node.op_type in _PICKS and node.input[1] in carriers and node.input[0] in sizes:
            axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
            limits.append(sizes[node.input[0]][axis])
    return max(1, min(limits, default=_SAFE_RANGE))


def _spec_error(message: str) -> BackboneSpecError:
    return BackboneSpecError(message, field="expected_input_shape")
