"""Lowering: precision as an ONNX-to-ONNX step.

TensorRT-RTX and TensorRT 11 take only strongly typed networks, TensorRT 10 takes them too: the
precision of an engine is that of its ONNX. So a model is lowered once, to a file with its own
sidecar and provenance, and every engine in that precision is built from it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from .. import atomic, provenance, worker
from ..config import BackboneSpec, PrecisionMode
from ..errors import EngineBuildError, InputChangedError, RuntimeUnavailableError
from ..filename import check_model_name, fold
from ..inputs import InputDigests
from ..installed import installed_version
from ..locks import locked
from ..publish import owned_paths, publish
from ..recipe import Recipe, input_files
from ..verdict import Verdict, judge

KIND = "lowered-onnx"

# Raised when this package changes what a lowered model looks like.
_REVISION = "1"
_CONVERTER = "onnxconverter-common"


def path_for(root: Path, model_name: str, precision: PrecisionMode) -> Path:
    """Where the lowered ONNX of a backbone is: `<model>_<precision>.onnx` in `root`."""
    check_model_name(model_name)
    return root / f"{fold(model_name)}_{precision.value}.onnx"


def toolchain(precision: PrecisionMode) -> Mapping[str, str]:
    """Name to version of whatever determines a lowered model's bytes; empty for fp32.

    Raises:
        RuntimeUnavailableError: The converter is not installed.
    """
    if precision is PrecisionMode.FP32:
        return {}
    return {"lowering": f"{_REVISION}, {_CONVERTER} {_converter_version()}"}


def judge_lowered(
    spec: BackboneSpec, precision: PrecisionMode, root: Path, inputs: InputDigests
) -> Verdict:
    """Whether the lowered ONNX of a backbone is what its model gives."""
    recipe = _recipe(inputs.of_model(spec.onnx_path), precision)
    return judge(path_for(root, spec.model_name, precision), recipe)


def lower(spec: BackboneSpec, precision: PrecisionMode, root: Path, inputs: InputDigests) -> Path:
    """The ONNX of a backbone in a precision, lowered now if it was not already.

    Args:
        spec: The backbone.
        precision: The precision wanted; fp32 is the model as it is.
        root: Folder of lowered models; made if it is not there.
        inputs: Digests of the model.

    Raises:
        EngineBuildError: The model cannot be lowered, or changed while it was.
    """
    if precision is PrecisionMode.FP32:
        return spec.onnx_path
    path = path_for(root, spec.model_name, precision)
    root.mkdir(parents=True, exist_ok=True)
    with locked(path):
        if not _is_fresh(spec, precision, root, inputs):
            for leftover in atomic.leftovers(owned_paths(path)):
                leftover.unlink(missing_ok=True)
            _lower(spec, precision, path, inputs)
    return path


def _is_fresh(
    spec: BackboneSpec, precision: PrecisionMode, root: Path, inputs: InputDigests
) -> bool:
    there = os.path.lexists(path_for(root, spec.model_name, precision))
    return there and judge_lowered(spec, precision, root, inputs).fresh


def _lower(spec: BackboneSpec, precision: PrecisionMode, path: Path, inputs: InputDigests) -> None:
    started = datetime.now(timezone.utc)
    with (
        atomic.staged(path) as temporary,
        worker.started(
            f"enginery.lowering.{precision.value}:lower", environment={}, label=path.name
        ) as convert,
    ):
        recipe = _recipe(inputs.of_model(spec.onnx_path), precision)
        try:
            lowered = convert({"model": str(spec.onnx_path), "output": str(temporary)})
        except EngineBuildError:
            # A model that is being written may not even parse; that it changed is the reason.
            _check_inputs(spec, recipe)
            raise
        _check_inputs(spec, recipe)
        document = provenance.write_statement(
            path,
            lowered["sha256"],
            recipe,
            dependencies=input_files(recipe.inputs, {"onnx": spec.onnx_path.name}),
            versions=lowered["versions"],
            started=started,
        )
        publish(temporary, path, lowered["sha256"], document)


def _check_inputs(spec: BackboneSpec, recipe: Recipe) -> None:
    if InputDigests().of_model(spec.onnx_path) != recipe.inputs:
        raise InputChangedError(
            f"{spec.onnx_path} changed while it was lowered; nothing was published, run again"
        )


def _recipe(model: Mapping[str, str], precision: PrecisionMode) -> Recipe:
    return Recipe(
        kind=KIND,
        inputs=dict(model),
        build={"precision": precision.value},
        toolchain=dict(toolchain(precision)),
        target={},
    )


def _converter_version() -> str:
    found = installed_version(_CONVERTER)
    if found is None:
        raise RuntimeUnavailableError(
            f"{_CONVERTER} is not installed; install it with: pip install 'enginery[rtx]'"
        )
    return found
