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

from .config import BackboneSpec, OptimizationProfile, PrecisionMode
from .corpus_tables import (
    BackboneTable,
    CorpusFile,
    CorpusTable,
    ProfileTable,
    TargetTable,
    mistake,
    nearest,
    read_table,
)
from .errors import CorpusError
from .filename import check_model_name, check_version
from .hardware import Sm, canonical_sm

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same parser under its name before Python 3.11
    import tomli as tomllib

SCHEMA = 1

_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class TargetSpec(msgspec.Struct, frozen=True):
    """A target as the corpus names it; `trt` is None where the installed version is meant."""

    name: str
    runtime: str
    sm: Sm
    jetpack: str | None
    trt: str | None


class CorpusBackbone(msgspec.Struct, frozen=True):
    """A backbone and what is to be built of it."""

    spec: BackboneSpec
    precisions: tuple[PrecisionMode, ...]
    targets: tuple[str, ...]
    workspace_mb: int
    calibration_path: Path | None


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
        parsed: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CorpusError(
            f"{path}: there is no such file; write one, or correct the path"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
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
    return TargetSpec(name, read.runtime, sm, read.jetpack, read.trt)


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
    precisions = read.precision or defaults.precision or [PrecisionMode.FP32]
    _check_distinct(path, f"{key}.precision", precisions)
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
    return CorpusBackbone(
        spec=BackboneSpec(
            model_name=name,
            onnx_path=_beside(path, f"{key}.onnx", read.onnx),
            expected_input_shape=tuple(read.expected_input_shape or ()),
            input_name=read.input_name,
            profiles=_profiles(path, key, read.profiles),
            builder=read.builder,
        ),
        precisions=tuple(precisions),
        targets=tuple(names),
        workspace_mb=read.workspace_mb or defaults.workspace_mb,
        calibration_path=(
            _beside(path, f"{key}.calibration", read.calibration) if read.calibration else None
        ),
    )


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
