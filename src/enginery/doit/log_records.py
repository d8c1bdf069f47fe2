"""Log records of the actions: told to whoever shows the run, and handed to the logger `enginery`.

The compiler logs its hits as INFO. Who shows a run wants all of them; a user's own handlers get
what the logger `enginery` is enabled for and nothing more.
"""

from __future__ import annotations

import logging
import sys

from . import wire

_NAME = "enginery"


class TellingLogger(logging.Logger):
    """Tells every event, and logs as the logger `enginery` is set up."""

    def __init__(self) -> None:
        super().__init__(_NAME)
        self._logger = _for_a_person()

    def handle(self, record: logging.LogRecord) -> None:
        """Pass a record on."""
        if hasattr(record, "kind") and hasattr(record, "kv"):
            wire.tell(record.kind, **record.kv)
        if self._logger.isEnabledFor(record.levelno):
            record.told = True
            self._logger.handle(record)


def _for_a_person() -> logging.Logger:
    """The logger, which shows warnings where nobody has set it up."""
    logger = logging.getLogger(_NAME)
    if not logger.hasHandlers():
        handler = logging.StreamHandler(_TaskStderr())
        handler.addFilter(_is_for_a_person)
        handler.setLevel(logging.WARNING)
        logger.addHandler(handler)
    if _tell not in logger.filters:
        logger.addFilter(_tell)
    return logger


class _TaskStderr:
    """Standard error as it is at the time: doit replaces it while a task runs."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _tell(record: logging.LogRecord) -> bool:
    """Tell an event that a runtime logs by itself; the record goes on as it is."""
    if hasattr(record, "kind") and hasattr(record, "kv") and not hasattr(record, "told"):
        wire.tell(record.kind, **record.kv)
    return True


def _is_for_a_person(record: logging.LogRecord) -> bool:
    kind = getattr(record, "kind", None)
    if kind == "c10.engine.cache.miss" and wire.is_live():
        # The live view shows what is being built; that something is new is no news.
        reason = str(getattr(record, "kv", {}).get("reason", ""))
        return not reason.startswith("it is not there")
    # doit reports a task's failure itself.
    return kind != "c10.engine.compile.error"
