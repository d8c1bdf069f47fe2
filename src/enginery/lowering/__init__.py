"""Lowering: precision as an ONNX-to-ONNX step.

TensorRT-RTX and TensorRT 11 take only strongly typed networks, TensorRT 10 takes them too: the
precision of an engine is that of its ONNX. So a model is lowered once, to a file with its own
sidecar and provenance, and every engine in that precision is built from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..config import BackboneSpec, LoweringOptions, PrecisionMode
from ..errors import CalibrationCacheError
from ..filename import check_model_name, fold
from ..inputs import InputDigests
from ..installed import ONNXRUNTIME, required_version
from ..step import Step
from .data import fault_of_data, remove_unnamed_data

KIND = "lowered-onnx"

# Raised when this package changes what a lowered model looks like.
_REVISION = "2"

# What makes the bytes.
_TOOLS = (("onnx",), ONNXRUNTIME, ("ml_dtypes",))


def path_for(root: Path, model_name: str, precision: PrecisionMode) -> Path:
    """Where the lowered ONNX of a backbone is: `<model>_<precision>.onnx` in `root`."""
    check_model_name(model_name)
    return root / f"{fold(model_name)}_{precision.value}.onnx"


def toolchain(precision: PrecisionMode) -> Mapping[str, str]:
    """Name to version of whatever determines a lowered model's bytes; empty for fp32.

    Raises:
        RuntimeUnavailableError: A converter is not installed.
    """
    if precision is PrecisionMode.FP32:
        return {}
    tools = [f"{names[0]} {required_version(names)}" for names in _TOOLS]
    return {"lowering": ", ".join([_REVISION, *tools])}


def settings(options: LoweringOptions, precision: PrecisionMode) -> dict[str, Any]:
    """What the options set for a precision, for recipes: those that are left alone are left out."""
    if precision is PrecisionMode.FP32:
        return {}
    found = {
        name: value
        for name, value in options.as_dict().items()
        if value != LoweringOptions().as_dict()[name]
    }
    if precision is not PrecisionMode.INT8:
        found.pop("int8_with", None)
        found.pop("uncovered_percent", None)
    return found


def lowering_step(
    spec: BackboneSpec,
    precision: PrecisionMode,
    root: Path,
    calibration: Path | None,
    *,
    warn: Callable[[str], None] | None = None,
) -> Step:
    """How the ONNX of a backbone is lowered to a precision.

    Args:
        spec: The backbone.
        precision: Any but fp32, which is the model as it is.
        root: Folder of lowered models.
        calibration: TensorRT calibration cache, for int8.
        warn: Called with what a person should know of the calibration cache.

    Raises:
        RuntimeUnavailableError: A converter is not installed.
    """
    int8 = precision is PrecisionMode.INT8
    cache = calibration if int8 else None
    return Step(
        path=path_for(root, spec.model_name, precision),
        kind=KIND,
        inputs=partial(_inputs, spec, precision, cache),
        build={"precision": precision.value, **settings(spec.lowering, precision)},
        toolchain=toolchain(precision),
        names={"onnx": spec.onnx_path.name, **({"calibration": cache.name} if cache else {})},
        entry=f"enginery.lowering.{precision.value}:lower",
        request={
            "model": str(spec.onnx_path),
            "options": spec.lowering.as_dict(),
            "calibration": str(cache) if cache else None,
        },
        before=partial(_check_bound, spec, cache, warn) if cache else None,
        fault=fault_of_data,
        tidy=remove_unnamed_data,
    )


def _inputs(
    spec: BackboneSpec, precision: PrecisionMode, cache: Path | None, inputs: InputDigests
) -> dict[str, str]:
    found = inputs.of_model(spec.onnx_path)
    if precision is PrecisionMode.INT8:
        if cache is None:
            raise CalibrationCacheError(
                f"int8 of {spec.model_name} needs a calibration cache; name one, "
                "or have one computed"
            )
        found["calibration"] = inputs.of_calibration(cache)
    return found


def _check_bound(
    spec: BackboneSpec,
    cache: Path,
    warn: Callable[[str], None] | None,
    inputs: InputDigests,
) -> None:
    from ..calibration.binding import check_bound  # not where nothing is in int8

    check_bound(cache, spec.onnx_path, inputs, warn)
