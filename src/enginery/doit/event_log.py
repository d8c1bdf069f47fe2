"""The events of a run, as lines of JSON: in the file of `--json`, and beside each corpus."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

import msgspec
from doit.exceptions import InvalidCommand
from doit.task import Task

from .. import atomic
from .wire import Event

_BEGIN = b'{"time"'


def open_events(path: str, tasks: Iterable[Task]) -> FileIO:
    """Open the file of `--json`; it takes the place of nothing but events.

    Devices and pipes are written to as they are.

    Raises:
        InvalidCommand: It is something else, or cannot be written.
    """
    if path == "-":
        raise InvalidCommand("--json: name a file; - is none")
    try:
        regular = stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        there = regular = False  # whether it can be written shows below
    else:
        there = True
    if regular or not there:
        _refuse_own(path, tasks)
    try:
        if regular and not _holds_events(path):
            raise InvalidCommand(
                f"--json: {path} holds something else than events; name another file"
            )
        return FileIO(path, "w")
    except OSError as error:
        raise InvalidCommand(
            f"--json: {path} cannot be written: {error.strerror}; name another file"
        ) from error


def _refuse_own(path: str, tasks: Iterable[Task]) -> None:
    """Refuse what belongs to a task, though it may not be there yet."""
    places = {os.path.abspath(path), os.path.realpath(path)}  # noqa: PTH100 - as doit has them
    for task in tasks:
        if task.name == path:
            raise InvalidCommand(
                f"--json: {path} is a task; name a file first, as in: --json run.jsonl {path}"
            )
        for own in map(os.path.abspath, (*task.targets, *task.file_dep)):
            if any(own == place or own.startswith(place + os.sep) for place in places):
                raise InvalidCommand(
                    f"--json: {path} belongs to the task {task.name}; name another file"
                )


def _holds_events(path: str) -> bool:
    with FileIO(path) as file:
        return file.read(len(_BEGIN)) in (b"", _BEGIN)


class EventLog:
    """Keeps the events of a run, and writes each to a file at once if there is one."""

    def __init__(self, file: FileIO | None) -> None:
        self._file = file
        self._events: list[Event] = []

    def add(self, event: Event) -> None:
        """Add an event; a file that cannot be written any more is given up, with one warning."""
        self._events.append(event)
        if self._file is None:
            return
        try:
            self._file.write(_line(event))
        except OSError as error:
            sys.stderr.write(f"{self._file.name}: no more events are written: {error.strerror}\n")
            self._file = None

    def keep(self, paths: Iterable[Path]) -> None:
        """Write all of it to files; one that cannot be written is none of the run's concern."""
        data = b"".join(map(_line, self._events))
        for path in paths:
            try:
                path.parent.mkdir(exist_ok=True)
                atomic.write_atomically(path, data)
            except OSError:
                # A corpus may be read-only; the record is a convenience.
                continue


def _line(event: Event) -> bytes:
    return msgspec.json.encode(event) + b"\n"
