"""Progress of a long build: told to whoever shows the run, or in lines for a person."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..build import BuildProgress
from . import wire

_PAUSE_S = 10.0


class SlowBuild:
    """Tells how far a build is. Without a live view it says so in lines, if it takes a while."""

    def __init__(
        self,
        name: str,
        write: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
        against: Callable[[float], str] | None = None,
    ) -> None:
        """Say of what, and to whom.

        Args:
            name: The task.
            write: Called with a line at a time.
            clock: Measures durations in seconds.
            against: Puts how long it has taken in words, compared with earlier builds.
        """
        self._name, self._write, self._clock = name, write, clock
        self._against = against
        self._began = self._last = clock()

    def __call__(self, progress: BuildProgress) -> None:
        """Take what the runtime reports."""
        wire.tell(
            "c10.engine.build.progress",
            task=self._name,
            phase=progress.phase,
            parent=progress.parent,
            step=progress.step,
            steps=progress.steps,
            done=progress.done,
        )
        now = self._clock()
        if not wire.is_live() and now - self._last >= _PAUSE_S and not progress.done:
            self._last = now
            steps = f", {progress.step} of {progress.steps} steps" if progress.steps else ""
            time_words = f", {self._against(now - self._began)}" if self._against else ""
            self._write(f"{self._name}: {progress.phase}{steps}{time_words}")
