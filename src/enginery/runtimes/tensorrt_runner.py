"""Runs engines of TensorRT, for the check of what an engine computes."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from polygraphy import config
from polygraphy.backend.trt import TrtRunner

from ..errors import EngineBuildError
from .tensorrt_log import Log


def runner(engine: bytes) -> Any:
    """Polygraphy's runner of a verified engine, on the GPU that CUDA counts first.

    Which TensorRT it is, Polygraphy's environment says (`Runtime.polygraphy_environment`).
    """
    return TrtRunner(partial(_loaded, engine), name="TensorRT, GPU")


def _loaded(engine: bytes) -> Any:
    """The engine, without host code: Polygraphy's own loader allows it."""
    trt = importlib.import_module("tensorrt_rtx" if config.USE_TENSORRT_RTX else "tensorrt")
    log = Log(trt)
    trt.init_libnvinfer_plugins(log.sink, "")
    runtime = trt.Runtime(log.sink)
    runtime.engine_host_code_allowed = False
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise EngineBuildError(
            f"TensorRT does not load the engine here: {log.words() or 'no reason given'}"
        )
    return loaded
