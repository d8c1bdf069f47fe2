"""Engines that this host cannot build: each fails with the reason, or is left out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase

import msgspec
from doit.exceptions import TaskFailed
from doit.task import Task

from ..engine_job import EngineJob, UnknownEngine
from ..inputs import InputDigests
from ..verdict import Fault, Verdict
from . import wire
from .uptodate import VerifiedUpToDate

_SHOWN = 4


class CannotBuild(msgspec.Struct, frozen=True):
    """The action of an engine whose hardware is not known here.

    Attributes:
        job: The engine.
        also: Engines after it that may fail likewise.
    """

    job: UnknownEngine
    also: tuple[EngineJob | UnknownEngine, ...]

    def __call__(self) -> TaskFailed | None:
        """Say why."""
        reason = f"it cannot be built here: {self.job.elsewhere}"
        return fail_or_leave_out(self.job, reason, self.also)


def fail_or_leave_out(
    job: EngineJob | UnknownEngine, reason: str, also: tuple[EngineJob | UnknownEngine, ...]
) -> TaskFailed | None:
    """A failure for doit, unless the target says that its engines are left out."""
    if job.skips:
        wire.tell("c10.engine.left.out", task=job.task, reason=reason)
        sys.stdout.write(f"{job.task} is left out: {reason}\n")
        return None
    # doit ends here unless it was told to go on, so this is where all are named.
    names = [] if _goes_on() else [one.task for one in also if not _is_fresh(one)]
    more = len(names) - _SHOWN
    rest = ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    named = f"; not built here either: {rest}" if names else ""
    return TaskFailed(
        f'{job.task}: {reason}; or write elsewhere = "skip" under [targets.{job.target}] of '
        f"{job.corpus_path}{named}"
    )


class LeftOut(VerifiedUpToDate):
    """Up to date whatever is there: the corpus leaves out what this host cannot build.

    Attributes:
        reason: Why it cannot be built on this host.
    """

    def __init__(self, job: EngineJob | UnknownEngine, engine: VerifiedUpToDate) -> None:
        super().__init__(engine.verdict)
        self.reason = job.elsewhere or ""

    def __call__(self, task: Task) -> bool:
        """Whether doit may skip the task: always."""
        super().__call__(task)
        return True

    def title(self, task: Task) -> str:
        """The line that doit shows for it."""
        verdict = self.verdict()
        if verdict.fresh:
            return str(task.name)
        absent = verdict.fault is Fault.ABSENT
        there = "" if absent else f"what is there is not fresh, {verdict.reason}; "
        return f"{task.name} (left out: {there}{self.reason})"


def unknown_task(job: UnknownEngine, also: tuple[EngineJob | UnknownEngine, ...]) -> Task:
    """The task of an engine whose hardware is not known here, so that it has no target."""
    absent = VerifiedUpToDate(lambda: Verdict(Fault.ABSENT, job.elsewhere))
    checker = LeftOut(job, absent) if job.skips else absent
    return Task(
        job.task,
        [CannotBuild(job, also)],
        subtask_of=job.name if job.variant else None,
        doc=engine_doc(job),
        uptodate=[checker],
        title=checker.title if isinstance(checker, LeftOut) else None,
        verbosity=2,
    )


def engine_doc(job: EngineJob | UnknownEngine) -> str:
    """An engine in one line."""
    here = ""
    if job.elsewhere:
        here = f"; left out here: {job.elsewhere}" if job.skips else "; cannot be built here"
        if isinstance(job, EngineJob) and job.farm:
            here = "; built on the farm"
    if isinstance(job, UnknownEngine):
        return f"{job.runtime} engine in {job.precision} for the target {job.target}{here}"
    return f"{job.runtime} engine in {job.request.precision} for {job.request.host}{here}"


def wait_for(failing: Iterable[Task], others: Iterable[Task]) -> None:
    """Let tasks that fail run after those of this run that may not.

    A failure ends doit, with -n in the midst of the others. What this host can build comes first,
    and a setup task is the one way in which doit has a task wait for another without needing it.
    """
    here, there = list(others), list(failing)
    named = [word for word in sys.argv[1:] if any(_names(word, task) for task in (*here, *there))]
    for task in there:
        task.setup_tasks += [
            one.name
            for one in here
            if one.name not in task.setup_tasks
            and (not named or any(_names(word, one) for word in named))
        ]


def _names(word: str, task: Task) -> bool:
    """Whether a word of the command line means a task: by its name, a pattern or its group."""
    return fnmatchcase(task.name, word) or word == task.subtask_of


def _is_fresh(job: EngineJob | UnknownEngine) -> bool:
    if isinstance(job, UnknownEngine) or not os.path.lexists(job.plan.path):
        return False
    return job.plan.judge(InputDigests()).fresh


def _goes_on() -> bool:
    return any(argument in ("-c", "--continue") for argument in sys.argv[1:])
