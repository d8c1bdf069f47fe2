"""What doit would run: the tasks before one that are not fresh, and those after it that use it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from doit.control import TaskControl
from doit.dependency import Dependency
from doit.task import Task

from ..engine_job import EngineJob
from ..step import Step
from ..verdict import Verdict
from .actions import Calibrate, CheckModel, LowerModel, calibration
from .elsewhere import LeftOut
from .uptodate import VerifiedUpToDate


class WhatRuns:
    """The tasks of a dodo.py with all that doit makes of their dependencies.

    Args:
        tasks: The tasks.
        records: What doit knows of earlier runs; it is not changed on the disk.
    """

    def __init__(self, tasks: list[Task], records: Dependency) -> None:
        control = TaskControl(tasks)
        self._tasks: dict[str, Task] = control.tasks
        self._makers = {os.path.abspath(path): task for path, task in control.targets.items()}  # noqa: PTH100
        self._records = records
        self._known: dict[str, bool] = {}

    def before(self, name: str) -> list[str]:
        """The task and, before it, whatever it waits for that doit would run, in that order."""
        found: list[str] = []
        seen = {name}
        # A stack of one's own: a chain of tasks may be longer than Python's.
        waiting = [(name, iter(self._waits_for(name)))]
        while waiting:
            current, others = waiting[-1]
            other = next((one for one in others if one not in seen), None)
            if other is not None:
                seen.add(other)
                waiting.append((other, iter(self._waits_for(other))))
                continue
            waiting.pop()
            if current == name or self._runs(current):
                found.append(current)
        return found

    def used_by(self, name: str) -> list[str]:
        """Checks of an engine that would run, and tasks that are not ours and use any of these."""
        before = self.before(name)
        checks = [check for check in self._checks_of(name) if check not in before]
        found = dict.fromkeys(checks)
        # What a group or a task of the dodo.py makes available is used by the next, and so on.
        waiting, seen = [name, *checks], {name, *checks}
        for current in waiting:
            for other in self._users.get(current, ()):
                if other in seen or self._is_engine_or_step(other):
                    continue
                seen.add(other)
                waiting.append(other)
                if self._tasks[other].actions:
                    found[other] = None
        return list(found)

    def maker(self, path: Path) -> str | None:
        """The task that makes a file, if there is one."""
        return self._makers.get(os.path.abspath(path))  # noqa: PTH100 - links are not followed

    def steps(self) -> list[str]:
        """Names of the tasks that are steps."""
        return [name for name in self._tasks if _step_work(self._tasks[name]) is not None]

    def verdict(self, name: str) -> Verdict | None:
        """What the checker of one of our tasks says; None for a task that is not ours."""
        checker = _checker(self._tasks[name]) if name in self._tasks else None
        return checker.verdict() if checker else None

    def step(self, name: str) -> Step | None:
        """The step that a task of ours is; None for any other task, or a group of steps."""
        work = _step_work(self._tasks[name]) if name in self._tasks else None
        if isinstance(work, LowerModel):
            return work.job.plan.lowering()
        if isinstance(work, CheckModel):
            return work.job.check()
        return calibration(work.backbone) if isinstance(work, Calibrate) else None

    @cached_property
    def _users(self) -> dict[str, list[str]]:
        """Each task to those that wait for it, in the order of the dodo.py."""
        found: dict[str, list[str]] = {}
        for task in self._tasks.values():
            for other in dict.fromkeys((*task.task_dep, *task.setup_tasks)):
                found.setdefault(other, []).append(task.name)
        return found

    @cached_property
    def _checks(self) -> dict[str, list[tuple[str, EngineJob]]]:
        """The task of an engine to those that check its model, and the engine."""
        found: dict[str, list[tuple[str, EngineJob]]] = {}
        for task in self._tasks.values():
            work = _step_work(task)
            for job in work.engines if isinstance(work, CheckModel) else ():
                found.setdefault(job.task, []).append((task.name, job))
        return found

    def _waits_for(self, name: str) -> Iterable[str]:
        """Tasks that doit looks at before one; those that set it up only where it runs."""
        task = self._tasks[name]
        return (*task.task_dep, *(task.setup_tasks if self._runs(name) else ()))

    def _runs(self, name: str) -> bool:
        """Whether doit would run a task's actions, as far as can be said before the others ran."""
        if name not in self._known:
            self._known[name] = self._would_run(self._tasks[name])
        return self._known[name]

    def _would_run(self, task: Task) -> bool:
        checker = _checker(task)
        if checker is not None:
            return not (checker.verdict().fresh or isinstance(checker, LeftOut))
        if not task.actions:
            return False
        return bool(self._records.get_status(task, self._tasks).status != "up-to-date")

    def _is_engine_or_step(self, name: str) -> bool:
        return _checker(self._tasks[name]) is not None

    def _checks_of(self, name: str) -> Iterator[str]:
        for check, job in self._checks.get(name, ()):
            # With a GPU the engine is compared, too, and again where it is another.
            if self._runs(check) or job.runs_here():
                yield check


def _checker(task: Task) -> VerifiedUpToDate | None:
    return next((one for one, *_ in task.uptodate if isinstance(one, VerifiedUpToDate)), None)


def _step_work(task: Task) -> Any:
    """What the one action of a step does; None for any other task."""
    work = getattr(task.actions[0], "py_callable", None) if task.actions else None
    return work if isinstance(work, (LowerModel, CheckModel, Calibrate)) else None
