"""Backbones of corpus.toml: models, and what is to be built of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from .config import (
    BackboneSpec,
    BuilderOptions,
    CalibrateSpec,
    CheckSpec,
    OptimizationProfile,
    PrecisionMode,
)
from .corpus_tables import beside, check_distinct, mistake, nearest, read_table
from .corpus_targets import TargetSpec, read_builder
from .corpus_types import BackboneTable, CalibrateTable, CorpusTable, ProfileTable
from .filename import check_model_name, fold

STATE = ".enginery"
"""Folder beside the corpus file: what is made on the way, and remembered digests of inputs."""


class CorpusBackbone(msgspec.Struct, frozen=True):
    """A backbone and what is to be built of it.

    Attributes:
        spec: The backbone.
        builds: Target to the precisions that are built for it.
        builders: Target to the builder options of this backbone and that target.
        workspace_mb: Target to the workspace memory pool in MiB.
        calibration_path: TensorRT calibration cache, or None.
        calibrate: How that cache is computed, or None where it is given.
        check: How lowered models are compared with the original.
        checked: Whether a plain `doit` makes that comparison.
        require_check: Whether an engine is fresh only with a check that passes.
    """

    spec: BackboneSpec
    builds: Mapping[str, tuple[PrecisionMode, ...]]
    builders: Mapping[str, BuilderOptions]
    workspace_mb: Mapping[str, int]
    calibration_path: Path | None
    calibrate: CalibrateSpec | None
    check: CheckSpec
    checked: bool
    require_check: bool

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets, in the order of the file."""
        return tuple(self.builds)

    @property
    def precisions(self) -> tuple[PrecisionMode, ...]:
        """Every precision that is built for some target."""
        return tuple(dict.fromkeys(mode for modes in self.builds.values() for mode in modes))


def read_backbone(
    path: Path,
    name: str,
    table: dict[str, Any],
    defaults: CorpusTable,
    targets: Mapping[str, TargetSpec],
) -> CorpusBackbone:
    """A backbone as its table has it.

    Raises:
        CorpusError: It holds a mistake.
    """
    key = f"backbones.{name}"
    try:
        check_model_name(name)
    except ValueError as error:
        raise mistake(path, key, str(error)) from error
    read = read_table(path, key, table, BackboneTable)
    names = read.targets or defaults.targets
    if not names:
        raise mistake(path, f"{key}.targets", "there is none; name one, here or under [corpus]")
    check_distinct(path, f"{key}.targets", names)
    for target in names:
        if target not in targets:
            hint = nearest(target, targets) or "add a table [targets." + target + "]"
            raise mistake(path, f"{key}.targets", f"there is no target {target!r}; {hint}")
    if read.expected_input_shape is None and not read.profiles:
        raise mistake(
            path,
            f"{key}.expected_input_shape",
            "is missing; write the input's shape, for example [1, 3, 224, 224], or profiles",
        )
    builds = {target: _precisions(path, key, read, targets[target], defaults) for target in names}
    if isinstance(read.precision, dict):
        for target in read.precision:
            if target not in builds:
                hint = nearest(target, builds) or "remove it"
                raise mistake(
                    path, f"{key}.precision", f"{target!r} is none of its targets; {hint}"
                )
    int8 = any(PrecisionMode.INT8 in modes for modes in builds.values())
    if int8 and not (read.calibration or read.calibrate):
        raise mistake(
            path,
            f"{key}.calibration",
            "int8 needs a calibration cache; write calibration = "
            f'"{name}.calib" for one that is there, or a table [{key}.calibrate] to compute it',
        )
    return CorpusBackbone(
        spec=_spec(path, name, read),
        builds=builds,
        builders={
            target: read_builder(path, f"{key}.builder", read.builder, targets[target].builder)
            for target in builds
        },
        workspace_mb={
            target: read.workspace_mb or targets[target].workspace_mb or defaults.workspace_mb
            for target in builds
        },
        calibration_path=_calibration_path(path, name, read),
        calibrate=_calibrate(path, read.calibrate),
        check=_check(path, key, read.check),
        checked=read.check is not None,
        require_check=(
            defaults.require_check if read.require_check is None else read.require_check
        ),
    )


def _spec(path: Path, name: str, read: BackboneTable) -> BackboneSpec:
    key = f"backbones.{name}"
    return BackboneSpec(
        model_name=name,
        onnx_path=beside(path, f"{key}.onnx", read.onnx),
        expected_input_shape=tuple(read.expected_input_shape or ()),
        input_name=read.input_name,
        profiles=_profiles(path, key, read.profiles),
        builder=read_builder(path, f"{key}.builder", read.builder),
        lowering=read.lowering,
    )


def _precisions(
    path: Path, key: str, read: BackboneTable, target: TargetSpec, defaults: CorpusTable
) -> tuple[PrecisionMode, ...]:
    """What is built of a backbone for a target: the nearest word counts."""
    own = read.precision
    if isinstance(own, dict):
        own = own.get(target.name)
    found = own or target.precisions or defaults.precision or (PrecisionMode.FP32,)
    check_distinct(path, f"{key}.precision", found)
    return tuple(found)


def _calibration_path(path: Path, name: str, read: BackboneTable) -> Path | None:
    if read.calibration:
        return beside(path, f"backbones.{name}.calibration", read.calibration)
    if read.calibrate:
        return path.parent / STATE / "calibration" / f"{fold(name)}.calib"
    return None


def _calibrate(path: Path, read: CalibrateTable | None) -> CalibrateSpec | None:
    if read is None:
        return None
    return CalibrateSpec(read.data, path.parent, read.method, repr(read.percentile))


def _check(path: Path, key: str, table: dict[str, Any] | None) -> CheckSpec:
    if table is None:
        return CheckSpec(folder=path.parent)
    from .corpus_check import read_check

    return read_check(path, key, table)


def _profiles(path: Path, key: str, tables: list[ProfileTable]) -> tuple[OptimizationProfile, ...]:
    found: list[OptimizationProfile] = []
    for index, table in enumerate(tables):
        if not table.opt or not table.min.keys() == table.opt.keys() == table.max.keys():
            raise mistake(
                path, f"{key}.profiles[{index}]", "min, opt and max must name the same inputs"
            )
        found += [
            OptimizationProfile(
                name, tuple(table.min[name]), tuple(table.opt[name]), tuple(table.max[name]), index
            )
            for name in table.opt
        ]
    return tuple(found)
