"""Targets of corpus.toml: hardware and runtime that engines are built for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from .config import BuilderOptions, PrecisionMode
from .corpus_tables import beside, check_distinct, mistake, read_table
from .corpus_types import TARGET_NAME, TargetTable
from .filename import check_version
from .hardware import Sm, canonical_sm


class TargetSpec(msgspec.Struct, frozen=True):
    """A target as the corpus names it.

    Attributes:
        sm: Compute capabilities, None where those of this host are meant, or a CPU.
        trt: The runtime's version, None where the installed one is meant.
        precisions: What is built for it where a backbone does not say; None where the corpus says.
        workspace_mb: Workspace memory pool in MiB; None where the corpus says.
        elsewhere: What becomes of its engines on a host that cannot build them.
        builder: Builder options that it sets for every backbone that does not set them.
    """

    name: str
    runtime: str
    sm: Sm | None
    jetpack: str | None
    trt: str | None
    precisions: tuple[PrecisionMode, ...] | None = None
    workspace_mb: int | None = None
    elsewhere: Literal["fail", "skip"] = "fail"
    builder: Mapping[str, Any] = {}


def read_target(path: Path, name: str, table: dict[str, Any]) -> TargetSpec:
    """A target as its table has it.

    Raises:
        CorpusError: It holds a mistake.
    """
    key = f"targets.{name}"
    if not re.fullmatch(TARGET_NAME, name):
        raise mistake(
            path, key, "a target's name has only letters, digits, '.', '_', '-'; rename it"
        )
    read = read_table(path, key, table, TargetTable)
    try:
        sm = None if read.sm is None else canonical_sm(read.sm)
    except ValueError as error:
        raise mistake(path, f"{key}.sm", str(error)) from error
    for what, version in (("jetpack", read.jetpack), ("trt", read.trt)):
        if version is not None:
            try:
                check_version(what, version)
            except ValueError as error:
                raise mistake(path, f"{key}.{what}", str(error)) from error
    if read.precision:
        check_distinct(path, f"{key}.precision", read.precision)
    read_builder(path, f"{key}.builder", read.builder)
    return TargetSpec(
        name=name,
        runtime=read.runtime,
        sm=sm,
        jetpack=read.jetpack,
        trt=read.trt,
        precisions=tuple(read.precision) if read.precision else None,
        workspace_mb=read.workspace_mb,
        elsewhere=read.elsewhere,
        builder=read.builder,
    )


def read_builder(
    path: Path, key: str, own: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> BuilderOptions:
    """Builder options of a table, and of another for what it leaves alone.

    Raises:
        CorpusError: It holds a mistake.
    """
    merged = {**(defaults or {}), **own}
    pools = [table["memory_pools"] for table in (defaults or {}, own) if "memory_pools" in table]
    read = read_table(path, key, dict(own), BuilderOptions)
    if defaults:
        if len(pools) > 1:
            merged["memory_pools"] = {**pools[0], **pools[1]}
        read = msgspec.convert(merged, BuilderOptions)
    plugins = (str(beside(path, f"{key}.plugins", plugin)) for plugin in read.plugins)
    return msgspec.structs.replace(read, plugins=tuple(plugins))
