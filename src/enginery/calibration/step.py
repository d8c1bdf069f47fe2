"""A calibration cache as a step: made from the model and the data by ONNX Runtime."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .. import lowering, provenance
from ..config import BackboneSpec, CalibrateSpec, PrecisionMode
from ..errors import CalibrationCacheError
from ..inputs import InputDigests
from ..installed import ONNXRUNTIME, required_version
from ..step import Step

KIND = "calibration-cache"

# Raised when this package changes how a cache is computed.
_REVISION = "1"
_CALLABLE = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*")


def calibration_step(
    spec: BackboneSpec,
    calibrate: CalibrateSpec,
    cache: Path,
    *,
    show: Callable[[str], None] | None = None,
) -> Step:
    """How the calibration cache of a backbone is computed.

    Args:
        spec: The backbone.
        calibrate: The data and the method.
        cache: Where the cache is to be.
        show: Called with how far it is.

    Raises:
        RuntimeUnavailableError: ONNX Runtime is not installed.
    """
    return Step(
        path=cache,
        kind=KIND,
        inputs=partial(_inputs, spec, calibrate),
        build={**_settings(calibrate), **lowering.settings(spec.lowering, PrecisionMode.FP16)},
        toolchain={"calibration": f"{_REVISION}, onnxruntime {required_version(ONNXRUNTIME)}"},
        names={"onnx": spec.onnx_path.name},
        entry="enginery.calibration.compute:compute",
        request={
            "model": str(spec.onnx_path),
            "data": _request_data(calibrate),
            "method": calibrate.method,
            "percentile": calibrate.percentile,
            "input_name": _npy_input(spec),
            "options": spec.lowering.as_dict(),
        },
        before=partial(_refuse_foreign, cache),
        show=show,
    )


def data_files(pattern: str, folder: Path) -> list[Path]:
    """The files that a pattern matches, sorted; relative to a folder."""
    # The pattern may be absolute, which Path.glob refuses.
    places = os.path.join(glob.escape(str(folder)), pattern)  # noqa: PTH118
    return [Path(found) for found in sorted(glob.glob(places))]  # noqa: PTH207


def is_ours(cache: Path) -> bool:
    """Whether a cache was computed here, and may be replaced or removed."""
    return os.path.lexists(provenance.path_for(cache))


def _refuse_foreign(cache: Path, _: InputDigests) -> None:
    if os.path.lexists(cache) and not is_ours(cache):
        raise CalibrationCacheError(
            f"{cache} is there and was not computed here; remove it, or the table that says how to "
            "compute it"
        )


def _settings(calibrate: CalibrateSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"method": calibrate.method}
    if calibrate.method == "percentile":
        found["percentile"] = calibrate.percentile
    if _CALLABLE.fullmatch(calibrate.data):
        found["data"] = calibrate.data
    return found


def _npy_input(spec: BackboneSpec) -> str:
    """The input that arrays without a name are for; "" is the only one that the model has."""
    return "" if spec.profiles else spec.input_name


def _request_data(calibrate: CalibrateSpec) -> list[str] | dict[str, str]:
    if _CALLABLE.fullmatch(calibrate.data):
        return {"callable": calibrate.data, "folder": str(calibrate.folder.absolute())}
    return [str(path) for path in data_files(calibrate.data, calibrate.folder)]


def _inputs(spec: BackboneSpec, calibrate: CalibrateSpec, inputs: InputDigests) -> dict[str, str]:
    found = inputs.of_model(spec.onnx_path)
    if match := _CALLABLE.fullmatch(calibrate.data):
        files = [calibrate.folder / (match["module"].replace(".", "/") + ".py")]
    else:
        files = data_files(calibrate.data, calibrate.folder)
    if not files:
        raise CalibrationCacheError(
            f"no file in {calibrate.folder} matches {calibrate.data!r}; put the calibration data "
            "there, or correct the pattern"
        )
    for file in files:
        found[f"data/{os.path.relpath(file, calibrate.folder)}"] = inputs.of_data(file)
    return found
