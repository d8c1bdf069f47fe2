"""The state of a corpus: every engine with its verdict and what is known of the file that is there.

It is what `doit corpus`, `doit why`, `doit report` and `doit graph` show. Nothing is built, nothing
is changed, and nothing that lies on the disk raises.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import Enum

import msgspec

from . import provenance
from .config import PrecisionMode
from .engine_job import EngineJob, UnknownEngine
from .errors import EngineryError
from .hash_ahead import HashAhead
from .inputs import InputDigests
from .provenance import Statement
from .signing import envelope_path
from .verdict import Fault, Verdict


class Condition(str, Enum):
    """What an engine of a corpus is on this host."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"
    DAMAGED = "damaged"
    UNSIGNED = "unsigned"
    ELSEWHERE = "elsewhere"

    def __str__(self) -> str:
        return self.value


class Signature(str, Enum):
    """What is known of an engine's signature."""

    NONE = "none"
    UNCHECKED = "unchecked"
    VALID = "valid"
    INVALID = "invalid"

    def __str__(self) -> str:
        return self.value


class EngineStatus(msgspec.Struct, frozen=True):
    """One engine of a corpus as it is now.

    Attributes:
        job: The engine.
        condition: What it is; `ELSEWHERE` is not fresh and cannot be built on this host.
        reason: Why it is not fresh, and then why it cannot be built here; "fresh" where it is.
        verdict: What the checker found; None where the hardware is not known, so that there is
            no file to look at.
        size: Bytes of the file that is there, whether it is believed or not; None where there is
            none, or what is there is no file.
        statement: The provenance that is there, as far as it can be read; believed where the
            engine is fresh or unsigned.
        signature: What is known of its signature; keys are those of the corpus's policy.
    """

    job: EngineJob | UnknownEngine
    condition: Condition
    reason: str
    verdict: Verdict | None = None
    size: int | None = None
    statement: Statement | None = None
    signature: Signature = Signature.NONE

    @property
    def fresh(self) -> bool:
        """Whether it is fresh."""
        return self.condition is Condition.FRESH

    @property
    def left_out(self) -> bool:
        """Whether it is not there and the corpus leaves it out on this host, without a farm."""
        absent = self.verdict is None or self.verdict.fault is Fault.ABSENT
        skips = self.job.skips and bool(self.job.elsewhere) and not self.on_farm
        return absent and skips

    @property
    def on_farm(self) -> bool:
        """Whether a farm is asked for it where it is to be built."""
        return isinstance(self.job, EngineJob) and bool(self.job.elsewhere and self.job.farm)

    @property
    def precision(self) -> PrecisionMode:
        """Its precision."""
        job = self.job
        return job.precision if isinstance(job, UnknownEngine) else job.request.precision

    @property
    def of_file(self) -> Statement | None:
        """The provenance where there is a file that it can be about."""
        return None if self.size is None else self.statement

    @property
    def built_on(self) -> datetime | None:
        """When the file that is there was finished."""
        return self.of_file.built_on if self.of_file else None

    @property
    def build_s(self) -> float | None:
        """For how many seconds the file that is there was built."""
        return self.of_file.build_s if self.of_file else None


_CONDITIONS = {
    Fault.NONE: Condition.FRESH,
    Fault.ABSENT: Condition.MISSING,
    Fault.SIDECAR: Condition.DAMAGED,
    Fault.PROVENANCE: Condition.DAMAGED,
    Fault.RECIPE: Condition.STALE,
    Fault.INPUT: Condition.STALE,
    Fault.CHECK: Condition.STALE,
    Fault.SIGNATURE: Condition.UNSIGNED,
}

_NOT_HASHED = (Fault.SIDECAR, Fault.PROVENANCE, Fault.INPUT)
"""Faults with which nobody knows whether the engine's bytes are those that were signed."""


def survey(
    jobs: Iterable[EngineJob | UnknownEngine], inputs: InputDigests | None = None
) -> Iterator[EngineStatus]:
    """The state of engines, in the order given; each file is hashed, large ones ahead in threads.

    Args:
        jobs: The engines.
        inputs: Digests of inputs that are known already.

    Raises:
        EngineryError: A key of the corpus's policy cannot be used.
    """
    found = list(jobs)
    known = inputs or InputDigests()
    ahead = HashAhead()
    ahead.expect(job.plan.path for job in found if isinstance(job, EngineJob))
    for job in found:
        if isinstance(job, UnknownEngine):
            yield EngineStatus(job, Condition.ELSEWHERE, job.elsewhere)
        else:
            yield _status(job, job.judge(known, ahead.digest))


def _status(job: EngineJob, verdict: Verdict) -> EngineStatus:
    condition, reason = _CONDITIONS[verdict.fault], verdict.reason
    if job.elsewhere and condition is not Condition.FRESH:
        condition, reason = Condition.ELSEWHERE, f"{reason}; {job.elsewhere}"
    statement = verdict.statement or _readable(job)
    return EngineStatus(
        job=job,
        condition=condition,
        reason=reason,
        verdict=verdict,
        size=_size(job),
        statement=statement,
        signature=_signature(job, verdict.fault, statement),
    )


def _size(job: EngineJob) -> int | None:
    try:
        info = os.lstat(job.plan.path)
    except OSError:
        return None
    return info.st_size if stat.S_ISREG(info.st_mode) else None


def _readable(job: EngineJob) -> Statement | None:
    try:
        return provenance.read(job.plan.path)
    except EngineryError:
        return None


def _signature(job: EngineJob, fault: Fault, statement: Statement | None) -> Signature:
    if fault is Fault.ABSENT or not os.path.lexists(envelope_path(job.plan.path)):
        return Signature.NONE
    policy = job.store.policy
    if fault in _NOT_HASHED or statement is None or not policy.keys:
        return Signature.UNCHECKED
    from .errors import SignatureError
    from .trust import Policy, check_beside

    try:
        strict = Policy(keys=policy.keys, require="all")
        check_beside(strict, job.plan.path, statement.sha256_hex, origin="local")
    except SignatureError:
        return Signature.INVALID
    return Signature.VALID
