"""A plan as a document: the JSON of `doit plan`. docs/plan.md has the fields.

Fields are never renamed or removed within a version; new ones may come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ..config import PrecisionMode
from ..engine_job import EngineJob, UnknownEngine
from ..status import Condition
from ..status_document import HardwareDocument, text_of
from .fleet import DeviceKind, Serving
from .planning import Course, Plan, Planned

VERSION = 1

_UNBUILT = (Course.NOBODY, Course.LEFT_OUT)


class ExpectedDocument(msgspec.Struct, frozen=True):
    """How long an engine takes a kind of worker."""

    kind: str
    seconds: float | None
    assumed: bool


class PlannedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One engine; see docs/plan.md."""

    corpus: str
    task: str
    backbone: str
    target: str
    precision: PrecisionMode
    runtime: str
    hardware: HardwareDocument | None
    condition: Condition
    course: Course
    reason: str
    store: str | None
    tag: str | None
    worker: str | None
    start_s: float | None
    finish_s: float | None
    expected: tuple[ExpectedDocument, ...]


class WorkerDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Who builds: this host or a worker."""

    name: str
    kind: str
    address: str | None
    slots: int
    tags: tuple[str, ...]
    engines: int
    busy_s: float | None


class TotalsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What the builds take together; times are null where no build is known."""

    builds: int
    at_once: int
    assumed: int
    work_s: float | None
    makespan_s: float | None
    bound_s: float | None
    longest_s: float | None
    longest: str | None


class DeviceDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of device."""

    kind: str
    count: int
    names: tuple[str, ...]
    runtime: str
    hardware: HardwareDocument
    engines: dict[str, tuple[str, ...]]
    without: tuple[str, ...]
    unbuilt: tuple[str, ...]
    courses: dict[str, int]


class PlanDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of all corpora of a dodo.py."""

    version: int = VERSION
    engines: tuple[PlannedDocument, ...]
    workers: tuple[WorkerDocument, ...]
    courses: dict[str, int]
    totals: TotalsDocument
    devices: tuple[DeviceDocument, ...] | None
    notes: tuple[str, ...]


def plan_document(
    plan: Plan, *, devices: tuple[DeviceDocument, ...] | None, notes: Iterable[str]
) -> PlanDocument:
    """The document of a plan.

    Args:
        plan: The plan.
        devices: What serves the fleet; None where there is none.
        notes: What could not be found out.
    """
    return PlanDocument(
        engines=tuple(_engine(one, timed=plan.timed) for one in plan.engines),
        workers=tuple(_workers(plan)),
        courses=courses(plan.engines),
        totals=totals(plan),
        devices=devices,
        notes=tuple(map(text_of, notes)),
    )


def courses(engines: Iterable[Planned]) -> dict[str, int]:
    """How many engines take each course, each course counted."""
    found = {course.value: 0 for course in Course}
    for one in engines:
        found[one.course.value] += 1
    return found


def totals(plan: Plan) -> TotalsDocument:
    """What the builds take together."""
    longest, made, timed = plan.longest, plan.schedule, plan.timed
    return TotalsDocument(
        builds=len(made.assigned),
        at_once=made.busy,
        assumed=plan.assumed,
        work_s=_s(made.work, known=timed),
        makespan_s=_s(made.makespan, known=timed),
        bound_s=_s(made.bound.seconds, known=timed),
        longest_s=_s(made.bound.longest, known=timed),
        longest=longest.job.task if longest is not None and timed else None,
    )


def served(kinds: Iterable[DeviceKind], engines: Iterable[Planned]) -> tuple[DeviceDocument, ...]:
    """What serves each kind of device, in the order of the fleet file."""
    planned = {one.job.task: one for one in engines}
    backbones = dict.fromkeys(one.job.name for one in planned.values())
    serving = Serving(kinds)
    jobs = [one.job for one in planned.values() if isinstance(one.job, EngineJob)]
    found = serving.engines(jobs)
    return tuple(_device(kind, found[kind.name], planned, backbones) for kind in serving.kinds)


def _device(
    kind: DeviceKind,
    found: Mapping[str, list[EngineJob]],
    planned: Mapping[str, Planned],
    backbones: Iterable[str],
) -> DeviceDocument:
    return DeviceDocument(
        kind=kind.name,
        count=kind.count,
        names=kind.names,
        runtime=kind.runtime,
        hardware=HardwareDocument(
            () if kind.sm is None else (kind.sm,), kind.jetpack, kind.trt, kind.cpu
        ),
        engines={name: tuple(job.task for job in jobs) for name, jobs in found.items()},
        without=tuple(name for name in backbones if name not in found),
        unbuilt=tuple(
            name
            for name, jobs in found.items()
            if all(planned[job.task].course in _UNBUILT for job in jobs)
        ),
        courses=courses(planned[job.task] for jobs in found.values() for job in jobs),
    )


def _engine(one: Planned, *, timed: bool) -> PlannedDocument:
    status, job, place = one.wanted.status, one.job, one.assigned
    return PlannedDocument(
        corpus=text_of(job.corpus_path),
        task=job.task,
        backbone=job.name,
        target=job.target,
        precision=status.precision,
        runtime=job.runtime,
        hardware=_hardware(job),
        condition=status.condition,
        course=one.course,
        reason=text_of(one.reason),
        store=None if one.wanted.store is None else text_of(one.wanted.store),
        tag=one.wanted.tag,
        worker=None if place is None else place.worker,
        start_s=None if place is None else _s(place.start, known=timed),
        finish_s=None if place is None else _s(place.finish, known=timed),
        expected=tuple(ExpectedDocument(e.kind, _s(e.seconds), e.assumed) for e in one.expected),
    )


def _workers(plan: Plan) -> Iterator[WorkerDocument]:
    engines: dict[str, int] = {}
    busy: dict[str, float] = {}
    for one in plan.schedule.assigned:
        engines[one.worker] = engines.get(one.worker, 0) + 1
        busy[one.worker] = busy.get(one.worker, 0.0) + one.finish - one.start
    for kind in plan.kinds:
        for worker in kind.builders:
            yield WorkerDocument(
                name=worker.name,
                kind=kind.name,
                address=worker.address,
                slots=worker.slots,
                tags=tuple(sorted(worker.tags)),
                engines=engines.get(worker.name, 0),
                busy_s=_s(busy.get(worker.name, 0.0), known=plan.timed),
            )


def _hardware(job: EngineJob | UnknownEngine) -> HardwareDocument | None:
    if isinstance(job, UnknownEngine):
        return None
    host = job.request.host
    return HardwareDocument(host.capabilities, host.jetpack, host.trt, host.cpu)


def _s(seconds: float | None, *, known: bool = True) -> float | None:
    return None if seconds is None or not known else round(seconds, 3)
