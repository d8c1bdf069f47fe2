"""What whoever asked for a build hears of it while it goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from ..build import BuildProgress

_PAUSE_S = 0.3


class NotAwaitedError(Exception):
    """Nobody waits for a build whose inputs have not come."""


class Link(Protocol):
    """What a build knows of the farm."""

    @property
    def key(self) -> str:
        """The key of its task."""

    @property
    def address(self) -> str:
        """The worker's address."""

    def tell(self, message: dict[str, object]) -> None:
        """Tell whoever asked for the build."""

    def is_awaited(self) -> bool:
        """Whether anybody still waits for it."""


class Progress:
    """Tells how far a build is, a few times a second; the outermost phases always."""

    def __init__(self, link: Link, clock: Callable[[], float] = time.monotonic) -> None:
        self._link, self._clock = link, clock
        self._told = -_PAUSE_S

    def __call__(self, progress: BuildProgress) -> None:
        """Take what the runtime reports."""
        now = self._clock()
        if progress.parent is None or now - self._told >= _PAUSE_S:
            self._told = now
            self._link.tell(msgspec.to_builtins(progress))


def logger_for(link: Link) -> logging.Logger:
    """A logger of its own whose warnings are told, and nothing else."""
    logger = logging.Logger("enginery.farm.build", level=logging.WARNING)
    logger.addHandler(_Handler(link))
    return logger


class _Handler(logging.Handler):
    def __init__(self, link: Link) -> None:
        super().__init__(logging.WARNING)
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        # That it is built, and that it failed, whoever asked is told anyway.
        kind = getattr(record, "kind", "")
        if kind not in ("c10.engine.cache.miss", "c10.engine.compile.error"):
            self._link.tell({"say": record.getMessage()})
