"""Whether a calibration cache belongs to a model.

A cache that `calibrate` computed has a provenance that names the ONNX; one that was brought from
elsewhere has none, and only its tensors' names can be compared, when the model is lowered.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .. import provenance
from ..digest import short
from ..errors import CalibrationCacheError, ProvenanceError
from ..inputs import InputDigests


def check_bound(
    cache: Path, onnx_path: Path, inputs: InputDigests, warn: Callable[[str], None] | None
) -> None:
    """Raise CalibrationCacheError if the cache is known to be of another model.

    Args:
        cache: The calibration cache.
        onnx_path: The model that it is to be used for.
        inputs: Digests of both.
        warn: Called with a line for a person where nothing is known.

    Raises:
        CalibrationCacheError: Its provenance is malformed, is about another cache, or names
            another model.
        EngineBuildError: The model cannot be read.
    """
    if not os.path.lexists(provenance.path_for(cache)):
        if warn:
            warn(
                f"{cache} has no provenance, so nothing says that it was made for "
                f"{onnx_path.name}; only its tensors' names are compared"
            )
        return
    try:
        statement = provenance.read(cache)
    except ProvenanceError as error:
        raise CalibrationCacheError(
            f"{cache}: {error}; calibrate again, or remove the provenance of a cache that you trust"
        ) from error
    actual = inputs.of_calibration(cache)
    if statement.sha256_hex != actual:
        raise CalibrationCacheError(
            f"{cache} is not the cache that its provenance is about ({short(actual)}, not "
            f"{short(statement.sha256_hex)}); calibrate again, or remove the provenance of a "
            "cache that you trust"
        )
    made_for = statement.recipe.inputs
    for role, digest in inputs.of_model(onnx_path).items():
        if made_for.get(role) != digest:
            raise CalibrationCacheError(
                f"{cache} was made for another model: {role} is {short(digest)} now and was "
                f"{short(made_for.get(role, 'not there'))}; calibrate again"
            )
