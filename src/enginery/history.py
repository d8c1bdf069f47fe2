"""How long a build is going to take, by those that came before it.

What is known is in the provenance of the engines that lie in the engine folder, stale ones too.
Without any that compares there is no estimate: an invented figure is worse than none.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from . import provenance
from .errors import EngineryError
from .filename import EngineFilenameSchema

# Backbones whose ONNX files differ by more than this are no measure for each other.
_ALIKE = 2.0


class PastBuild(msgspec.Struct, frozen=True):
    """An engine that was built once.

    Attributes:
        model: Name of the backbone.
        runtime: Name of the runtime.
        precision: The precision.
        seconds: For how long it was built.
    """

    model: str
    runtime: str
    precision: str
    seconds: float


def past_builds(folder: Path) -> tuple[PastBuild, ...]:
    """The builds whose engines lie in a folder; what cannot be read is passed over."""
    found = []
    with suppress(OSError):
        for path in sorted(folder.glob(f"*.engine{provenance.SUFFIX}")):
            past = _past_build(path.with_name(path.name.removesuffix(provenance.SUFFIX)))
            if past is not None:
                found.append(past)
    return tuple(found)


def estimate(
    model: str,
    runtime: str,
    precision: str,
    past: Iterable[PastBuild],
    sizes: Mapping[str, int],
) -> float | None:
    """For how many seconds an engine is going to be built; None where nothing compares.

    The median of the first of these that there are: builds of this backbone in this precision,
    builds of it in other precisions, builds of backbones half to twice its size in this precision.
    All of them by the same runtime.

    Args:
        model: Name of the backbone.
        runtime: Name of the runtime.
        precision: The precision.
        past: Builds that came before.
        sizes: Backbone to the bytes of its ONNX.
    """
    alike = [one for one in past if one.runtime == runtime]
    own = [one for one in alike if one.model == model]
    size = sizes.get(model, 0)
    near = {
        name for name, other in sizes.items() if size and size / _ALIKE <= other <= size * _ALIKE
    }
    for group in (
        [one for one in own if one.precision == precision],
        own,
        [one for one in alike if one.precision == precision and one.model in near],
    ):
        if group:
            return statistics.median(one.seconds for one in group)
    return None


def model_size(onnx: Path) -> int:
    """Bytes of an ONNX file and of the external data beside it, which begins with its name.

    The model is not read: this is for an estimate.
    """
    total = 0
    with suppress(OSError), os.scandir(onnx.parent) as entries:
        total = sum(entry.stat().st_size for entry in entries if entry.name.startswith(onnx.name))
    return total


def _past_build(engine: Path) -> PastBuild | None:
    try:
        statement = provenance.read(engine)
        model = EngineFilenameSchema.parse(engine.name).model_name
    except (EngineryError, ValueError):
        return None
    recipe = statement.recipe
    precision, runtime = recipe.build.get("precision"), recipe.toolchain.get("runtime")
    if not (isinstance(precision, str) and isinstance(runtime, str) and statement.build_s):
        return None
    return PastBuild(model, runtime, precision, statement.build_s)
