"""An engine on this machine against the original model on the CPU.

Polygraphy's comparator runs both over the same samples; what differs is measured as for lowered
models. Only where the engine runs: nothing else can say what it computes.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
from polygraphy.comparator import Comparator
from polygraphy.logger import G_LOGGER

from ..errors import EngineBuildError
from ..verdict import read_verified
from . import samples, tolerances_for
from .compare import Request, judged, samples_for

_PACKAGES = ("numpy", "onnx", "onnxruntime", "polygraphy")


class EngineRequest(Request, frozen=True, kw_only=True):
    """A model and an engine of it.

    Attributes:
        engine: The engine; it has to be verified before it is loaded.
        runner: What runs it; see `Runtime.runner`.
    """

    engine: str
    runner: str


def compare_engine(request: dict[str, Any]) -> dict[str, Any]:
    """Compare an engine with its model; returns what `compare.compare` returns.

    Raises:
        EngineryError: The engine is not to be believed, cannot be loaded on this machine, or a
            sample does not fit.
    """
    asked = msgspec.convert(request, EngineRequest)
    given = samples_for(asked)
    engine = engine_runner(asked.runner, read_verified(asked.engine))
    found = compare_runners([original_runner(asked.original), engine], given, asked)
    how = {"original": "onnxruntime, CPU", "lowered": f"the engine, in {engine.name}"}
    return {**found, "how": how}


def engine_runner(entry: str, engine: bytes) -> Any:
    """Polygraphy's runner of a verified engine, made by a runtime's function "module:name"."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)(engine)


def original_runner(path: str) -> Any:
    """Polygraphy's runner of an ONNX file in ONNX Runtime on the CPU."""
    return OnnxrtRunner(SessionFromOnnx(path, providers=["CPUExecutionProvider"]), name="original")


def compare_runners(
    runners: Sequence[Any], given: Sequence[samples.Sample], asked: Request
) -> dict[str, Any]:
    """Run two of Polygraphy's runners over samples; the second is held against the first.

    Raises:
        EngineBuildError: A runner fails, or their outputs have other names.
    """
    from polygraphy.exception import PolygraphyException

    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    try:
        results = Comparator.run(list(runners), data_loader=[dict(one.arrays) for one in given])
    except PolygraphyException as error:
        raise EngineBuildError(f"the engine cannot be run here: {error}") from error
    (_, before), (_, after) = results
    names = list(before[0])
    if set(names) != set(after[0]):
        raise EngineBuildError(
            f"the engine's outputs are {', '.join(after[0])}, the model's are {', '.join(names)}"
        )
    return {
        **judged(before, after, given, tolerances_for(asked.precision, asked.tolerances)),
        "versions": {name: version(name) for name in _PACKAGES},
    }
