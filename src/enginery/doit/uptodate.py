"""The up-to-date checkers: doit asks, the verdict answers.

doit takes what `__call__` returns as yes or no, and prints `repr` of the object in `doit info`:
that is where the reason stands.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from doit.dependency import Dependency, MD5Checker, UptodateCalculator, get_md5
from doit.task import Task

from ..verdict import Fault, Verdict


class VerifiedUpToDate(UptodateCalculator):  # type: ignore[misc]
    """Whether an artifact is what its sidecar, provenance and inputs say.

    Where it is, doit's own record of the task is healed: without one doit would run a task that
    has a `file_dep`, and the record is none of our proofs.
    """

    # doit inspects the signature before every call, which takes longer than most answers.
    __signature__ = inspect.Signature(
        [inspect.Parameter("task", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )

    def __init__(self, judge: Callable[[], Verdict]) -> None:
        super().__init__()
        self._judge = judge
        self._verdict: Verdict | None = None
        self._dependency: Dependency | None = None

    def setup(self, dep_manager: Dependency, tasks_dict: dict[str, Task]) -> None:
        """Called by doit before the question."""
        super().setup(dep_manager, tasks_dict)
        self._dependency = dep_manager

    def __call__(self, task: Task) -> bool:
        """Whether doit may skip the task."""
        verdict = self.verdict()
        if self._dependency is not None:
            noted = _note_times(self._dependency, task)
            if verdict.statement is not None:
                # As the action returns it: what others name in result_dep.
                task.result = verdict.statement.sha256_hex
                if not (noted and _is_recorded(self._dependency, task)):
                    # A file that went meanwhile is doit's to tell.
                    with suppress(OSError):
                        self._dependency.save_success(task)
        return verdict.fresh

    def __repr__(self) -> str:
        """The reason, for `doit info`."""
        return self._verdict.reason if self._verdict else "not looked at yet"

    def verdict(self) -> Verdict:
        """The verdict, worked out once per run and task."""
        if self._verdict is None:
            self._verdict = self._judge()
        return self._verdict


class LoweredUpToDate(VerifiedUpToDate):
    """Whether a lowered model is what it should be, or no engine needs it now."""

    def __init__(
        self,
        judge: Callable[[], Verdict],
        needed_by: Sequence[VerifiedUpToDate],
    ) -> None:
        super().__init__(judge)
        self._needed_by = needed_by

    def verdict(self) -> Verdict:
        """As for the engine, but a model that no engine waits for is not looked at."""
        if self._verdict is None:
            verdicts = [engine.verdict() for engine in self._needed_by]
            stale = [verdict for verdict in verdicts if not verdict.fresh]
            needless = Verdict(Fault.NONE, "no engine that is built here needs it")
            self._verdict = self._judge() if stale else next(iter(verdicts), needless)
        return self._verdict


def _note_times(dependency: Dependency, task: Task) -> bool:
    """Note the times of a task's files, so that doit hashes none; whether all were known.

    doit takes a file whose time it knows for unchanged. That would be too little for a user's
    task; for ours the verdict has looked at the content, and an MD5 sum of every model besides is
    a tenth of a build.
    """
    if type(dependency.checker) is not MD5Checker:
        return False
    known = True
    for name in task.file_dep:
        with suppress(OSError):
            info = os.stat(name)  # noqa: PTH116 - doit has the name as text
            state = dependency._get(task.name, name)
            if state is None or state[0] != info.st_mtime or state[1] != info.st_size:
                known = False
                dependency._set(task.name, name, (info.st_mtime, info.st_size, ""))
    return known


def _is_recorded(dependency: Dependency, task: Task) -> bool:
    """Whether doit has a record of success with these files; without one it runs the task."""
    get: Callable[[str, str], Any] = dependency._get
    deps = set(get(task.name, "deps:") or ())
    return (
        get(task.name, "checker:") == MD5Checker.__name__
        and deps == set(task.file_dep)
        and get(task.name, "result:") == get_md5(task.result)
    )
