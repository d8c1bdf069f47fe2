"""How long builds took, by the hardware and the host that did them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from .. import provenance
from ..engine_job import EngineJob
from ..errors import EngineryError
from ..filename import EngineFilenameSchema
from ..hardware import HostCapabilities
from ..history import PastBuild, estimate
from ..provenance import Statement
from ..runtimes import load_runtime

_Hardware = tuple[Any, ...]


class Past(msgspec.Struct, frozen=True):
    """A build, and where it was done.

    Attributes:
        build: The build.
        hardware: What it was for: compute capabilities, JetPack and CPU.
        host: The worker's host, as its provenance names it; None where nobody wrote it down.
    """

    build: PastBuild
    hardware: _Hardware
    host: str | None = None


def past_of(statement: Statement, model: str) -> Past | None:
    """The build that a provenance tells of; None where it does not say what it was."""
    recipe = statement.recipe
    precision, runtime = recipe.build.get("precision"), recipe.toolchain.get("runtime")
    if not (isinstance(precision, str) and runtime and statement.build_s):
        return None
    target = recipe.target
    hardware = (tuple(target.get("sm") or ()), target.get("jetpack"), target.get("cpu"))
    past = PastBuild(model, runtime, precision, statement.build_s)
    return Past(past, hardware, statement.host)


def past_in(folder: Path, known: Mapping[Path, Statement]) -> Iterator[Past]:
    """The builds whose engines lie in a folder; what cannot be read is passed over.

    Args:
        folder: The folder.
        known: Provenances that were read already, by the path of the engine.
    """
    for path in sorted(folder.glob(f"*.engine{provenance.SUFFIX}")):
        engine = path.with_name(path.name.removesuffix(provenance.SUFFIX))
        with suppress(EngineryError, ValueError):
            statement = known.get(engine) or provenance.read(engine)
            past = past_of(statement, EngineFilenameSchema.parse(engine.name).model_name)
            if past is not None:
                yield past


class Paces:
    """How long engines are going to take, by builds of before.

    A build counts for another by the same runtime on the same kind of hardware, or on any where
    the runtime builds anywhere. Where a host has such builds of its own, they alone count for it.
    """

    def __init__(self, past: Iterable[Past], sizes: Callable[[EngineJob], Mapping[str, int]]):
        """What is known.

        Args:
            past: Builds that came before.
            sizes: Backbone to the bytes of its ONNX, of the corpus of an engine; called only where
                an engine's backbone was never built on such hardware.
        """
        self._sizes = sizes
        self._groups: dict[tuple[object, ...], dict[str, list[PastBuild]]] = {}
        self.hosts: set[str] = set()
        seconds = []
        for one in past:
            seconds.append(one.build.seconds)
            if one.host is not None:
                self.hosts.add(one.host)
            for hardware in (one.hardware, None):
                for host in {one.host, None}:
                    group = self._groups.setdefault((one.build.runtime, hardware, host), {})
                    group.setdefault(one.build.model, []).append(one.build)
        self.median = statistics.median(seconds) if seconds else None
        """The median of all builds; None where there is none."""

    def expected(self, job: EngineJob, host: str | None = None) -> float | None:
        """For how many seconds an engine is going to be built; None where nothing compares.

        Args:
            job: The engine.
            host: The host that is going to build it; None where it has no name.
        """
        anywhere = load_runtime(job.runtime).builds_anywhere
        hardware = None if anywhere else _hardware(job.request.host)
        for who in dict.fromkeys((host, None)):
            group = self._groups.get((job.runtime, hardware, who))
            found = None if group is None else self._estimate(job, group)
            if found is not None:
                return found
        return None

    def _estimate(self, job: EngineJob, group: Mapping[str, list[PastBuild]]) -> float | None:
        own, precision = group.get(job.name), job.request.precision.value
        if own:
            return estimate(job.name, job.runtime, precision, own, {})
        others = [build for builds in group.values() for build in builds]
        return estimate(job.name, job.runtime, precision, others, self._sizes(job))


def _hardware(host: HostCapabilities) -> _Hardware:
    return (host.capabilities, host.jetpack, host.cpu)
