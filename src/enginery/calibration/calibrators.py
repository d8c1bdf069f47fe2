"""ONNX Runtime's calibrators: the ranges of a model's tensors over data, one sample at a time."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_state
from onnxruntime.quantization.calibrate import (
    CalibraterBase,
    CalibrationDataReader,
    EntropyCalibrater,
    HistogramCollector,
    MinMaxCalibrater,
    PercentileCalibrater,
)

from ..errors import CalibrationCacheError, EngineBuildError
from ..lowering import model_file
from .feeds import Feed

# The file beside a model that holds its weights, where one message cannot.
WEIGHTS = "model.weights"

# ONNX Runtime's own 128 bins leave entropy a single limit to choose; its time grows with the
# square of the bins.
_BINS = {"entropy": 1024, "percentile": 2048}

_RUNTIME_ERRORS = (
    runtime_state.EPFail,
    runtime_state.Fail,
    runtime_state.InvalidArgument,
    runtime_state.InvalidGraph,
    runtime_state.InvalidProtobuf,
    runtime_state.NotImplemented,
    runtime_state.RuntimeException,
)


class Runner:
    """ONNX Runtime's calibrators over one model and a choice of its tensors."""

    def __init__(self, model: Path, tensors: list[str], name: str) -> None:
        self._model = model
        self._tensors = tensors
        self._name = name

    def limits(self, feeds: Iterable[Feed]) -> dict[str, float]:
        """The largest magnitude of each tensor over the data.

        Raises:
            CalibrationCacheError: A tensor is not finite.
            EngineBuildError: ONNX Runtime cannot run the model.
        """
        calibrator = self._started(MinMaxCalibrater, self._tensors)
        for feed in feeds:
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
        self, feeds: Iterable[Feed], limits: Mapping[str, float], method: str, percentile: float
    ) -> dict[str, float]:
        """The magnitude that entropy or percentile sets as the end of each tensor's range.

        Args:
            feeds: The data that the limits are of, once more.
            limits: What `limits` found; tensors that are always zero are left out of the result.
            method: "entropy" or "percentile".
            percentile: Which part of the values is within the range, in percent.

        Raises:
            EngineBuildError: ONNX Runtime cannot run the model.
        """
        tensors = [name for name in self._tensors if limits[name] > 0]
        if not tensors:
            return {}
        kind = EntropyCalibrater if method == "entropy" else PercentileCalibrater
        calibrator = self._started(kind, tensors)
        calibrator.collector = _collector(method, {n: limits[n] for n in tensors}, percentile)
        for feed in feeds:
            self._collect(calibrator, feed)
        with contextlib.redirect_stdout(io.StringIO()):
            found = calibrator.compute_data()
        return {
            name: max(abs(float(edge)) for edge in each.range_value) for name, each in found.items()
        }

    def _started(self, kind: type[CalibraterBase], tensors: list[str]) -> Any:
        augmented = self._model.with_name(f"{kind.__name__}.onnx")
        large = self._model.with_name(WEIGHTS).exists()
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


def _value_infos(model: ModelProto) -> dict[str, Any]:
    graph = model.graph
    return {each.name: each for each in chain(graph.value_info, graph.output, graph.input)}
