"""The up-to-date checkers: doit asks, the verdict answers.

doit takes what `__call__` returns as yes or no, and prints `repr` of the object in `doit info`:
that is where the reason stands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from doit.dependency import Dependency, MD5Checker, UptodateCalculator
from doit.task import Task

from ..inputs import InputDigests
from ..verdict import Verdict


class VerifiedUpToDate(UptodateCalculator):  # type: ignore[misc]
    """Whether an artifact is what its sidecar, provenance and inputs say.

    Where it is, doit's own record of the task is healed: without one doit would run a task that
    has a `file_dep`, and the record is none of our proofs.
    """

    # doit inspects the signature before every call, which takes longer than most answers.
    __signature__ = inspect.Signature(
        [inspect.Parameter("task", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )

    def __init__(self, judge: Callable[[], Verdict], inputs: InputDigests) -> None:
        super().__init__()
        self._judge = judge
        self._inputs = inputs
        self._verdict: Verdict | None = None
        self._dependency: Dependency | None = None

    def setup(self, dep_manager: Dependency, tasks_dict: dict[str, Task]) -> None:
        """Called by doit before the question."""
        super().setup(dep_manager, tasks_dict)
        self._dependency = dep_manager

    def __call__(self, task: Task) -> bool:
        """Whether doit may skip the task."""
        fresh = self.verdict().fresh
        if fresh and self._dependency is not None:
            _heal(self._dependency, task, self._inputs)
        return fresh

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
        inputs: InputDigests,
        needed_by: Sequence[VerifiedUpToDate],
    ) -> None:
        super().__init__(judge, inputs)
        self._needed_by = needed_by

    def verdict(self) -> Verdict:
        """As for the engine, but a model that no engine waits for is not looked at."""
        if self._verdict is None:
            verdicts = [engine.verdict() for engine in self._needed_by]
            stale = [verdict for verdict in verdicts if not verdict.fresh]
            self._verdict = self._judge() if stale else verdicts[0]
        return self._verdict


def _heal(dependency: Dependency, task: Task, inputs: InputDigests) -> None:
    """Record a verified task as done unless doit would find its record to be so already."""
    get: Callable[[str, str], Any] = dependency._get
    checker = dependency.checker
    known = (
        get(task.name, "checker:") == type(checker).__name__
        and set(get(task.name, "deps:") or ()) == task.file_dep
        and all(
            (state := get(task.name, path)) is not None
            and not checker.check_modified(path, checker.info(path), state)
            for path in task.file_dep
        )
    )
    if not known:
        _note_digests(dependency, task, inputs)
        dependency.save_success(task)


def _note_digests(dependency: Dependency, task: Task, inputs: InputDigests) -> None:
    """Put our digests where doit would put MD5 sums: it does not hash a file whose time it knows.

    doit compares what stands there only for equality; a record that it finds unequal is healed,
    because the verdict does not rest on it.
    """
    if type(dependency.checker) is not MD5Checker:
        return
    for name in task.file_dep:
        path = Path(name)
        if (digest := inputs.known(path)) is not None:
            info = path.stat()
            dependency._set(task.name, name, (info.st_mtime, info.st_size, digest))
