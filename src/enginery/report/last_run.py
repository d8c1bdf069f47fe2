"""The record of the last run, `.enginery/last-run.jsonl`, read strictly and believed in little.

Each line is an event of docs/events.md. Kinds that are not known here are passed over, so that
a later version may write more of them, and so is a last line that was cut short; any other line
that is no event makes the record unreadable.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from ..corpus_backbones import STATE
from ..digest import read_regular
from ..errors import EngineryError, IrregularFileError

NAME = "last-run.jsonl"
UNFINISHED = "unfinished"
"""The outcome of a task that was begun and of which no end is recorded."""

_LIMIT = 64 << 20

# A year is longer than any build; larger figures are no time spans.
_Seconds = Annotated[float, Meta(ge=0, le=366 * 86400)]
_Moment = Annotated[datetime, Meta(tz=True)]
_Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
_Ratio = Annotated[float, Meta(ge=0, le=1)]
_T = TypeVar("_T")


class _Event(msgspec.Struct, frozen=True):
    time: _Moment
    kind: str
    kv: msgspec.Raw


class _Start(msgspec.Struct, frozen=True):
    arguments: tuple[str, ...] = ()
    version: str = ""


class _TaskStart(msgspec.Struct, frozen=True):
    task: str | None = None


class _TaskEnd(msgspec.Struct, frozen=True):
    outcome: str
    duration_s: _Seconds
    task: str | None = None
    error: str | None = None


class _TaskSkip(msgspec.Struct, frozen=True):
    outcome: str
    task: str | None = None
    reason: str | None = None


class _Miss(msgspec.Struct, frozen=True):
    reason: str
    task: str | None = None


class Summary(msgspec.Struct, frozen=True):
    """What a run came to.

    Attributes:
        engines_built: Engines that were built.
        engines_reused: Engines that were fresh.
        engines_restored: Engines that came out of a store.
        engines_failed: Engines that could not be made.
        engines_skipped: Engines that were left out.
        cache_hit_ratio: Share of engines that were not built, 0 to 1.
        wall_s: How long the run took.
        saved_s: How long the engines that were not built took once.
        interrupted: Whether it was ended from outside.
        unfinished: Tasks that had not ended then.
    """

    engines_built: _Count = 0
    engines_reused: _Count = 0
    engines_restored: _Count = 0
    engines_failed: _Count = 0
    engines_skipped: _Count = 0
    cache_hit_ratio: _Ratio | None = None
    wall_s: _Seconds | None = None
    saved_s: _Seconds | None = None
    interrupted: bool = False
    unfinished: tuple[str, ...] = ()


class TaskRun(msgspec.Struct, frozen=True):
    """A task in a run.

    Attributes:
        task: Its name.
        outcome: "built", "restored", "reused", "done", "failed" or `UNFINISHED`; of a later
            version perhaps another word.
        begin_s: When it began, from its start.
        duration_s: How long it took, or had taken when the record ends.
        words: Why it ran, or what went wrong; empty where nothing is known.
    """

    task: str
    outcome: str
    begin_s: float
    duration_s: float
    words: str = ""


class LastRun(msgspec.Struct, frozen=True):
    """A run as its record has it.

    Attributes:
        began: When it began.
        arguments: doit's command line.
        tasks: The tasks that ran, in the order in which they began; one that ran twice is there
            twice.
        skipped: Task to its outcome, of those that did not have to run.
        summary: What it came to; None where it did not get that far.
    """

    began: datetime
    arguments: tuple[str, ...]
    tasks: tuple[TaskRun, ...]
    skipped: dict[str, str]
    summary: Summary | None

    @property
    def duration_s(self) -> float:
        """How long it took, as far as is known."""
        ends = [task.begin_s + task.duration_s for task in self.tasks]
        wall = self.summary.wall_s if self.summary and self.summary.wall_s else 0.0
        return max(wall, *ends, 0.0)


def last_run_path(corpus: Path) -> Path:
    """Where the record of the last run of a corpus file is."""
    return corpus.parent / STATE / NAME


def read_last_run(path: Path) -> LastRun:
    """The last run.

    Raises:
        EngineryError: There is no record, or it cannot be read; the message says which.
    """
    try:
        events = list(_events(read_regular(path, limit=_LIMIT)))
    except FileNotFoundError as error:
        raise EngineryError("no run is recorded yet") from error
    except (
        OSError,
        IrregularFileError,
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
    ) as error:
        raise EngineryError("the record of the last run cannot be read") from error
    if not events:
        raise EngineryError("the record of the last run is empty")
    return _told(events)


_DECODER = msgspec.json.Decoder(_Event)
_KINDS: dict[str, Any] = {
    "c10.run.start": _Start,
    "c10.task.start": _TaskStart,
    "c10.task.end": _TaskEnd,
    "c10.task.skip": _TaskSkip,
    "c10.engine.cache.miss": _Miss,
    "c10.engine.compile.summary": Summary,
}


def _events(data: bytes) -> Iterator[tuple[datetime, Any]]:
    lines = [line for line in data.removeprefix(BOM_UTF8).splitlines() if line.strip()]
    if len(lines) > 1 and _is_cut_short(lines[-1]):
        lines.pop()
    for line in lines:
        event = _DECODER.decode(line)
        if event.kind in _KINDS:
            yield event.time, msgspec.json.decode(event.kv, type=_KINDS[event.kind])


def _is_cut_short(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return True
    return False


def _told(events: list[tuple[datetime, Any]]) -> LastRun:
    start = _first(events, _Start)
    began = start[0] if start else events[0][0]
    summary = _first(events, Summary)
    return LastRun(
        began=began,
        arguments=start[1].arguments if start else (),
        tasks=tuple(sorted(_ran(events, began), key=lambda one: one.begin_s)),
        skipped={
            event.task: event.outcome
            for _, event in events
            if isinstance(event, _TaskSkip) and event.task is not None
        },
        summary=summary[1] if summary else None,
    )


def _ran(events: list[tuple[datetime, Any]], began: datetime) -> Iterator[TaskRun]:
    begun: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for time, event in events:
        task, at_s = getattr(event, "task", None), _since(began, time)
        if task is None:
            continue  # of the run, or of something that was built beside its tasks
        if isinstance(event, _Miss):
            reasons[task] = event.reason
        elif isinstance(event, _TaskStart):
            if task in begun:
                yield _unfinished(task, begun[task], at_s, reasons)
            begun[task] = at_s
        elif isinstance(event, _TaskEnd):
            begin_s = begun.pop(task, max(at_s - event.duration_s, 0.0))
            reason = reasons.pop(task, "")
            yield TaskRun(task, event.outcome, begin_s, event.duration_s, event.error or reason)
    end_s = _since(began, max(time for time, _ in events))
    for task, begin_s in begun.items():
        yield _unfinished(task, begin_s, end_s, reasons)


def _unfinished(task: str, begin_s: float, end_s: float, reasons: dict[str, str]) -> TaskRun:
    return TaskRun(task, UNFINISHED, begin_s, max(end_s - begin_s, 0.0), reasons.pop(task, ""))


def _since(began: datetime, time: datetime) -> float:
    # A clock that went back meanwhile is no reason to draw to the left of the begin.
    return max((time - began).total_seconds(), 0.0)


def _first(events: list[tuple[datetime, Any]], kind: type[_T]) -> tuple[datetime, _T] | None:
    return next(((time, event) for time, event in events if isinstance(event, kind)), None)
