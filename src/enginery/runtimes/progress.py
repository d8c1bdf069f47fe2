"""How far a build is: from TensorRT's progress monitor to whoever asked for it.

TensorRT calls the monitor thousands of times in a large build, from any of its threads. The child
sends what a person can follow, a line of JSON each; the parent makes a `BuildProgress` of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import msgspec

from ..build import BuildProgress

_PAUSE_S = 0.1

# A build, its parts and their parts: what lies deeper comes and goes too fast to be read.
_DEPTH = 2

# A line shorter than PIPE_BUF (pipe(7)) is never torn by what TensorRT itself writes.
_NAME_LENGTH = 500


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    depth: int
    shown: bool
    step: int = 0


class Phases:
    """The phases that are under way, told as they begin, go on and end; safe in any thread.

    The start and the end of the upper phases are always told. Steps, and phases that lie deeper,
    are told ten times a second at the most; a phase whose start was told has an end.
    """

    def __init__(
        self, tell: Callable[[BuildProgress], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell, self._clock = tell, clock
        self._lock = threading.Lock()
        self._open: dict[str, _Phase] = {}
        self._told = -_PAUSE_S

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            above = self._open.get(parent) if parent else None
            depth = above.depth + 1 if above else 0
            shown = depth <= _DEPTH or (above is not None and above.shown and self._is_due())
            self._open[name] = _Phase(parent, steps, depth, shown)
            if shown:
                self._say(name, self._open[name])

    def step(self, name: str, step: int) -> None:
        """A step of a phase is done; steps are counted from 0."""
        with self._lock:
            phase = self._open.get(name)
            if phase:
                phase.step = step + 1
                if phase.shown and self._is_due():
                    self._say(name, phase)

    def finish(self, name: str) -> None:
        """A phase is over."""
        with self._lock:
            phase = self._open.pop(name, None)
            if phase and phase.shown:
                self._say(name, phase, done=True)

    def _is_due(self) -> bool:
        now = self._clock()
        due = now - self._told >= _PAUSE_S
        if due:
            self._told = now
        return due

    def _say(self, name: str, phase: _Phase, *, done: bool = False) -> None:
        parent = phase.parent and phase.parent[:_NAME_LENGTH]
        self._tell(BuildProgress(name[:_NAME_LENGTH], parent, phase.step, phase.steps, done))


def monitor(trt: ModuleType, report: Callable[[str], None]) -> Any:
    """TensorRT's progress monitor of this module; gives `report` a line per message."""
    phases = Phases(lambda progress: report(msgspec.json.encode(progress).decode()))

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        """Passes everything on and never cancels a build."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()


class Relay:
    """Gives what a child reports to a callback, for as long as the callback works.

    It is called in the thread that reads the child's output, and no error of the callback costs
    an engine, so the first one is kept here and nothing more is passed on.

    Attributes:
        error: What the callback raised, or None.
    """

    def __init__(self, progress: Callable[[BuildProgress], None]) -> None:
        self._progress = progress
        self.error: BaseException | None = None

    def __call__(self, line: str) -> None:
        """Pass on a line that `monitor` wrote."""
        if self.error is None:
            try:
                self._progress(msgspec.json.decode(line, type=BuildProgress))
            # SystemExit and KeyboardInterrupt, too: they would end this thread and not the program.
            except BaseException as error:
                self.error = error
