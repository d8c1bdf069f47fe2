"""Calibration data: what a model is run on, checked against what it expects.

Data comes from `.npz` files (an array for each input, named after it), from `.npy` files (the
array of one input) or from a function that yields dictionaries. An array may hold many samples:
it is cut along its first dimension into pieces of the model's own batch size, or of one sample
where the model leaves it open.
"""

from __future__ import annotations

import importlib
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CalibrationCacheError

Feed = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input of a model.

    Attributes:
        name: Its name.
        dtype: The type of its elements.
        shape: A size for each dimension, None where the model leaves it open; None altogether
            where the model says nothing of its rank.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None


def read_feeds(files: Sequence[Path], inputs: Sequence[GraphInput], default: str) -> Iterator[Feed]:
    """Yield the feeds in files, in their order.

    Args:
        files: `.npz` and `.npy` files; pickled objects in them are refused.
        inputs: What the model expects.
        default: The input that the arrays of `.npy` files are for.

    Raises:
        CalibrationCacheError: A file cannot be read or does not fit the model, or no file holds
            a sample. The message names file, array and what the model expects.
    """
    count = 0
    for path in files:
        for feed in _split(_read(path, default), inputs, str(path)):
            count += 1
            yield feed
    if not count:
        raise CalibrationCacheError("there is no calibration sample; name files that hold some")


def call_feeds(reference: str, folder: Path, inputs: Sequence[GraphInput]) -> Iterator[Feed]:
    """Yield the feeds that a user's function yields.

    Args:
        reference: The function as "module:name"; it takes nothing and gives dictionaries from
            input to array.
        folder: Where the module is looked for first.
        inputs: What the model expects.

    Raises:
        CalibrationCacheError: There is no such function, or what it gives does not fit the model.
    """
    count = 0
    with _importing_from(folder):
        for number, sample in enumerate(_called(reference, folder), start=1):
            where = f"{reference}, sample {number}"
            if not isinstance(sample, Mapping):
                raise CalibrationCacheError(
                    f"{where} is a {type(sample).__name__}; yield dictionaries from input to array"
                )
            arrays = {str(name): np.asarray(array) for name, array in sample.items()}
            for feed in _split(arrays, inputs, where):
                count += 1
                yield feed
    if not count:
        raise CalibrationCacheError(f"{reference} gives no calibration sample; yield some")


def _called(reference: str, folder: Path) -> Iterator[Any]:
    """What a user's function yields; whatever goes wrong in it is told as his."""
    try:
        yield from _function(reference, folder)()
    except CalibrationCacheError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        words = " ".join(str(error).split()) or "no words"
        raise CalibrationCacheError(
            f"{reference} failed with {type(error).__name__}: {words} "
            f"({Path(last.filename).name}, line {last.lineno}); correct the function"
        ) from error


def _read(path: Path, default: str) -> Feed:
    if not path.is_file():
        raise CalibrationCacheError(f"{path} is no file; name .npz or .npy files")
    try:
        if path.suffix == ".npy":
            # A data set may be larger than memory; pieces are copied when their turn comes.
            return {default: np.lib.format.open_memmap(path, mode="r")}
        if path.suffix == ".npz":
            # numpy leaves the file open where it finds a fault in it.
            with path.open("rb") as stream, np.lib.npyio.NpzFile(stream) as archive:
                return {name: np.asarray(archive[name]) for name in archive.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        words = " ".join(str(error).split()).rstrip(".")
        raise CalibrationCacheError(
            f"{path} cannot be read: {words}; write it again with numpy.save or numpy.savez, "
            "without Python objects"
        ) from error
    raise CalibrationCacheError(f"{path} is neither .npz nor .npy; write it with numpy.savez")


def _split(arrays: Feed, inputs: Sequence[GraphInput], where: str) -> Iterator[Feed]:
    names = [each.name for each in inputs]
    for name in arrays:
        if name not in names:
            raise CalibrationCacheError(
                f"{where}: the model has no input {name!r}; its inputs are {', '.join(names)}"
            )
    pieces = {}
    for each in inputs:
        if each.name not in arrays:
            raise CalibrationCacheError(
                f"{where}: there is no array for input {each.name!r}; add {_expected(each)}"
            )
        pieces[each.name] = _pieces(arrays[each.name], each, where)
    counts = {name: count for name, (count, _) in pieces.items()}
    # An input that every sample shares, a table say, comes once.
    total = next((count for count in counts.values() if count != 1), 1)
    if any(count not in (1, total) for count in counts.values()):
        raise CalibrationCacheError(
            f"{where}: its arrays hold different numbers of samples: {counts}; make them equal"
        )
    for number in range(total):
        yield {
            name: _piece(arrays[name], size, number if counts[name] != 1 else 0, name, where)
            for name, (_, size) in pieces.items()
        }


def _pieces(array: npt.NDArray[Any], expected: GraphInput, where: str) -> tuple[int, int | None]:
    """How many feeds an array makes, and how long each is; None is the array as it is."""
    fits = array.dtype.newbyteorder("=") == expected.dtype
    shape = expected.shape
    if not fits or shape is None or not shape:
        if fits and (shape is None or array.ndim == 0):
            return 1, None
        raise _unfit(array, expected, where)
    size = 1 if shape[0] is None else shape[0]
    if (
        array.ndim != len(shape)
        or any(
            want not in (None, got) for want, got in zip(shape[1:], array.shape[1:], strict=True)
        )
        or size == 0
        or array.shape[0] % size
    ):
        raise _unfit(array, expected, where)
    return array.shape[0] // size, size


def _piece(
    array: npt.NDArray[Any], size: int | None, number: int, name: str, where: str
) -> npt.NDArray[Any]:
    part = array if size is None else array[number * size : (number + 1) * size]
    # Whatever the file's byte order, layout or mapping: plain memory.
    piece = np.array(part, dtype=array.dtype.newbyteorder("="), order="C")
    if piece.dtype.kind == "f" and not np.isfinite(piece).all():
        raise CalibrationCacheError(
            f"{where}: array {name!r} holds NaN or infinity in sample {number + 1}; leave that "
            "sample out"
        )
    return piece


def _unfit(array: npt.NDArray[Any], expected: GraphInput, where: str) -> CalibrationCacheError:
    return CalibrationCacheError(
        f"{where}: array {expected.name!r} is {array.dtype} of shape {list(array.shape)}, but the "
        f"model takes {_expected(expected)}; convert it"
    )


def _expected(expected: GraphInput) -> str:
    if expected.shape is None:
        return f"{expected.dtype} of any shape"
    return f"{expected.dtype} of shape [{', '.join(str(n or '?') for n in expected.shape)}]"


def _function(reference: str, folder: Path) -> Callable[[], Any]:
    module, _, name = reference.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CalibrationCacheError(
            f"{reference} cannot be imported: {error}; write it as module:function, the module in "
            f"{folder} or installed"
        ) from error
    if not callable(function):
        raise CalibrationCacheError(f"{reference} is no function; name one that yields samples")
    return function  # type: ignore[no-any-return]


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = kept
