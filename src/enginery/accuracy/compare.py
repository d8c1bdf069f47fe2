"""Compare: run a model and its lowered form on the same samples and measure what differs.

The entry of a worker process. Both run in ONNX Runtime on the CPU, with basic graph
optimizations: those fold constants and merge what is exactly the same, and leave Q/DQ nodes as
they are, where the extended ones put integer kernels in their place, which saturate on some CPUs.

A model that is fp16 or bf16 somewhere is run with its rounding made explicit (`rounding`), since
ONNX Runtime on the CPU computes most of it in fp32 and leaves the rounding out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from ..errors import EngineBuildError
from . import Tolerances, judge_metrics, samples, tolerances_for
from .metrics import measure, worst
from .rounding import explicit_rounding, narrow_types

_PACKAGES = ("numpy", "onnx", "onnxruntime")

# protobuf's limit for one message.
_LARGEST_MESSAGE = 2**31 - 1

_ORT_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    ValueError,
)

# Types of floats that a session takes; a sample has those that the original declares.
_FLOATS: Mapping[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is compared on; what else is asked of the worker is passed over.

    Attributes:
        original: The ONNX file as it came.
        precision: What it was lowered to; decides on the default tolerances.
        samples: How many samples to make up, where no data is given.
        seed: What they are made up from.
        data: Files with a sample each.
        shapes: Shape by input name, where the model leaves a dimension open.
        tolerances: Bounds by name; the precision's defaults where there are none.
    """

    original: str
    precision: str
    samples: int = 4
    seed: int = 0
    data: tuple[str, ...] = ()
    shapes: dict[str, tuple[int, ...]] = {}
    tolerances: dict[str, float] = {}


class LoweredRequest(Request, frozen=True, kw_only=True):
    """A model and what was lowered from it.

    Attributes:
        lowered: The ONNX file made of the original.
    """

    lowered: str


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """What a model gave for every sample, by name of output, and how that was found out."""

    outputs: list[dict[str, npt.NDArray[Any]]]
    how: str


def compare(request: dict[str, Any]) -> dict[str, Any]:
    """Compare a model with its lowered form; `LoweredRequest` says what it holds.

    Returns:
        passed: whether every output is within tolerances; missed: where it is not, in words;
        outputs: metrics by output (`Metrics`), the worst over the samples; tolerances: those in
        force; how: the evaluator of each model; versions: package to version; samples: their
        number; sample_sha256: their digests, in order.

    Raises:
        BackboneSpecError: Shapes or tolerances do not fit the model.
        EngineBuildError: A model cannot be run, a data file not be read, or an output is gone.
    """
    asked = msgspec.convert(request, LoweredRequest)
    tolerances = tolerances_for(asked.precision, asked.tolerances)
    original, lowered = Path(asked.original), Path(asked.lowered)
    given = samples_for(asked)
    # One after the other: either may be as large as the memory.
    before = _evaluate(original, given)
    after = before if lowered == original else _evaluate(lowered, given)
    _check_names(before.outputs[0], after.outputs[0], lowered)
    return {
        **judged(before.outputs, after.outputs, given, tolerances),
        "how": {"original": before.how, "lowered": after.how},
        "versions": {name: version(name) for name in _PACKAGES},
    }


def judged(
    before: Sequence[Mapping[str, npt.NDArray[Any]]],
    after: Sequence[Mapping[str, npt.NDArray[Any]]],
    given: Sequence[samples.Sample],
    tolerances: Tolerances,
) -> dict[str, Any]:
    """What two models gave for the samples, measured and held against tolerances, by output."""
    metrics = {
        name: worst([measure(r[name], c[name]) for r, c in zip(before, after, strict=True)])
        for name in before[0]
    }
    missed = [
        f"output {name!r}: {words}"
        for name, found in metrics.items()
        for words in judge_metrics(found, tolerances)
    ]
    return {
        "passed": not missed,
        "missed": missed,
        "outputs": {name: msgspec.structs.asdict(found) for name, found in metrics.items()},
        "tolerances": tolerances.as_dict(),
        "samples": len(given),
        "sample_sha256": [sample.sha256_hex for sample in given],
    }


def samples_for(asked: Request) -> list[samples.Sample]:
    """What the models are run on: the request's data, or what is made up for the original.

    Raises:
        BackboneSpecError: The request's shapes do not fit the model.
        EngineBuildError: A data file or the model cannot be read, or nothing is asked for.
    """
    model = _load(Path(asked.original), weights=False)
    inputs = samples.model_inputs(model.graph, asked.shapes)
    if asked.data:
        return samples.read([Path(name) for name in asked.data], inputs)
    if asked.samples < 1:
        raise EngineBuildError("there is nothing to compare on; ask for 1 sample at least")
    return samples.generate(inputs, count=asked.samples, seed=asked.seed)


def _check_names(before: Mapping[str, object], after: Mapping[str, object], lowered: Path) -> None:
    if before.keys() != after.keys():
        gone, new = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
        raise EngineBuildError(
            f"{lowered.name} has other outputs than its original: "
            f"missing {', '.join(gone) or 'none'}, new {', '.join(new) or 'none'}"
        )


def _evaluate(path: Path, given: Sequence[samples.Sample]) -> _Evaluated:
    how = f"onnxruntime {version('onnxruntime')}, CPU"
    # Whether weights are narrow stands in the file, even where their values are beside it.
    narrow = narrow_types(_load(path, weights=False))
    if not narrow:
        return _Evaluated(_run(path, str(path), given), f"{how}, as it is")
    model = explicit_rounding(_load(path, weights=True))
    kinds = " and ".join(sorted(narrow))
    with tempfile.TemporaryDirectory(prefix="enginery-") as folder:
        source = _source(model, Path(folder))
        del model
        outputs = _run(path, source, given)
    return _Evaluated(outputs, f"{how}, in fp32 with every {kinds} tensor rounded explicitly")


def _source(model: onnx.ModelProto, folder: Path, largest: int = _LARGEST_MESSAGE) -> bytes | str:
    """What a session can be made of: the model's bytes, or a file where they are too many."""
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weights < largest // 2:
        serialized: bytes = model.SerializeToString()
        return serialized
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.data")
    return str(path)


def _run(
    path: Path, source: bytes | str, given: Sequence[samples.Sample]
) -> list[dict[str, npt.NDArray[Any]]]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        inputs = {one.name: _FLOATS.get(one.type) for one in session.get_inputs()}
        names = [one.name for one in session.get_outputs()]
        return [
            dict(zip(names, session.run(names, _feeds(sample, inputs)), strict=True))
            for sample in given
        ]
    except _ORT_ERRORS as error:
        raise EngineBuildError(
            f"{path.name} cannot be run by onnxruntime: {error}; leave its check out"
        ) from error


def _feeds(
    sample: samples.Sample, inputs: Mapping[str, type[np.floating[Any]] | None]
) -> dict[str, npt.NDArray[Any]]:
    """A sample in the types that a session takes; an input that lowering removed is left out."""
    return {
        name: array if inputs[name] is None else array.astype(inputs[name])
        for name, array in sample.arrays.items()
        if name in inputs
    }


def _load(path: Path, *, weights: bool) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=weights)
    except DecodeError as error:
        raise EngineBuildError(f"{path.name} is no ONNX model: {error}; export it again") from error
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise EngineBuildError(f"{path.name} cannot be loaded: {error}; export it again") from error
