"""What to do about an engine that is not fresh: the last line of `doit why`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..engine_job import EngineJob, UnknownEngine
from ..status import Condition, EngineStatus
from ..verdict import Fault


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What the remedy depends on besides the engine's own state.

    Attributes:
        restores: Whether the local store has the engine of now.
        following: Tasks that doit runs for it.
        missing: Inputs that cannot be read.
        makers: The tasks that make those of them that a task makes.
    """

    restores: bool
    following: Sequence[str]
    missing: Sequence[Path]
    makers: Sequence[str]


def remedy(status: EngineStatus, now: Situation) -> str | None:
    """What to do, as a command or in words; None where there is nothing to do."""
    job = status.job
    if status.fresh:
        return None
    elsewhere = status.condition is Condition.ELSEWHERE
    fault = status.verdict.fault if status.verdict else Fault.ABSENT
    # Without its inputs nobody knows whether an engine that is there is fresh.
    if fault is Fault.INPUT or (now.missing and not elsewhere):
        return _without_inputs(job, now)
    if fault is Fault.SIGNATURE and not now.restores:
        return _unsigned(job, elsewhere=elsewhere)
    if not elsewhere or status.on_farm:
        return f"doit {job.task}"
    if now.restores:
        return f"doit pull {job.task}" if job.skips else f"doit {job.task}"
    return _elsewhere(status)


def _without_inputs(job: EngineJob | UnknownEngine, now: Situation) -> str:
    if now.missing and len(now.makers) == len(now.missing):
        first = [task for task in dict.fromkeys(now.makers) if task not in now.following]
        return f"doit {' '.join([*first, job.task])}"
    return f"put the file there or correct the path in {job.corpus_path}; then: doit {job.task}"


def _unsigned(job: EngineJob | UnknownEngine, *, elsewhere: bool) -> str:
    if elsewhere:
        return f"doit sign {job.task}, if you believe it; or doit clean {job.task}"
    return f"doit sign {job.task}, if you believe it; or doit {job.task}, which builds it anew"


def _elsewhere(status: EngineStatus) -> str:
    job = status.job
    if status.left_out:
        return f'nothing: elsewhere = "skip" under [targets.{job.target}] leaves it out here'
    remote = job.store.remote if isinstance(job, EngineJob) else None
    if job.skips:
        share = "doit push there, then doit pull here" if remote else "copy it here"
        return (
            f"doit clean {job.task}, which removes what is there; "
            f"or build it on such a host and {share}"
        )
    share = "doit push there, then doit here" if remote else "share it through a store"
    if status.verdict is None or status.verdict.fault is Fault.ABSENT:
        return (
            f"build it on such a host and {share}; or write "
            f'elsewhere = "skip" under [targets.{job.target}] of {job.corpus_path}'
        )
    return (
        f"build it on such a host and {share}; or doit clean {job.task} and write "
        f'elsewhere = "skip" under [targets.{job.target}] of {job.corpus_path}'
    )
