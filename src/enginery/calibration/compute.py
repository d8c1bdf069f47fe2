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

import contextlib
import io
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_state
from onnxruntime.quantization.calibrate import (
    CalibraterBase,
    CalibrationDataReader,
    EntropyCalibrater,
    HistogramCollector,
    MinMaxCalibrater,
    PercentileCalibrater,
)

from ..config import LoweringOptions
from ..digest import write_hashed
from ..errors import CalibrationCacheError, EngineBuildError
from ..lowering import int8, model_file
from ..worker import report
from .cache import CalibrationCache, write_cache
from .feeds import Feed, GraphInput, call_feeds, read_feeds

Progress = Callable[[int, int | None], None]

_VERSION = 100300
_ALGORITHM = {
    "entropy": "EntropyCalibration2",
    "minmax": "MinMaxCalibration",
    "percentile": "MinMaxCalibration",
}

# ONNX Runtime's own 128 bins leave entropy a single limit to choose; its time grows with the
# square of the bins.
_BINS = {"entropy": 1024, "percentile": 2048}

# A tensor that is always zero: the smallest normal number of fp16, whose inverse fp16 holds too.
_SCALE_OF_ZERO = 2.0**-14

_RUNTIME_ERRORS = (
    runtime_state.EPFail,
    runtime_state.Fail,
    runtime_state.InvalidArgument,
    runtime_state.InvalidGraph,
    runtime_state.InvalidProtobuf,
    runtime_state.NotImplemented,
    runtime_state.RuntimeException,
)

# Seconds between two lines of progress.
_PAUSE = 2.0

_WEIGHTS = "model.weights"

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
    model = int8.prepare(model_file.load(path), wanted.options, name=path.name)
    types = int8.activations(int8.quantizable(model.graph, wanted.options))
    if not types:
        raise EngineBuildError(f"{path.name} has nothing to quantize; build it in fp16")
    int8.describe_types(model.graph, types)
    data = _Data(wanted, _graph_inputs(model), progress or _Lines(path.name))
    with tempfile.TemporaryDirectory(prefix="enginery-calibration-") as folder:
        runner = _Runner(_save(model, Path(folder)), list(types), path.name)
        del model
        limits = runner.limits(data)
        thresholds = dict(limits)
        if wanted.method != "minmax":
            thresholds.update(runner.thresholds(data, limits, wanted.method, percentile))
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


class _Runner:
    """ONNX Runtime's calibrators over one model and a choice of its tensors."""

    def __init__(self, model: Path, tensors: list[str], name: str) -> None:
        self._model = model
        self._tensors = tensors
        self._name = name

    def limits(self, data: _Data) -> dict[str, float]:
        """The largest magnitude of each tensor over the data."""
        calibrator = self._started(MinMaxCalibrater, self._tensors)
        for feed in data.feeds():
            self._collect(calibrator, feed)
        found = {
            name: max(float(np.abs(edge).max()) for edge in each.range_value)
            for name, each in calibrator.compute_data().items()
        }
        for name, limit in found.items():
            if not math.isfinite(limit):
                raise CalibrationCacheError(
                    f"tensor {name!r} of {self._name} is not finite on the calibration data; look "
                    "for samples that the model cannot take"
                )
        return found

    def thresholds(
        self, data: _Data, limits: Mapping[str, float], method: str, percentile: float
    ) -> dict[str, float]:
        """The magnitude that entropy or percentile sets as the end of each tensor's range."""
        tensors = [name for name in self._tensors if limits[name] > 0]
        if not tensors:
            return {}
        kind = EntropyCalibrater if method == "entropy" else PercentileCalibrater
        calibrator = self._started(kind, tensors)
        calibrator.collector = _collector(method, {n: limits[n] for n in tensors}, percentile)
        for feed in data.feeds():
            self._collect(calibrator, feed)
        with contextlib.redirect_stdout(io.StringIO()):
            found = calibrator.compute_data()
        return {
            name: max(abs(float(edge)) for edge in each.range_value) for name, each in found.items()
        }

    def _started(self, kind: type[CalibraterBase], tensors: list[str]) -> Any:
        augmented = self._model.with_name(f"{kind.__name__}.onnx")
        large = self._model.with_name(_WEIGHTS).exists()
        calibrator = kind(
            self._model,
            augmented_model_path=str(augmented),
            use_external_data_format=large,
        )
        # By itself it takes every tensor around an operator, many times as many.
        calibrator.select_tensors_to_calibrate = lambda model: (tensors, _value_infos(model))
        calibrator.augment_graph()
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        try:
            calibrator.infer_session = onnxruntime.InferenceSession(
                str(augmented), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except _RUNTIME_ERRORS as error:
            raise self._refused(error) from error
        return calibrator

    def _collect(self, calibrator: Any, feed: Feed) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                # Of tensors that are NaN throughout, which is told better afterwards.
                warnings.simplefilter("ignore", RuntimeWarning)
                calibrator.collect_data(_Reader(feed))
        except _RUNTIME_ERRORS as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> EngineBuildError:
        return EngineBuildError(
            f"ONNX Runtime cannot run {self._name}: {model_file.one_line(error)}; check the model"
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives one feed."""

    def __init__(self, feed: Feed) -> None:
        self._left = [feed]

    def get_next(self) -> Feed | None:
        return self._left.pop() if self._left else None


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


def _collector(method: str, limits: Mapping[str, float], percentile: float) -> HistogramCollector:
    """A collector with an empty histogram for each tensor, from end to end of its values.

    Left to itself it takes the first sample's ends and adds bins as others go beyond them: the
    result hangs on the order of the samples, and one that is nearly black makes millions of bins.
    """
    bins = _BINS[method]
    collector = HistogramCollector(
        method=method,
        symmetric=method == "percentile",
        num_bins=bins,
        num_quantized_bins=128,
        percentile=percentile,
        scenario="same",
    )
    for name, limit in limits.items():
        end = np.float32(limit)
        empty, start = np.zeros(bins, np.int64), np.float32(0) if method == "percentile" else -end
        edges = np.linspace(start, end, bins + 1, dtype=np.float32)
        # The two zeros are the smallest and the largest value so far.
        known = (empty, edges, np.float32(0), np.float32(0), end)
        collector.histogram_dict[name] = known[:4] if method == "percentile" else known
    return collector


def _save(model: ModelProto, folder: Path) -> Path:
    """Write a model to where the calibrators may leave files beside it."""
    path = folder / "model.onnx"
    size = sum(len(tensor.raw_data) for tensor in model_file.tensors(model.graph))
    onnx.save(model, path, save_as_external_data=size > _ONE_MESSAGE, location=_WEIGHTS)
    return path


def _value_infos(model: ModelProto) -> dict[str, Any]:
    graph = model.graph
    return {each.name: each for each in chain(graph.value_info, graph.output, graph.input)}


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
