"""What a run would do with every engine, by whom, and when it would be done.

Pure: what lies on the disk, in stores and on the farm was found out before.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Set
from enum import Enum
from pathlib import Path

import msgspec

from ..engine_job import EngineJob, UnknownEngine
from ..status import EngineStatus
from .bound import Bound
from .pace import Paces
from .schedule import Assigned, Job, Schedule, Worker, schedule

HERE = "this host"


class Course(str, Enum):
    """What becomes of an engine."""

    FRESH = "fresh"
    STORED = "stored"
    HERE = "here"
    FARM = "farm"
    NOBODY = "nobody"
    LEFT_OUT = "left_out"

    def __str__(self) -> str:
        return self.value.replace("_", " ")


class Wanted(msgspec.Struct, frozen=True):
    """An engine, and what was found out about it.

    Attributes:
        status: Its state.
        store: The store that has it; None where none has, or where none was asked.
        fault: Why nobody can build it, wherever; None where that is not known.
        tag: What a worker has to offer to build it; None where no worker may.
        unserved: Why there may be no worker for it: there is no farm, or it is down.
        lower_here_s: For how many seconds its model is going to be lowered here first.
        lower_s: For how many seconds its model was lowered the last time; 0.0 where it is not
            lowered, or was not yet.
    """

    status: EngineStatus
    store: str | None = None
    fault: str | None = None
    tag: str | None = None
    unserved: str | None = None
    lower_here_s: float = 0.0
    lower_s: float = 0.0

    @property
    def left_out(self) -> bool:
        """Whether a run leaves it alone: it need not be there, and nobody else is asked."""
        job = self.status.job
        asked = isinstance(job, EngineJob) and job.farm is not None
        return job.skips and bool(job.elsewhere) and not asked


class Builder(msgspec.Struct, frozen=True):
    """Who builds: this host, or a connected worker.

    Attributes:
        name: Its name, which no other has.
        slots: How many builds it does at a time.
        address: The worker's address; None for this host.
        tags: What the worker offers.
        host: The host that it runs on, as provenances name it; None where it has no name.
        corpora: The corpora whose farm it is of.
    """

    name: str
    slots: int = 1
    address: str | None = None
    tags: frozenset[str] = frozenset()
    host: str | None = None
    corpora: frozenset[Path] = frozenset()


class Kind(msgspec.Struct, frozen=True):
    """Workers that build the same engines in the same time.

    Attributes:
        name: The name of the first of them.
        builders: All of them.
    """

    name: str
    builders: tuple[Builder, ...]

    @property
    def here(self) -> bool:
        """Whether it is this host."""
        return self.builders[0].address is None


class Expected(msgspec.Struct, frozen=True):
    """How long an engine takes one kind of worker, lowering included.

    Attributes:
        kind: Name of the kind.
        seconds: How long; None where nothing at all is known of any build.
        assumed: Whether it is only the median of what is known of others.
    """

    kind: str
    seconds: float | None
    assumed: bool


class Planned(msgspec.Struct, frozen=True):
    """An engine and what becomes of it.

    Attributes:
        wanted: The engine.
        course: What becomes of it.
        reason: Why, in words; empty for a fresh one.
        expected: How long it takes each kind of worker that can build it.
        assigned: Its place in the schedule; None where nobody builds it.
    """

    wanted: Wanted
    course: Course
    reason: str = ""
    expected: tuple[Expected, ...] = ()
    assigned: Assigned | None = None

    @property
    def job(self) -> EngineJob | UnknownEngine:
        """The engine."""
        return self.wanted.status.job

    @property
    def chosen(self) -> Expected | None:
        """How long it takes where it is going to be built."""
        kind = None if self.assigned is None else self.assigned.kind
        return next((one for one in self.expected if one.kind == kind), None)


class Plan(msgspec.Struct, frozen=True):
    """A plan.

    Attributes:
        engines: Every engine, in the order given.
        kinds: Who can build, this host first.
        schedule: Who builds what and when; its times are in seconds where `timed`.
        timed: Whether anything is known of how long the builds take; without it every build counts
            the same.
    """

    engines: tuple[Planned, ...]
    kinds: tuple[Kind, ...]
    schedule: Schedule
    timed: bool

    @property
    def makespan(self) -> float | None:
        """When the last build is done, in seconds from the start; None where nothing is known."""
        return self.schedule.makespan if self.timed else None

    @property
    def bound(self) -> Bound | None:
        """What no schedule is done before; None where nothing is known."""
        return self.schedule.bound if self.timed else None

    @property
    def assumed(self) -> int:
        """How many builds have a time that is only the median of others."""
        return sum(one.chosen is not None and one.chosen.assumed for one in self.engines)

    @property
    def longest(self) -> Planned | None:
        """The build that takes longest, lowering included: the longest path through the run."""
        built = [one for one in self.engines if one.assigned is not None]
        return max(built, key=_took, default=None)


def make_plan(wanted: Iterable[Wanted], builders: Iterable[Builder], paces: Paces) -> Plan:
    """What becomes of engines.

    Args:
        wanted: The engines.
        builders: Who can build, this host among them.
        paces: How long builds took.

    Raises:
        FarmError: A builder has no slot.
    """
    kinds = _kinds(builders, paces.hosts)
    crew = _Crew(kinds)
    courses = [(one, *_course(one, crew)) for one in wanted]
    known = [_known(one, able, paces) for one, _, _, able in courses]
    default = _default(known, paces)
    times = [
        tuple(Expected(kind, _filled(s, default), assumed=s is None) for kind, s in found.items())
        for found in known
    ]
    jobs = [
        # Where nothing at all is known, builds are dealt out by their number.
        Job(
            one.status.job.task,
            {e.kind: 1.0 if e.seconds is None else e.seconds for e in expected},
        )
        for (one, *_), expected in zip(courses, times, strict=True)
        if expected
    ]
    made = schedule(jobs, (_worker(one, kind) for kind in kinds for one in kind.builders))
    places = {one.job.name: one for one in made.assigned}
    return Plan(
        engines=tuple(
            Planned(one, course, reason, expected, places.get(one.status.job.task))
            for (one, course, reason, _), expected in zip(courses, times, strict=True)
        ),
        kinds=kinds,
        schedule=made,
        timed=default is not None or not jobs,
    )


class _Crew:
    """Kinds of workers by what they can build."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.here: list[Kind] = []
        self._by_tag: dict[tuple[str, Path], list[Kind]] = {}
        for kind in kinds:
            if kind.here:
                self.here.append(kind)
            first = kind.builders[0]
            for tag in first.tags:
                for corpus in first.corpora:
                    self._by_tag.setdefault((tag, corpus), []).append(kind)

    def with_tag(self, tag: str | None, corpus: Path) -> list[Kind]:
        """Those of a corpus's farm that offer a tag."""
        return [] if tag is None else self._by_tag.get((tag, corpus), [])


def _course(one: Wanted, crew: _Crew) -> tuple[Course, str, list[Kind]]:
    """What becomes of an engine, why, and who can build it."""
    status, job = one.status, one.status.job
    settled = _settled(one)
    if settled is not None:
        return (*settled, [])
    if job.elsewhere is None:
        return Course.HERE, status.reason, crew.here
    able = crew.with_tag(one.tag, job.corpus_path)
    if able:
        # That this host cannot build it is no news where another does.
        return Course.FARM, status.verdict.reason if status.verdict else status.reason, able
    lacking = one.unserved or f"no connected worker offers {one.tag}"
    course = Course.LEFT_OUT if job.skips else Course.NOBODY
    return course, f"{job.elsewhere}; {lacking}", []


def _settled(one: Wanted) -> tuple[Course, str] | None:
    """What becomes of an engine whoever is there to build it, and why; None where that counts."""
    job = one.status.job
    if one.status.fresh:
        return Course.FRESH, ""
    if one.left_out:
        return Course.LEFT_OUT, job.elsewhere or ""
    if one.store is not None:
        return Course.STORED, f"{one.store} has it"
    return None if one.fault is None else (Course.NOBODY, one.fault)


def _known(one: Wanted, able: Iterable[Kind], paces: Paces) -> dict[str, float | None]:
    """Kind to the time that it is known to need, or None."""
    job = one.status.job
    found: dict[str, float | None] = {}
    for kind in able:
        assert isinstance(job, EngineJob)  # noqa: S101 - nobody builds what has no hardware
        seconds = paces.expected(job, kind.builders[0].host)
        lowering = one.lower_here_s if kind.here else one.lower_s
        found[kind.name] = None if seconds is None else seconds + lowering
    return found


def _default(known: Iterable[Mapping[str, float | None]], paces: Paces) -> float | None:
    """What a build counts for of which nothing is known: the median of the others."""
    found = [seconds for times in known for seconds in times.values() if seconds is not None]
    return statistics.median(found) if found else paces.median


def _filled(seconds: float | None, default: float | None) -> float | None:
    return default if seconds is None else seconds


def _kinds(builders: Iterable[Builder], timed: Set[str]) -> tuple[Kind, ...]:
    """Workers by what they build and how fast, as far as that is known."""
    found: dict[object, list[Builder]] = {}
    for one in builders:
        host = one.host if one.host in timed else None
        key = (one.address is None, one.tags, one.corpora, host)
        found.setdefault(key, []).append(msgspec.structs.replace(one, host=host))
    return tuple(Kind(group[0].name, tuple(group)) for group in found.values())


def _worker(one: Builder, kind: Kind) -> Worker:
    return Worker(one.name, kind.name, one.slots)


def _took(one: Planned) -> float:
    return 0.0 if one.assigned is None else one.assigned.finish - one.assigned.start
