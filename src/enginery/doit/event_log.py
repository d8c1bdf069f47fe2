"""The events of a run, as lines of JSON: in the file of `--json`, and beside each corpus."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

import msgspec

from .. import atomic
from .wire import Event


class EventLog:
    """Keeps the events of a run, and writes each to a file at once if there is one."""

    def __init__(self, file: FileIO | None) -> None:
        self._file = file
        self._lines: list[bytes] = []

    def add(self, event: Event) -> None:
        """Add an event; a file that cannot be written any more is given up, with one warning."""
        line = msgspec.json.encode(event) + b"\n"
        self._lines.append(line)
        if self._file is None:
            return
        try:
            self._file.write(line)
        except OSError as error:
            sys.stderr.write(f"{self._file.name}: no more events are written: {error.strerror}\n")
            self._file = None

    def keep(self, paths: Iterable[Path]) -> None:
        """Write all of it to files; one that cannot be written is none of the run's concern."""
        data = b"".join(self._lines)
        for path in paths:
            try:
                path.parent.mkdir(exist_ok=True)
                atomic.write_atomically(path, data)
            except OSError:
                # A corpus may be read-only; the record is a convenience.
                continue
