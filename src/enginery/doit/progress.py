"""Progress of a long build, in lines for a person."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..build import BuildProgress

_PAUSE_S = 10.0


class SlowBuild:
    """Says how far a build is, first when it has taken a while; a short build is silent."""

    def __init__(
        self,
        name: str,
        write: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._write, self._clock = name, write, clock
        self._last = clock()

    def __call__(self, progress: BuildProgress) -> None:
        """Take what the runtime reports."""
        now = self._clock()
        if now - self._last >= _PAUSE_S and not progress.done:
            self._last = now
            steps = f", {progress.step} of {progress.steps} steps" if progress.steps else ""
            self._write(f"{self._name}: {progress.phase}{steps}")
