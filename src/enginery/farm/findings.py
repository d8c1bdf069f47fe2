"""What is known of engines before anything is built: their state, and whether a store has them.

Reads, and changes nothing. The remote store is asked only where that is wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path

from .. import provenance
from ..engine_job import EngineJob, UnknownEngine
from ..errors import CalibrationCacheError, EngineryError, RemoteError, SignatureError
from ..hardware import HostCapabilities
from ..inputs import InputDigests
from ..runtimes import load_runtime
from ..status import Condition, EngineStatus, survey
from ..store.engines import EngineStore
from ..store.manifest import Stored
from ..store_spec import StoreSpec
from ..trust import Origin, check
from ..verdict import Fault, Verdict
from .planning import Wanted
from .tags import resource_of

_ABSENT = Verdict(Fault.ABSENT, "it is not there")


class Findings:
    """What is found out about the engines of one corpus."""

    def __init__(
        self,
        inputs: InputDigests,
        *,
        warn: Callable[[str], None],
        made: Callable[[Path], bool],
        remote: bool,
        unserved: Callable[[], str | None],
    ) -> None:
        """How to find out.

        Args:
            inputs: Digests of inputs that are known already.
            warn: Called with what a store that is of no use costs a line.
            made: Whether a task makes a file.
            remote: Whether the remote store is asked, too.
            unserved: Says why there is no worker at all, or None; called where one is needed.
        """
        self._inputs, self._warn, self._made = inputs, warn, made
        self._remote, self._unserved = remote, unserved
        self._stores: dict[StoreSpec, EngineStore] = {}
        self._tags: dict[tuple[str, HostCapabilities], str] = {}
        self._lowered: dict[Path, tuple[float, float]] = {}

    def of(self, jobs: Iterable[EngineJob | UnknownEngine]) -> Iterator[Wanted]:
        """What is known of engines, in the order given; each that is there is hashed.

        Raises:
            EngineryError: A key of the corpus's policy cannot be used.
        """
        chosen = list(jobs)
        # Those that are not there are no news, and who names them looks through the whole folder.
        there = [
            job
            for job in chosen
            if isinstance(job, UnknownEngine) or os.path.lexists(job.plan.path)
        ]
        states = {one.job.task: one for one in survey(there, self._inputs)}
        for job in chosen:
            status = states.get(job.task) or _absent(job)
            yield self._wanted(status, job)

    def _wanted(self, status: EngineStatus, job: EngineJob | UnknownEngine) -> Wanted:
        if status.fresh or Wanted(status).left_out:
            return Wanted(status)
        if isinstance(job, UnknownEngine):
            return Wanted(status, fault=job.elsewhere)
        store, fault = self._kept(job)
        if store is not None or fault is not None:
            return Wanted(status, store=store, fault=fault)
        if job.elsewhere and job.plan.spec.builder.plugins:
            why = f"{job.elsewhere}; it needs plugin libraries, which no worker takes"
            return Wanted(status, fault=why)
        lower_here_s, lower_s = self._lowering(job)
        return Wanted(
            status,
            tag=self._tag(job) if job.elsewhere else None,
            unserved=self._unserved() if job.elsewhere else None,
            lower_here_s=lower_here_s,
            lower_s=lower_s,
        )

    def _kept(self, job: EngineJob) -> tuple[str | None, str | None]:
        """The store that has an engine, and why nobody can build it."""
        try:
            fingerprint = job.plan.recipe(self._inputs).fingerprint
        except EngineryError as error:
            return None, None if self._comes(job, error) else str(error)
        return self._store_of(job, fingerprint), None

    def _comes(self, job: EngineJob, error: EngineryError) -> bool:
        """Whether a task makes what an input lacks."""
        calibration = job.request.calibration_path
        if isinstance(error, CalibrationCacheError):
            return calibration is not None and self._made(calibration)
        onnx = job.plan.spec.onnx_path
        return not onnx.exists() and self._made(onnx)

    def _store_of(self, job: EngineJob, fingerprint: str) -> str | None:
        store = self._stores.setdefault(job.store, EngineStore(job.store, self._warn))
        if store.is_to_be_built(fingerprint):
            return None
        local = store.local
        if local is not None:
            stored = local.find(fingerprint)
            if stored is not None and self._believed(job, stored, "local"):
                return f"the local store {job.store.path}"
        return self._remote_of(job, store, fingerprint) if self._remote else None

    def _remote_of(self, job: EngineJob, store: EngineStore, fingerprint: str) -> str | None:
        try:
            remote = store.remote
            if remote is None or remote.given_up:
                return None
            stored = remote.find(fingerprint)
        except RemoteError as error:
            self._warn(f"{job.task}: {error}")
            return None
        if stored is None or not self._believed(job, stored, "remote"):
            return None
        return f"the remote store {job.store.remote}"

    def _believed(self, job: EngineJob, stored: Stored, origin: Origin) -> bool:
        try:
            check(
                job.store.policy,
                document=stored.document,
                envelope=stored.envelope,
                engine_sha256=stored.engine.sha256_hex,
                engine_name=stored.name,
                origin=origin,
            )
        except SignatureError as error:
            self._warn(f"{job.task} is not taken from a store: {error}")
            return False
        return True

    def _tag(self, job: EngineJob) -> str:
        key = (job.runtime, job.request.host)
        if key not in self._tags:
            self._tags[key] = resource_of(load_runtime(job.runtime), job.request.host)
        return self._tags[key]

    def _lowering(self, job: EngineJob) -> tuple[float, float]:
        """For how many seconds its model is lowered here before it is built, and was before.

        A worker lowers by itself, whatever lies here.
        """
        if not job.plan.is_lowered:
            return 0.0, 0.0
        step = job.plan.lowering()
        if step.path not in self._lowered:
            try:
                took = provenance.read(step.path).build_s
            except EngineryError:
                took = 0.0
            fresh = step.judge(self._inputs).fresh
            self._lowered[step.path] = (0.0 if fresh else took, took)
        return self._lowered[step.path]


def _absent(job: EngineJob | UnknownEngine) -> EngineStatus:
    condition, reason = Condition.MISSING, _ABSENT.reason
    if job.elsewhere:
        condition, reason = Condition.ELSEWHERE, f"{reason}; {job.elsewhere}"
    return EngineStatus(job, condition, reason, _ABSENT)


class Made:
    """The files that tasks make; looked up where an input is not there, if at all."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = files

    def __call__(self, path: Path) -> bool:
        """Whether a task makes a file."""
        return os.path.realpath(path) in self._real

    @cached_property
    def _real(self) -> frozenset[str]:
        return frozenset(map(os.path.realpath, self._files))
