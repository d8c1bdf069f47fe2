"""Watches what is told while tasks run, in a thread, and owns the live view if there is one."""

from __future__ import annotations

import atexit
import os
import select
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from . import run_events, wire
from .tally import Tally
from .wire import Event, Text

if TYPE_CHECKING:
    from .live import LiveView

_PAUSE_S = 0.2


class Watch:
    """From the begin of a run to its end.

    Attributes:
        lock: The one lock of the run: tasks tell in any thread, and rows are drawn in another.
        live: Whether rows are drawn.
    """

    def __init__(self, stream: TextIO | None, tally: Tally, take: Callable[[Event], None]) -> None:
        """Listen, before doit starts worker processes.

        Args:
            stream: Where the run is shown; None where standard output is closed.
            tally: What is shown of it.
            take: Called with every event, by whoever has the lock.
        """
        self._stream, self._tally, self._take_event = stream, tally, take
        self.lock = threading.RLock()
        self.live = _is_live(stream) and run_events.are_heard()
        self._wire = wire.plug(self._take, live=self.live)
        self._view: LiveView | None = None
        self._listener: threading.Thread | None = None
        self._have_terminal: set[str] = set()
        self._done = False
        self._process = os.getpid()
        # Should doit not get to the end that it has for its reporters.
        atexit.register(self.end)

    def begin(self) -> None:
        """The first task begins: with nothing to do, no view is imported."""
        if self._listener is not None:
            return
        if self.live and self._stream is not None:
            from .live import LiveView

            self._view = LiveView(self._stream, self._tally)
            self._view.start()
            wire.capture()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def drain(self) -> None:
        """Take what the worker processes have told."""
        self._wire.drain()

    def show(self, text: str) -> bool:
        """Show text above the rows; False where there are none."""
        with self.lock:
            if self._view is not None:
                self._view.text("doit", text)
            return self._view is not None

    def pause(self, task: str) -> None:
        """A task has the terminal for itself, or shares it with others that have it."""
        self._have_terminal.add(task)
        if self._view is not None:
            self._view.stop()

    def flush(self, task: str) -> None:
        """A task has ended; whatever it printed without a line end is a line now."""
        self._have_terminal.discard(task)
        if self._view is not None:
            if not self._tally.running:
                self._view.flush()
            if not self._have_terminal:
                self._view.start()

    def end(self) -> None:
        """Show all that was told, and give the terminal back."""
        if os.getpid() != self._process:
            return  # a process that a task forked ends
        with self.lock:
            if self._done:
                return
            self._wire.drain()
            self._done = True
            if self._view is not None:
                self._view.flush()
                self._view.stop()
                self._view = None
            self._wire.wake()
        if self._listener is not None:
            self._listener.join()
        wire.unplug()
        atexit.unregister(self.end)

    def _take(self, message: Event | Text) -> None:
        with self.lock:
            if not isinstance(message, Text):
                self._take_event(message)
            elif self._view is not None:
                self._view.text(message.origin, message.text)
            elif self._stream is not None:
                # A worker process printed before the first task was seen to begin.
                self._stream.write(message.text)

    def _listen(self) -> None:
        shown = 0.0
        while True:
            pause = max(shown + _PAUSE_S - time.monotonic(), 0) if self._view else _PAUSE_S
            select.select([self._wire.source], [], [], pause)
            with self.lock:
                if self._done:
                    return
                self._wire.drain()
                now = time.monotonic()
                if self._view is not None and now - shown >= _PAUSE_S:
                    self._view.refresh()
                    shown = now


def terminal_size(stream: TextIO) -> os.terminal_size:
    """How large a terminal is now: as it says, and only where it does not, by the environment."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except OSError:
        return shutil.get_terminal_size()
    return size if size.columns and size.lines else shutil.get_terminal_size()


def fitting(line: str, terminal: TextIO) -> str:
    """A line, broken between words where it is longer than a terminal is wide."""
    width = terminal_size(terminal).columns
    if len(line) < width:
        return line
    import textwrap

    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def _is_live(stream: TextIO | None) -> bool:
    """Whether rows can be drawn on what is written to."""
    from doit.action import PythonAction

    return (
        stream is not None
        and stream is sys.stdout
        and stream.isatty()
        and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
        and os.environ.get("TTY_INTERACTIVE") != "0"
        and (stream.encoding or "").lower().replace("-", "") == "utf8"
        and not PythonAction.pm_pdb
    )
