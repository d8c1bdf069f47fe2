"""doit in a terminal of its own: a pseudo-terminal, and a screen that shows what it wrote."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyte
from conftest import Project


class Terminal:
    """What a person sees.

    Attributes:
        raw: All bytes that were written.
        seen: Every state of the screen that was noticed, as text.
    """

    def __init__(
        self, master: int, process: subprocess.Popen[bytes], size: tuple[int, int]
    ) -> None:
        self.process = process
        self._master = master
        columns, rows = size
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.seen: list[str] = []

    @property
    def text(self) -> str:
        """Whatever stands on the screen, without blank rows at its end."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def transcript(self) -> list[str]:
        """All rows: those that scrolled away and those on the screen."""
        top = [
            "".join(line[column].data for column in range(self.screen.columns)).rstrip()
            for line in self.screen.history.top
        ]
        return [*top, *self.text.splitlines()]

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._master, text.encode())

    def wait_for(self, condition: Callable[[str], object], seconds: float = 90) -> None:
        """Look at the screen until something holds."""
        deadline = time.monotonic() + seconds
        while not condition(self.text):
            assert time.monotonic() < deadline, f"waited in vain:\n{self.text}"
            assert self._read() or condition(self.text), f"it ended:\n{self.text}"

    def finish(self, seconds: float = 120) -> int:
        """Look on until it has ended; its exit status."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, f"it did not end:\n{self.text}"
        return self.process.wait(10)

    def _read(self) -> bool:
        """Show what was written meanwhile; False where nothing will be any more."""
        ready, _, _ = select.select([self._master], [], [], 0.1)
        if not ready:
            return True
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        self.seen.append(self.text)
        return bool(data)


@contextmanager
def terminal(
    project: Project,
    *arguments: str,
    size: tuple[int, int] = (120, 30),
    **environment: str,
) -> Iterator[Terminal]:
    """Run doit in a terminal of so many columns and rows."""
    master, slave = os.openpty()
    columns, rows = size
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    try:
        # The size is the terminal's, not the one that whoever runs the tests has.
        inherited = {
            k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "doit", *arguments],
            cwd=project.path,
            env={**inherited, "TERM": "xterm-256color", **environment},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
    finally:
        os.close(slave)
    with process:
        try:
            yield Terminal(master, process, size)
        finally:
            process.kill()
            os.close(master)
