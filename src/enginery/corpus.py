"""corpus.toml, parsed strictly: whatever is not understood is an error that says what to do.

What needs the model's graph is not looked at here, so that listing a corpus stays fast; it is
checked when a build starts. docs/corpus.md describes the file.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from .config import (
    BackboneSpec,
    CalibrateSpec,
    CheckSpec,
    OptimizationProfile,
    PrecisionMode,
)
from .corpus_tables import (
    BackboneTable,
    CalibrateTable,
    CorpusFile,
    CorpusTable,
    ProfileTable,
    TargetTable,
    mistake,
    nearest,
    read_table,
)
from .digest import read_regular
from .errors import CorpusError, IrregularFileError
from .filename import check_model_name, check_version, fold
from .hardware import Sm, canonical_sm

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same parser under its name before Python 3.11
    import tomli as tomllib

SCHEMA = 1

_LIMIT = 64 << 20

STATE = ".enginery"
"""Folder beside the corpus file: what is made on the way, and remembered digests of inputs."""

_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class TargetSpec(msgspec.Struct, frozen=True):
    """A target as the corpus names it.

    Attributes:
        trt: TensorRT version, None where the installed one is meant.
        precisions: What is built for it where a backbone does not say; None where the corpus says.
    """

    name: str
    runtime: str
    sm: Sm
    jetpack: str | None
    trt: str | None
    precisions: tuple[PrecisionMode, ...] | None = None


class CorpusBackbone(msgspec.Struct, frozen=True):
    """A backbone and what is to be built of it.

    Attributes:
        spec: The backbone.
        builds: Target to the precisions that are built for it.
        workspace_mb: Workspace memory pool in MiB.
        calibration_path: TensorRT calibration cache, or None.
        calibrate: How that cache is computed, or None where it is given.
        check: How lowered models are compared with the original.
        checked: Whether a plain `doit` makes that comparison.
        require_check: Whether an engine is fresh only with a check that passes.
    """

    spec: BackboneSpec
    builds: Mapping[str, tuple[PrecisionMode, ...]]
    workspace_mb: int
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


class Corpus(msgspec.Struct, frozen=True):
    """A corpus file, read.

    Attributes:
        path: The file, as it was given; its paths are relative to it.
        engines: Folder of the engines.
        targets: Targets by name.
        backbones: Backbones in the order of the file.
    """

    path: Path
    engines: Path
    targets: Mapping[str, TargetSpec]
    backbones: tuple[CorpusBackbone, ...]

    def error(self, key: str, fault: str) -> CorpusError:
        """An error about this file, in the one line that users see."""
        return mistake(self.path, key, fault)


def read_corpus(path: Path | str) -> Corpus:
    """Read and check a corpus file.

    Raises:
        CorpusError: The file is missing, is no TOML, or holds a mistake.
    """
    path = Path(path)
    tables = read_table(path, "", _parse(path), CorpusFile)
    if tables.schema != SCHEMA:
        raise mistake(
            path, "schema", f"version {tables.schema} is unknown; write schema = {SCHEMA}"
        )
    defaults = read_table(path, "corpus", tables.corpus, CorpusTable)
    targets = {name: _target(path, name, table) for name, table in tables.targets.items()}
    return Corpus(
        path=path,
        engines=_beside(path, "corpus.engines", defaults.engines),
        targets=targets,
        backbones=tuple(
            _backbone(path, name, table, defaults, targets)
            for name, table in tables.backbones.items()
        ),
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        data = read_regular(path, limit=_LIMIT, follow_symlinks=True)
        parsed: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise CorpusError(
            f"{path}: there is no such file; write one, or correct the path"
        ) from error
    except (OSError, IrregularFileError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); make it a UTF-8 text file") from error
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError is a ValueError; so is an integer of thousands of digits.
        raise CorpusError(f"{path}: is no TOML: {error}; correct that line") from error
    return parsed


def _target(path: Path, name: str, table: dict[str, Any]) -> TargetSpec:
    key = f"targets.{name}"
    if not _TARGET.fullmatch(name):
        raise mistake(
            path, key, "a target's name has only letters, digits, '.', '_', '-'; rename it"
        )
    read = read_table(path, key, table, TargetTable)
    try:
        sm = canonical_sm(read.sm)
    except ValueError as error:
        raise mistake(path, f"{key}.sm", str(error)) from error
    for what, version in (("jetpack", read.jetpack), ("trt", read.trt)):
        if version is not None:
            try:
                check_version(what, version)
            except ValueError as error:
                raise mistake(path, f"{key}.{what}", str(error)) from error
    if read.precision:
        _check_distinct(path, f"{key}.precision", read.precision)
    return TargetSpec(
        name,
        read.runtime,
        sm,
        read.jetpack,
        read.trt,
        tuple(read.precision) if read.precision else None,
    )


def _backbone(
    path: Path,
    name: str,
    table: dict[str, Any],
    defaults: CorpusTable,
    targets: Mapping[str, TargetSpec],
) -> CorpusBackbone:
    key = f"backbones.{name}"
    try:
        check_model_name(name)
    except ValueError as error:
        raise mistake(path, key, str(error)) from error
    read = read_table(path, key, table, BackboneTable)
    names = read.targets or defaults.targets
    if not names:
        raise mistake(path, f"{key}.targets", "there is none; name one, here or under [corpus]")
    _check_distinct(path, f"{key}.targets", names)
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
        workspace_mb=read.workspace_mb or defaults.workspace_mb,
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
    plugins = [
        str(_beside(path, f"{key}.builder.plugins", plugin)) for plugin in read.builder.plugins
    ]
    return BackboneSpec(
        model_name=name,
        onnx_path=_beside(path, f"{key}.onnx", read.onnx),
        expected_input_shape=tuple(read.expected_input_shape or ()),
        input_name=read.input_name,
        profiles=_profiles(path, key, read.profiles),
        builder=msgspec.structs.replace(read.builder, plugins=tuple(plugins)),
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
    _check_distinct(path, f"{key}.precision", found)
    return tuple(found)


def _calibration_path(path: Path, name: str, read: BackboneTable) -> Path | None:
    if read.calibration:
        return _beside(path, f"backbones.{name}.calibration", read.calibration)
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


def _check_distinct(path: Path, key: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise mistake(path, key, f"{str(value)!r} is there twice; remove one")
        seen.add(value)


def _beside(path: Path, key: str, relative: str) -> Path:
    if "\0" in relative:
        raise mistake(path, key, f"{relative!r} is no path; write one without the NUL character")
    # Normalised as text, so that a path is spelled as a user spells it in his own doit tasks.
    return Path(os.path.normpath(path.parent / relative))
