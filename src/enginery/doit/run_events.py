"""The events of a run: which of those that are told are written, and those of doit's tasks."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any, Final

from doit.task import Task

from .. import provenance
from ..corpus_backbones import STATE
from ..engine_job import EngineJob, UnknownEngine
from ..errors import EngineryError
from ..version import __version__
from .event_log import EventLog
from .this_run import ENDED, EVENT_FILES, UNHEARD, corpora, shared
from .wire import Event, event

__all__ = ["event"]

HIT: Final = "c10.engine.cache.hit"
MISS: Final = "c10.engine.cache.miss"
RESTORED: Final = "c10.engine.store.restored"
PROGRESS: Final = "c10.engine.build.progress"
FINISH: Final = "c10.engine.build.finish"
LEFT_OUT: Final = "c10.engine.left.out"
NOTE: Final = "c10.task.note"
SUMMARY: Final = "c10.engine.compile.summary"

OUTCOMES: Final = {HIT: "reused", RESTORED: "restored", FINISH: "built", LEFT_OUT: "skipped"}
"""Event to the outcome of the engine it is about."""

WRITTEN: Final = frozenset(
    {
        HIT,
        MISS,
        RESTORED,
        PROGRESS,
        FINISH,
        "c10.engine.farm.built",
        "c10.engine.sidecar.mismatch",
        "c10.engine.inputs.warning",
        "c10.engine.runtime.warning",
        "c10.engine.compile.error",
    }
)
"""What is written of all that is told while tasks run; the one summary is that of the run."""


def jobs() -> dict[str, EngineJob | UnknownEngine]:
    """The engines of this run, by task."""
    made: dict[str, EngineJob | UnknownEngine] = {}
    for _, found in corpora():
        made.update((job.task, job) for job in found.engines)
        made.update((job.task, job) for job in found.unknown)
    return made


def count_corpora() -> int:
    """How many corpora were read so far: a delayed task creator reads its own during the run."""
    return len(corpora())


def open_log() -> EventLog:
    """The log of this run, which writes to the file of `--json` if there is one."""
    files: list[FileIO] = shared(EVENT_FILES, [])
    return EventLog(files[0] if files else None)


def records() -> list[Path]:
    """Where the last run is recorded, for a time when a task may have changed the folder."""
    paths = (corpus.path.absolute().parent / STATE / "last-run.jsonl" for corpus, _ in corpora())
    return list(dict.fromkeys(paths))


def are_heard() -> bool:
    """Whether the actions run where they can tell what they do."""
    unheard: list[bool] = shared(UNHEARD, [])
    return not unheard


def mark_end() -> None:
    """The run's end was told, in lines of its own."""
    ended: list[bool] = shared(ENDED, [])
    ended.append(True)


def start() -> Event:
    """The run begins."""
    return event("c10.run.start", version=__version__, arguments=sys.argv[1:])


def hit(job: EngineJob | UnknownEngine) -> Event:
    """A fresh engine is reused."""
    path = str(job.plan.path) if isinstance(job, EngineJob) else ""
    return event(HIT, task=job.task, model=job.name, engine_path=path)


def skip(task: str, fresh: bool, reason: str | None) -> Event:
    """A task is not run."""
    more = {"reason": reason} if reason else {}
    return event("c10.task.skip", task=task, outcome="fresh" if fresh else "skipped", **more)


def summary(figures: dict[str, Any]) -> Event:
    """What the run came to."""
    return event(SUMMARY, **figures)


def verdict_of(task: Task) -> tuple[bool, str | None, float]:
    """Whether an engine that is not run is fresh, why it is not, and how long it took once."""
    from .uptodate import VerifiedUpToDate

    for checker, *_ in task.uptodate:
        if isinstance(checker, VerifiedUpToDate):
            verdict = checker.verdict()
            seconds = verdict.statement.build_s if verdict.statement else 0.0
            reason = getattr(checker, "reason", verdict.reason)
            return verdict.fresh, None if verdict.fresh else reason, seconds
    return True, None, 0.0


def saved(job: EngineJob | UnknownEngine) -> float:
    """How long an engine that is there took once, as far as its provenance says."""
    with suppress(EngineryError):
        if isinstance(job, EngineJob):
            return provenance.read(job.plan.path).build_s
    return 0.0


def outcome_of(job: EngineJob | UnknownEngine, task: Task, began: datetime) -> str:
    """What became of an engine whose task has ended well, where the task could not tell."""
    if not isinstance(job, EngineJob):
        return "skipped"
    with suppress(EngineryError):
        if provenance.read(job.plan.path).built_on >= began:
            return "built"
    fresh, *_ = verdict_of(task)
    return "reused" if fresh else "restored"


def expected_s(job: EngineJob | UnknownEngine) -> float | None:
    """How long a build is going to take; None where nothing compares."""
    from .estimates import expected_s

    return expected_s(job) if isinstance(job, EngineJob) else None
