"""Who builds what, and when it is done: a list schedule, longest processing time first.

Engines are taken in the order of their time, longest first, and each goes to the worker that would
finish it first. On m equal workers the end is at most 4/3 - 1/(3m) times the earliest that there
is (R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", SIAM Journal on Applied Mathematics
17 (1969), 416-429). Where not every worker can build every engine, or one is slower than another,
no such bound holds, and `Bound` is what the end is compared with.

Pure: nothing here knows engines, hosts or Dask.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import count

import msgspec

from ..errors import FarmError
from .bound import Bound, most_by_capacity


class Job(msgspec.Struct, frozen=True):
    """Something to be done once.

    Attributes:
        name: What it is called; no other job is.
        seconds: Kind of worker to how long it takes there, in seconds. A kind that is not in it
            cannot do it.
    """

    name: str
    seconds: Mapping[str, float]

    @property
    def least(self) -> float:
        """How long it takes where it is done fastest; 0.0 where it cannot be done."""
        return min(self.seconds.values(), default=0.0)


class Worker(msgspec.Struct, frozen=True):
    """Who does jobs.

    Attributes:
        name: What it is called; no other worker is.
        kind: Workers of one kind do the same jobs, in the same time.
        slots: How many jobs it does at a time.
    """

    name: str
    kind: str
    slots: int = 1


class Assigned(msgspec.Struct, frozen=True):
    """A job with its worker, and when it begins and ends there, in seconds from the start."""

    job: Job
    worker: str
    kind: str
    start: float
    finish: float


class Schedule(msgspec.Struct, frozen=True):
    """A schedule.

    Attributes:
        assigned: Jobs with their workers, in the order in which they were given away.
        left: Jobs that no worker can do.
        bound: What no schedule of the jobs that can be done ends before.
    """

    assigned: tuple[Assigned, ...]
    left: tuple[Job, ...]
    bound: Bound

    @property
    def makespan(self) -> float:
        """When the last job is done."""
        return max((one.finish for one in self.assigned), default=0.0)

    @property
    def work(self) -> float:
        """Seconds of all jobs together, where they were given."""
        return sum(one.finish - one.start for one in self.assigned)

    @property
    def busy(self) -> int:
        """How many jobs are done at a time at the most, all workers together."""
        changes = sorted(
            change
            for one in self.assigned
            if one.finish > one.start
            for change in ((one.start, 1), (one.finish, -1))
        )
        most = now = 0
        for _, change in changes:
            now += change
            most = max(most, now)
        return most


def schedule(jobs: Iterable[Job], workers: Iterable[Worker]) -> Schedule:
    """Jobs on workers, longest first, each where it would be finished first.

    Two that are as long keep their order. Of two workers that would finish a job at once, the one
    whose kind can do fewer of the jobs takes it.

    Raises:
        FarmError: A worker has no slot, or a job takes less than no time.
    """
    found, crew = list(jobs), list(workers)
    slots = _slots(crew, len(found))
    capacity: Counter[str] = Counter()
    for one in crew:
        capacity[one.kind] += one.slots
    _check(found)
    demand = Counter(kind for job in found for kind in job.seconds)
    assigned, left = [], []
    for job in sorted(found, key=lambda job: -job.least):
        kinds = [kind for kind in job.seconds if kind in slots]
        if not kinds:
            left.append(job)
            continue
        kind = min(kinds, key=lambda k: (slots[k][0][0] + job.seconds[k], demand[k], slots[k][0]))
        start, number, worker = slots[kind][0]
        finish = start + job.seconds[kind]
        heapq.heapreplace(slots[kind], (finish, number, worker))
        assigned.append(Assigned(job, worker, kind, start, finish))
    return Schedule(
        assigned=tuple(assigned),
        left=tuple(left),
        bound=bound(found, capacity),
    )


def bound(jobs: Iterable[Job], slots: Mapping[str, int]) -> Bound:
    """What no schedule is done before.

    Args:
        jobs: The jobs; those that nobody can do are left out.
        slots: Kind of worker to its slots, all workers together.
    """
    work: dict[frozenset[str], float] = {}
    longest = 0.0
    for job in jobs:
        able = frozenset(kind for kind in job.seconds if kind in slots)
        if able:
            least = min(job.seconds[kind] for kind in able)
            work[able] = work.get(able, 0.0) + least
            longest = max(longest, least)
    return Bound(longest, most_by_capacity(work, slots))


def _slots(workers: Iterable[Worker], jobs: int) -> dict[str, list[tuple[float, int, str]]]:
    """Kind of worker to a heap of its slots: when each is free, its number, its worker.

    Of a worker's slots no more count than there are jobs.
    """
    found: dict[str, list[tuple[float, int, str]]] = {}
    numbers = count()
    for worker in workers:
        if worker.slots < 1:
            raise FarmError(f"the worker {worker.name} has {worker.slots} slots; give it one")
        heap = found.setdefault(worker.kind, [])
        heap += [(0.0, next(numbers), worker.name) for _ in range(min(worker.slots, max(jobs, 1)))]
    return found


def _check(jobs: Iterable[Job]) -> None:
    for job in jobs:
        if job.seconds and not job.least >= 0:
            raise FarmError(f"{job.name} takes {job.least} s; a time is zero or more")
