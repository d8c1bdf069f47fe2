"""Computing a calibration cache with ONNX Runtime's calibrators, in a process of its own.

The model runs over the data on the CPU. A first pass finds every tensor's largest magnitude; the
entropy and percentile methods make histograms between these limits in a second pass, one sample
at a time: memory does not grow with the number of samples, and their order does not matter.

The cache is TensorRT's own text. Its header names TensorRT 10.3, the oldest that a corpus can
have as a target: every TensorRT from there on that still has calibrators reads it. An entropy
cache is marked EntropyCalibration2; the others MinMaxCalibration, since TensorRT has no name for
percentiles.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, helper

from ..config import LoweringOptions
from ..digest import write_hashed
from ..errors import CalibrationCacheError, EngineBuildError
from ..lowering import int8, model_file
from ..lowering.preparation import prepare
from ..worker import report
from .cache import CalibrationCache, write_cache
from .calibrators import WEIGHTS, Runner
from .feeds import Feed, GraphInput, call_feeds, read_feeds

Progress = Callable[[int, int | None], None]

_VERSION = 100300
_ALGORITHM = {
    "entropy": "EntropyCalibration2",
    "minmax": "MinMaxCalibration",
    "percentile": "MinMaxCalibration",
}

# A tensor that is always zero: the smallest normal number of fp16, whose inverse fp16 holds too.
_SCALE_OF_ZERO = 2.0**-14

# Seconds between two lines of progress.
_PAUSE = 2.0

# Largest model that passes as one protobuf message, what the calibrators add included.
_ONE_MESSAGE = 1_900_000_000


class CallableData(msgspec.Struct, forbid_unknown_fields=True):
    """Data from a user's function, as "module:function", its module in a folder."""

    callable: str
    folder: str


class ComputeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What the parent asks for.

    Attributes:
        model: Path of the ONNX.
        output: Temporary path of the cache to write.
        artifact: The name that it gets later.
        data: Paths of `.npz` and `.npy` files, or a function that yields samples.
        method: How the range of a tensor follows from its values.
        percentile: Which part of the values is within the range, as text: "99.99".
        input_name: The input that the arrays of `.npy` files are for; "" is the only one.
        options: Which nodes int8 leaves alone.
    """

    model: str
    output: str
    data: list[str] | CallableData
    artifact: str = ""
    method: Literal["minmax", "entropy", "percentile"] = "entropy"
    percentile: str = "99.99"
    input_name: str = ""
    options: LoweringOptions = LoweringOptions()


def compute(request: dict[str, Any], progress: Progress | None = None) -> dict[str, Any]:
    """Write the calibration cache of the request's model; digest, versions, number of samples.

    The same model and data give the same bytes, whatever the number of threads. Other versions
    of ONNX Runtime, and processors of another make, may round otherwise.

    Args:
        request: See `ComputeRequest`.
        progress: Called after each sample with the number done and, if known, that of all; the
            second pass counts from one again. By default it is reported to the parent process.

    Raises:
        CalibrationCacheError: The data does not fit the model, or the model makes no finite
            numbers of it.
        EngineBuildError: The model cannot be loaded or run.
    """
    wanted = msgspec.convert(request, ComputeRequest)
    path = Path(wanted.model)
    percentile = _percentile(wanted.percentile)
    model = prepare(model_file.load(path), wanted.options, name=path.name)
    types = int8.activations(int8.quantizable(model.graph, wanted.options))
    if not types:
        raise EngineBuildError(f"{path.name} has nothing to quantize; build it in fp16")
    int8.describe_types(model.graph, types)
    data = _Data(wanted, _graph_inputs(model), progress or _Lines(path.name))
    with tempfile.TemporaryDirectory(prefix="enginery-calibration-") as folder:
        runner = Runner(_save(model, Path(folder)), list(types), path.name)
        del model
        limits = runner.limits(data.feeds())
        thresholds = dict(limits)
        if wanted.method != "minmax":
            thresholds.update(runner.thresholds(data.feeds(), limits, wanted.method, percentile))
    scales = {name: _scale(thresholds[name]) for name in types}
    cache = CalibrationCache(_ALGORITHM[wanted.method], _VERSION, scales)
    return {
        "sha256": write_hashed(Path(wanted.output), write_cache(cache)),
        "versions": {library.__name__: library.__version__ for library in (onnx, onnxruntime, np)},
        "samples": data.samples,
    }


class _Data:
    """The calibration data, from its first sample as often as wanted."""

    def __init__(
        self, wanted: ComputeRequest, inputs: list[GraphInput], progress: Progress
    ) -> None:
        self._source = wanted.data
        self._inputs = inputs
        self._default = wanted.input_name or inputs[0].name
        self._progress = progress
        self.samples: int | None = None

    def feeds(self) -> Iterator[Feed]:
        """Yield every feed and report each once it is used."""
        if self.samples is None and isinstance(self._source, list):
            # Counting reads and checks it all, before minutes of work on a part of it.
            self.samples = sum(1 for _ in self._read())
        count = 0
        for feed in self._read():
            yield feed
            count += 1
            self._progress(count, self.samples)
        self.samples = count

    def _read(self) -> Iterator[Feed]:
        if isinstance(self._source, CallableData):
            return call_feeds(self._source.callable, Path(self._source.folder), self._inputs)
        return read_feeds([Path(each) for each in self._source], self._inputs, self._default)


class _Lines:
    """Progress as lines for the parent to show, the first and last and one every two seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        if done != total and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PAUSE
        of = "" if total is None else f" of {total}"
        report(f"calibrating {self._name}: {done}{of} samples")


def _save(model: ModelProto, folder: Path) -> Path:
    """Write a model to where the calibrators may leave files beside it."""
    path = folder / "model.onnx"
    size = sum(len(tensor.raw_data) for tensor in model_file.tensors(model.graph))
    onnx.save(model, path, save_as_external_data=size > _ONE_MESSAGE, location=WEIGHTS)
    return path


def _graph_inputs(model: ModelProto) -> list[GraphInput]:
    inputs = []
    for each in model.graph.input:
        tensor = each.type.tensor_type
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        shape = tuple(sizes) if tensor.HasField("shape") else None
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        inputs.append(GraphInput(each.name, dtype, shape))
    return inputs


def _scale(threshold: float) -> float:
    # Not only of zeros: what is close enough rounds to zero.
    return float(np.float32(threshold / 127)) or _SCALE_OF_ZERO


def _percentile(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 100:
        raise CalibrationCacheError(
            f"percentile {text!r} is not a number above 0 and up to 100; write one such as '99.99'"
        )
    return value
