"""Runs engines of ONNX Runtime, to try what was built and for the check of what it computes."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import onnx
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state
from polygraphy.backend.onnxrt import OnnxrtRunner

from ..errors import EngineBuildError
from . import onnxruntime_tensorrt as tensorrt

# Its own errors have no class in common but Exception; ValueError is that of its Python part.
ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    *(
        kind
        for kind in vars(ort_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
)

_NUMBER = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PLACE = re.compile(r"/onnxruntime_src/\S+:\d+ .*?\) (?:const )?(?=[A-Z])")

# It may name hundreds of tensors.
_LONGEST = 800

CPU = ["CPUExecutionProvider"]


def runner(engine: bytes) -> Any:
    """Polygraphy's runner of a verified engine; nothing in it is optimized again."""
    on_gpu = tensorrt.has_context(onnx.load_from_string(engine))
    where = "TensorRT" if on_gpu else "CPU"
    return _Runner(
        partial(loaded, engine, on_gpu=on_gpu), name=f"onnxruntime {ort.__version__}, {where}"
    )


class _Runner(OnnxrtRunner):  # type: ignore[misc]
    """Says in an error of ours what ONNX Runtime says in its own."""

    def infer_impl(self, feed_dict: Any) -> Any:
        try:
            return super().infer_impl(feed_dict)
        except ERRORS as error:
            raise EngineBuildError(f"the engine does not run: {words(error)}") from error


def loaded(engine: str | bytes, *, on_gpu: bool) -> Any:
    """A session of a finished engine, its path or its bytes.

    Raises:
        EngineBuildError: ONNX Runtime does not load it; in ONNX Runtime's words.
    """
    providers = tensorrt.providers() if on_gpu else CPU
    # What was built is what runs.
    options = session_options(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    try:
        return ort.InferenceSession(engine, options, providers=providers, enable_fallback=0)
    except ERRORS as error:
        raise EngineBuildError(f"the engine cannot be loaded: {words(error)}") from error


def session_options(optimization: Any) -> Any:
    """Options of a session that optimizes up to a level and logs errors only."""
    options = ort.SessionOptions()
    options.graph_optimization_level = optimization
    options.log_severity_level = 3
    return options


def words(error: Exception) -> str:
    """ONNX Runtime's own words in one line, without the error's number and place in its source."""
    line = _PLACE.sub("", _NUMBER.sub("", " ".join(str(error).split())))
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
