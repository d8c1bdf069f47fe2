"""What is shown while doit runs: rows that live on a terminal, plain lines anywhere else.

doit loads this module in other people's projects too, so it imports what it needs when tasks run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from doit.exceptions import BaseFail
from doit.reporter import ConsoleReporter
from doit.task import Task

if TYPE_CHECKING:
    from ..engine_job import EngineJob, UnknownEngine
    from .event_log import EventLog
    from .tally import Running, Tally
    from .watch import Watch
    from .wire import Event

_PROGRESS_PAUSE_S = 0.5
_STEPS = {"lower": "lowering", "check": "checking", "calibrate": "calibrating"}


class EngineReporter(ConsoleReporter):  # type: ignore[misc]
    """Engines with their phases, a live view on a terminal, and what the run came to."""

    desc = "engines as they are built, live on a terminal, and a summary"

    def __init__(self, outstream: TextIO | None, options: Mapping[str, Any]) -> None:
        super().__init__(outstream, options)
        self._jobs: dict[str, EngineJob | UnknownEngine] = {}
        self._corpora = 0
        self._ours_ran = False
        self._told: dict[str, float] = {}

    def initialize(self, tasks: dict[str, Task], selected_tasks: list[str]) -> None:
        """Called before doit starts worker processes."""
        from . import run_events
        from .tally import Tally
        from .watch import Watch

        self._tally: Tally = Tally()
        self._log: EventLog = run_events.open_log()
        self._tasks, self._selected = tasks, selected_tasks
        self._know_engines()
        self._watch: Watch = Watch(self.outstream, self._tally, self._take_event)
        self._lock = self._watch.lock
        self._log.add(run_events.start())

    def write(self, text: str) -> None:
        """Write a piece of doit's own output."""
        if not self._watch.show(text) and self.outstream is not None:
            super().write(text)

    def get_status(self, task: Task) -> None:
        """A task is looked at: one of a delayed creator was not known before."""
        from . import run_events

        with self._lock:
            if run_events.count_corpora() != self._corpora:
                self._know_engines()
            if task.name in self._jobs:
                self._tally.expect(task.name)

    def execute_task(self, task: Task) -> None:
        """A task begins."""
        if not _is_shown(task):
            return
        with self._lock:
            title = task.title()
            self._watch.begin()
            self._begin(task, title)
            if not self._watch.live:
                super().execute_task(task)

    def add_success(self, task: Task) -> None:
        """A task has ended well."""
        if not _is_shown(task):
            return
        with self._lock:
            running = self._end(task)
            job = self._jobs.get(task.name)
            outcome = self._ended(task, running) if job else "done"
            if not job:
                self._tally.others += 1
            self._log_end(task, running, outcome)
            if self._watch.live and not job:
                self.write(f"{running.name}: done in {_took(running)}\n")

    def add_failure(self, task: Task, fail: BaseFail) -> None:
        """A task has failed, or could not begin."""
        with self._lock:
            running = self._end(task)
            if task.name in self._jobs:
                self._tally.engine(task.name, "failed")
            self._ours_ran = self._ours_ran or self._is_ours(task)
            self._log_end(task, running, "failed", error=str(fail.message))
            super().add_failure(task, fail)

    def skip_uptodate(self, task: Task) -> None:
        """A task has nothing to do."""
        from . import run_events

        with self._lock:
            fresh, reason = True, None
            if task.name in self._jobs:
                fresh, reason, saved_s = run_events.verdict_of(task)
                self._tally.engine(task.name, "reused" if fresh else "skipped", saved_s)
                if fresh:
                    self._log.add(run_events.hit(self._jobs[task.name]))
            if task.actions:
                self._log.add(run_events.skip(task.name, fresh, reason))
            if not self._watch.live:
                super().skip_uptodate(task)

    def skip_ignore(self, task: Task) -> None:
        """A task is left out because a user said so."""
        from . import run_events

        with self._lock:
            if task.name in self._jobs:
                self._tally.engine(task.name, "skipped")
            self._log.add(run_events.skip(task.name, False, "ignored"))
            super().skip_ignore(task)

    def complete_run(self) -> None:
        """Everything has ended, one way or another."""
        from . import run_events
        from .watch import fitting

        interrupted = isinstance(sys.exc_info()[1], KeyboardInterrupt)
        if interrupted:
            _ignore_ctrl_c()
        live, out = self._watch.live, self.outstream
        wall_s = time.monotonic() - self._tally.began
        try:
            self._watch.end()
        finally:
            # First of all: whoever reads the lines may be gone.
            self._finish_log(wall_s, interrupted=interrupted)
        super().complete_run()
        if interrupted and not live and out is not None and out.isatty():
            self.write("\n")  # after the terminal's ^C
        for line in self._tally.lines(wall_s, interrupted=interrupted):
            self.write(f"{fitting(line, out) if live and out is not None else line}\n")
        run_events.mark_end()

    def _finish_log(self, wall_s: float, *, interrupted: bool) -> None:
        from . import run_events

        self._log.add(run_events.summary(self._tally.summary(wall_s, interrupted=interrupted)))
        if self._ours_ran:
            self._log.keep(self._records)

    def _know_engines(self) -> None:
        """Take the engines of all corpora that were read so far."""
        from . import run_events
        from .this_run import reachable

        self._corpora = run_events.count_corpora()
        self._jobs = run_events.jobs()
        self._records = run_events.records()
        for name in reachable(self._tasks, self._selected):
            if name in self._jobs:
                self._tally.expect(name)

    def _begin(self, task: Task, title: str) -> None:
        from . import run_events

        # What a worker process told may have come before.
        running = self._running(task.name)
        running.name = title
        self._ours_ran = self._ours_ran or self._is_ours(task)
        if task.io.capture is False:
            self._watch.pause(task.name)
        self._log.add(run_events.event("c10.task.start", task=task.name))

    def _running(self, name: str) -> Running:
        from .tally import Running

        if name not in self._tally.running:
            phase = _STEPS.get(name.partition(":")[0], "") if ":" in name else ""
            job = name in self._jobs
            self._tally.running[name] = Running(
                name, time.monotonic(), "starting" if job else phase, engine=job
            )
        return self._tally.running[name]

    def _end(self, task: Task) -> Running:
        self._watch.drain()
        running = self._running(task.name)
        del self._tally.running[task.name]
        self._watch.flush(task.name)
        return running

    def _ended(self, task: Task, running: Running) -> str:
        """What became of an engine whose task has ended well."""
        from . import run_events

        name, job = task.name, self._jobs[task.name]
        if self._tally.outcome(name) == "restored":
            return "restored"  # while its model's task ran
        outcome = running.outcome or run_events.outcome_of(job, task, running.began_at)
        saved_s = 0.0 if outcome in ("built", "skipped") else run_events.saved(job)
        self._tally.engine(name, outcome, saved_s)
        return outcome

    def _log_end(self, task: Task, running: Running, outcome: str, **more: Any) -> None:
        from . import run_events

        seconds = round(time.monotonic() - running.began, 3)
        self._log.add(run_events.event("c10.task.end", task=task.name, outcome=outcome,
                                       duration_s=seconds, **more))  # fmt: skip

    def _is_ours(self, task: Task) -> bool:
        return task.name in self._jobs or (bool(self._jobs) and task.subtask_of in _STEPS)

    def _take_event(self, event: Event) -> None:
        """Called for all that is told while tasks run; whoever calls has the lock."""
        from . import run_events

        task = event.kv.get("task")
        if task in self._jobs:
            if event.kind == run_events.RESTORED and task not in self._tally.running:
                self._tally.engine(task, "restored", run_events.saved(self._jobs[task]))
            elif self._tally.outcome(task) is None:
                self._note(self._running(task), self._jobs[task], event)
        if event.kind == run_events.NOTE and task in self._tally.running:
            self._tally.running[task].phase = event.kv["text"]
        if self._is_no_error(event):
            return
        if event.kind in run_events.WRITTEN and self._is_due(event):
            self._log.add(event)

    def _note(self, running: Running, job: EngineJob | UnknownEngine, event: Event) -> None:
        from . import run_events

        if event.kind == run_events.PROGRESS:
            running.progress(event.kv)
        elif event.kind == run_events.MISS:
            running.building_since = time.monotonic()
            if self._watch.live:
                running.expected_s = run_events.expected_s(job)
        else:
            running.outcome = run_events.OUTCOMES.get(event.kind, running.outcome)

    def _is_no_error(self, event: Event) -> bool:
        """Whether an event says of an engine that the corpus leaves out that it was not built."""
        job = self._jobs.get(event.kv.get("task", ""))
        return (
            job is not None
            and job.skips
            and event.kv.get("error_class")
            in (
                "ElsewhereError",
                "FarmError",
            )
        )

    def _is_due(self, event: Event) -> bool:
        """Whether an event is written: of a phase's steps, two a second are enough."""
        kv = event.kv
        if "phase" not in kv or kv["done"] or not kv["step"]:
            return True
        now = time.monotonic()
        due = now - self._told.get(kv["task"], 0.0) >= _PROGRESS_PAUSE_S
        if due:
            self._told[kv["task"]] = now
        return due


def _is_shown(task: Task) -> bool:
    """As doit has it: neither groups nor private tasks."""
    return bool(task.actions) and not task.name.startswith("_")


def _ignore_ctrl_c() -> None:
    """Have the end of an interrupted run told, however often a person presses it."""
    import signal
    import threading

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _took(running: Running) -> str:
    from ..figures import duration

    return duration(time.monotonic() - running.began)
