"""What doit would run next: an engine's task after the steps before it that are not fresh."""

from __future__ import annotations

from collections.abc import Iterator

from doit.control import TaskControl
from doit.task import Task

from ..step import Step
from ..verdict import Verdict
from .actions import Calibrate, CheckModel, LowerModel, calibration
from .uptodate import VerifiedUpToDate


class WhatRuns:
    """The tasks of a dodo.py with all that doit makes of their dependencies."""

    def __init__(self, tasks: list[Task]) -> None:
        self._tasks: dict[str, Task] = TaskControl(tasks).tasks

    def before(self, name: str) -> list[str]:
        """The task and, before it, whatever of ours it waits for that is not fresh."""
        found: dict[str, None] = {}
        self._walk(name, found, {name})
        return [*found, name]

    def used_by(self, name: str) -> Iterator[str]:
        """Tasks of the dodo.py that are not ours and use what a task makes."""
        task = self._tasks[name]
        names = {name, task.subtask_of}
        for other in self._tasks.values():
            ours = self.verdict(other.name) is not None
            if other.actions and not ours and names & {*other.task_dep, *other.setup_tasks}:
                yield other.name

    def verdict(self, name: str) -> Verdict | None:
        """What the checker of one of our tasks says; None for a task that is not ours."""
        for checker, *_ in self._tasks[name].uptodate if name in self._tasks else ():
            if isinstance(checker, VerifiedUpToDate):
                return checker.verdict()
        return None

    def step(self, name: str) -> Step | None:
        """The step that a task of ours is; None for any other task, or a group of steps."""
        task = self._tasks.get(name)
        work = getattr(task.actions[0], "py_callable", None) if task and task.actions else None
        if isinstance(work, LowerModel):
            return work.job.plan.lowering()
        if isinstance(work, CheckModel):
            return work.job.check()
        return calibration(work.backbone) if isinstance(work, Calibrate) else None

    def _walk(self, name: str, found: dict[str, None], seen: set[str]) -> None:
        task = self._tasks[name]
        for other in (*task.task_dep, *task.setup_tasks):
            if other in seen:
                continue
            seen.add(other)
            verdict = self.verdict(other)
            if verdict is None or not verdict.fresh:
                self._walk(other, found, seen)
            if verdict is not None and not verdict.fresh:
                found[other] = None
