"""A check as a step: a report of how far a lowered model is from the original."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ..calibration.step import data_files
from ..config import BackboneSpec, CheckSpec, PrecisionMode
from ..digest import read_regular, sha256_file
from ..errors import EngineBuildError, EngineryError
from ..inputs import InputDigests
from ..installed import ONNXRUNTIME, required_version
from ..runtimes.protocol import Runtime
from ..step import Step
from ..verdict import Fault, Verdict
from . import tolerances_for

KIND = "accuracy-check"
ENGINE_KIND = "engine-check"

# Raised when this package changes how models are compared.
_REVISION = "1"
_LIMIT = 16 << 20
_SHOWN = ("max_abs", "max_rel", "cosine", "snr_db", "equal")


class _Report(msgspec.Struct, frozen=True):
    """The part of a report that decides."""

    passed: bool
    missed: list[str]


def check_step(spec: BackboneSpec, check: CheckSpec, lowering: Step, precision: PrecisionMode,
               folder: Path) -> Step:  # fmt: skip
    """How the lowered model of a backbone is compared with the original.

    Args:
        spec: The backbone.
        check: Inputs and tolerances.
        lowering: How the model is lowered.
        precision: The precision that it is lowered to.
        folder: Folder of the reports.

    Raises:
        RuntimeUnavailableError: ONNX Runtime is not installed.
    """
    asked = _asked(spec, check, precision)
    return Step(
        path=folder / lowering.path.with_suffix(".check.json").name,
        kind=KIND,
        inputs=partial(_inputs, check, lowering),
        build={**lowering.build, **asked},
        toolchain={
            **lowering.toolchain,
            "check": f"{_REVISION}, onnxruntime {required_version(ONNXRUNTIME)}",
        },
        names=lowering.names,
        entry="enginery.accuracy.report:check",
        request={
            **asked,
            "original": str(spec.onnx_path),
            "lowered": str(lowering.path),
            "data": [str(path) for path in _matched(check)],
        },
        before=lowering.make,
    )


def engine_check_step(
    spec: BackboneSpec, check: CheckSpec, engine: Path, runtime: Runtime,
    precision: PrecisionMode, folder: Path,
) -> Step:  # fmt: skip
    """How an engine is compared with the original, on this machine.

    Args:
        spec: The backbone.
        check: Inputs and tolerances.
        engine: The engine.
        runtime: The runtime that it is for.
        precision: Its precision.
        folder: Folder of the reports.

    Raises:
        RuntimeUnavailableError: ONNX Runtime is not installed.
    """
    asked = _asked(spec, check, precision)
    return Step(
        path=folder / f"{engine.name}.check.json",
        kind=ENGINE_KIND,
        inputs=partial(_engine_inputs, spec, check, engine),
        build=asked,
        toolchain=_tools(),
        names={"onnx": spec.onnx_path.name, "engine": engine.name},
        entry="enginery.accuracy.report:check_engine",
        request={
            **asked,
            "original": str(spec.onnx_path),
            "engine": str(engine),
            "runner": runtime.runner,
            "data": [str(path) for path in _matched(check)],
        },
        environment=runtime.polygraphy_environment,
    )


def _asked(spec: BackboneSpec, check: CheckSpec, precision: PrecisionMode) -> dict[str, Any]:
    shapes = {
        profile.input_name: list(profile.opt_shape)
        for profile in spec.optimization_profiles
        if profile.index == 0
    }
    return {
        "precision": precision.value,
        "samples": check.samples,
        "seed": check.seed,
        "shapes": shapes,
        "tolerances": tolerances(check, precision),
    }


def tolerances(check: CheckSpec, precision: PrecisionMode) -> dict[str, str]:
    """Name to bound, as text: the backbone's own, and the precision's defaults for the rest."""
    own = {name: float(bound) for name, bound in check.tolerances.get(precision, {}).items()}
    bounds = msgspec.structs.asdict(tolerances_for(precision.value, own))
    return {name: repr(bound) for name, bound in bounds.items() if bound is not None}


def judge_check(step: Step, inputs: InputDigests) -> Verdict:
    """Whether there is a report of what is there now, and it says that the model passed."""
    verdict = step.judge(inputs)
    if not verdict.fresh:
        return verdict
    try:
        report = msgspec.json.decode(read_regular(step.path, limit=_LIMIT), type=_Report)
    except (OSError, EngineryError, msgspec.DecodeError) as error:
        return Verdict(Fault.PROVENANCE, f"{step.path.name} cannot be read: {error}")
    if not report.passed:
        return Verdict(Fault.CHECK, "; ".join(report.missed))
    return verdict


def describe(step: Step) -> str:
    """The report in lines for a person, one per output."""
    report = msgspec.json.decode(read_regular(step.path, limit=_LIMIT), type=dict[str, Any])
    lines = [f"{step.path.name}: {report['samples']} samples, {report['how']['lowered']}"]
    for name, metrics in report["outputs"].items():
        figures = ", ".join(
            f"{key} {value:.4g}"
            for key, value in metrics.items()
            if isinstance(value, float) and key in _SHOWN
        )
        lines.append(f"  {name}: {figures}")
    return "\n".join(lines) + "\n"


def _inputs(check: CheckSpec, lowering: Step, inputs: InputDigests) -> dict[str, str]:
    found = lowering.inputs(inputs)
    for file in _data(check):
        found[f"data/{os.path.relpath(file, check.folder)}"] = inputs.of_data(file)
    return found


def _engine_inputs(
    spec: BackboneSpec, check: CheckSpec, engine: Path, inputs: InputDigests
) -> dict[str, str]:
    return {
        **inputs.of_model(spec.onnx_path),
        "engine": sha256_file(engine),
        **{f"data/{file.name}": inputs.of_data(file) for file in _data(check)},
    }


def _matched(check: CheckSpec) -> list[Path]:
    return [] if check.data is None else data_files(check.data, check.folder)


def _data(check: CheckSpec) -> list[Path]:
    files = _matched(check)
    if check.data is not None and not files:
        raise EngineBuildError(
            f"no file in {check.folder} matches {check.data!r}; put inputs there, or correct "
            "check.data"
        )
    return files


def _tools() -> dict[str, str]:
    return {"check": f"{_REVISION}, onnxruntime {required_version(ONNXRUNTIME)}"}
