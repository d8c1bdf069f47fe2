"""`fleet.toml`: the kinds of devices that engines are shipped to, and which engine serves which.

docs/plan.md describes the file. It is parsed like corpus.toml: whatever is not understood is an
error that says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..corpus_tables import check_distinct, mistake, read_table, read_toml
from ..engine_job import EngineJob
from ..errors import RuntimeUnavailableError
from ..filename import check_version
from ..hardware import HostCapabilities, Sm, canonical_sm
from ..host import Gpu, Host
from ..runtimes import load_runtime
from ..runtimes.protocol import Runtime
from ..runtimes.tensorrt_versions import agrees

SCHEMA = 1


_Text = Annotated[str, Meta(min_length=1)]
_Count = Annotated[int, Meta(ge=1, lt=1 << 31)]


class KindTable(msgspec.Struct, forbid_unknown_fields=True):
    """`[devices.<kind>]`: devices that the same engines run on."""

    runtime: _Text
    trt: _Text
    sm: int | None = None
    jetpack: _Text | None = None
    cpu: _Text | None = None
    count: _Count | None = None
    names: list[_Text] = []


class FleetFile(msgspec.Struct, forbid_unknown_fields=True):
    """The file as a whole; the tables in it are read one by one, so that a fault has its key."""

    schema: int
    devices: dict[str, Any] = {}


class DeviceKind(msgspec.Struct, frozen=True, kw_only=True):
    """Devices that the same engines run on.

    Attributes:
        name: What the fleet calls them.
        runtime: Name of the runtime that is on them.
        trt: Its version.
        sm: Compute capability of their GPU; None where engines run on the CPU.
        jetpack: Their JetPack version; None off Jetson.
        cpu: Their CPU's level, where engines run on it.
        count: How many there are.
        names: Their names, as far as the file has them.
    """

    name: str
    runtime: str
    trt: str
    sm: int | None = None
    jetpack: str | None = None
    cpu: str | None = None
    count: int = 1
    names: tuple[str, ...] = ()

    def host(self) -> Host:
        """A device of this kind, as a host."""
        gpus = () if self.sm is None else (Gpu(index=0, name=self.name, sm=self.sm),)
        return Host(
            source=self.name, cpu=self.cpu or "", gpus=gpus, jetpack=self.jetpack, trt=self.trt
        )

    def __str__(self) -> str:
        """Hardware, runtime and version in words."""
        sm: Sm = () if self.sm is None else self.sm
        hardware = HostCapabilities(sm=sm, jetpack=self.jetpack, trt=self.trt, cpu=self.cpu)
        return f"{self.runtime} for {hardware}"


def read_fleet(path: Path | str) -> tuple[DeviceKind, ...]:
    """The kinds of devices of a fleet file, in its order.

    Raises:
        CorpusError: The file is missing, is no TOML, or holds a mistake.
    """
    path = Path(path)
    file = read_table(path, "", read_toml(path), FleetFile)
    if file.schema != SCHEMA:
        raise mistake(path, "schema", f"version {file.schema} is unknown; write schema = {SCHEMA}")
    if not file.devices:
        raise mistake(path, "devices", "there is no kind of device; add one, as [devices.orin]")
    kinds = tuple(_kind(path, name, table) for name, table in file.devices.items())
    check_distinct(path, "devices", (name for kind in kinds for name in kind.names))
    return kinds


class Serving:
    """Which engine serves which kind of device; each pair of hardware is looked at once."""

    def __init__(self, kinds: Iterable[DeviceKind]) -> None:
        self.kinds = tuple(kinds)
        self._hosts = {kind.name: kind.host() for kind in self.kinds}
        self._served: dict[tuple[str, HostCapabilities], frozenset[str]] = {}

    def of(self, runtime: str, target: HostCapabilities) -> frozenset[str]:
        """Names of the kinds of devices that an engine of a runtime for a target runs on."""
        key = (runtime, target)
        if key not in self._served:
            loaded = load_runtime(runtime)
            self._served[key] = frozenset(
                kind.name
                for kind in self.kinds
                if kind.runtime == runtime and self._serves(loaded, target, kind)
            )
        return self._served[key]

    def engines(self, jobs: Iterable[EngineJob]) -> dict[str, dict[str, list[EngineJob]]]:
        """Kind of device to backbone to the engines of it that run there, in the order given."""
        found: dict[str, dict[str, list[EngineJob]]] = {kind.name: {} for kind in self.kinds}
        for job in jobs:
            for name in self.of(job.runtime, job.request.host):
                found[name].setdefault(job.name, []).append(job)
        return found

    def _serves(self, runtime: Runtime, target: HostCapabilities, kind: DeviceKind) -> bool:
        # What a runtime says of a host need not look at versions, and an engine is tied to one.
        same = agrees(kind.trt, target.trt) and kind.jetpack == target.jetpack
        return same and runtime.runs_on(target, self._hosts[kind.name])


def _kind(path: Path, name: str, table: Any) -> DeviceKind:
    key = f"devices.{name}"
    sm = table.get("sm", 0) if isinstance(table, dict) else 0
    if type(sm) is not int:
        raise mistake(path, f"{key}.sm", f"{sm!r} is no compute capability of a GPU; write sm = 87")
    read = read_table(path, key, table, KindTable)
    runtime = _runtime(path, f"{key}.runtime", read.runtime)
    for what, version in (("jetpack", read.jetpack), ("trt", read.trt)):
        if version is not None:
            try:
                check_version(what, version)
            except ValueError as error:
                raise mistake(path, f"{key}.{what}", str(error)) from error
    if (read.sm is None) == (read.cpu is None):
        raise mistake(
            path, key, "an engine runs on a GPU or on a CPU; write one of sm = 87 and "
            'cpu = "x86-64-v3"'
        )  # fmt: skip
    if read.cpu is not None and not runtime.cpu_targets:
        raise mistake(path, f"{key}.cpu", f"{read.runtime} has no engine for a CPU; write sm = 87")
    if read.sm is not None:
        try:
            canonical_sm(read.sm)
        except ValueError as error:
            raise mistake(path, f"{key}.sm", str(error)) from error
    return DeviceKind(
        name=name,
        runtime=read.runtime,
        trt=read.trt,
        sm=read.sm,
        jetpack=read.jetpack,
        cpu=read.cpu,
        count=_count(path, key, read),
        names=tuple(read.names),
    )


def _count(path: Path, key: str, read: KindTable) -> int:
    if read.count is not None and read.names and read.count != len(read.names):
        raise mistake(
            path,
            f"{key}.count",
            f"{read.count} is not how many names there are, {len(read.names)}; leave it out",
        )
    return read.count or len(read.names) or 1


def _runtime(path: Path, key: str, name: str) -> Runtime:
    try:
        return load_runtime(name)
    except RuntimeUnavailableError as error:
        raise mistake(path, key, str(error)) from error
