"""Schedules: every job once, by who can do it, and done in time."""

from __future__ import annotations

import time
from itertools import chain, combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginery.errors import FarmError
from enginery.farm.bound import most_by_capacity
from enginery.farm.schedule import Job, Schedule, Worker, bound, schedule

TIMES = st.floats(0, 1000, allow_nan=False)
KINDS = st.sampled_from("abcde")
JOBS = st.lists(st.dictionaries(KINDS, TIMES, max_size=4), max_size=30).map(
    lambda found: [Job(str(number), seconds) for number, seconds in enumerate(found)]
)
WORKERS = st.lists(st.tuples(KINDS, st.integers(1, 3)), max_size=8).map(
    lambda found: [Worker(f"w{n}", kind, slots) for n, (kind, slots) in enumerate(found)]
)


def slots_of(workers: list[Worker]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in workers:
        found[one.kind] = found.get(one.kind, 0) + one.slots
    return found


def equal(times: list[float], workers: int) -> Schedule:
    jobs = [Job(str(number), {"k": seconds}) for number, seconds in enumerate(times)]
    return schedule(jobs, [Worker(f"w{n}", "k") for n in range(workers)])


def earliest(times: list[float], workers: int) -> float:
    """The end of the best schedule on equal workers, by trying them all."""
    return min(
        max(
            sum(t for t, w in zip(times, where, strict=True) if w == worker)
            for worker in range(workers)
        )
        for where in product(range(workers), repeat=len(times))
    )


@given(JOBS, WORKERS)
def test_every_job_once_by_who_can_do_it(jobs: list[Job], workers: list[Worker]) -> None:
    made = schedule(jobs, workers)
    assert sorted([one.job.name for one in made.assigned] + [one.name for one in made.left]) == (
        sorted(one.name for one in jobs)
    )
    kinds = {one.name: one.kind for one in workers}
    for one in made.assigned:
        assert kinds[one.worker] == one.kind
        assert one.finish == one.start + one.job.seconds[one.kind]
    assert all(not set(one.seconds) & set(kinds.values()) for one in made.left)


@given(JOBS, WORKERS)
def test_no_worker_has_more_at_a_time_than_slots(jobs: list[Job], workers: list[Worker]) -> None:
    made = schedule(jobs, workers)
    for worker in workers:
        own = [one for one in made.assigned if one.worker == worker.name and one.finish > one.start]
        for one in own:
            at_once = [two for two in own if two.start <= one.start < two.finish]
            assert len(at_once) <= worker.slots
    assert made.busy <= sum(one.slots for one in workers)


@given(JOBS, WORKERS)
def test_nothing_is_done_before_the_bound(jobs: list[Job], workers: list[Worker]) -> None:
    made = schedule(jobs, workers)
    assert made.makespan >= made.bound.seconds * (1 - 1e-6)
    assert made.bound == bound(jobs, slots_of(workers))


@given(st.lists(st.integers(0, 50), max_size=7), st.integers(1, 3))
def test_grahams_bound_on_equal_workers(times: list[int], workers: int) -> None:
    best = earliest([float(one) for one in times], workers)
    made = equal([float(one) for one in times], workers)
    assert made.makespan <= (4 / 3 - 1 / (3 * workers)) * best + 1e-9
    assert made.bound.seconds <= best + 1e-6


def test_grahams_worst_case_is_met() -> None:
    # Two workers and 3, 3, 2, 2, 2: done after 7, and 6 is best.
    assert equal([3, 3, 2, 2, 2], 2).makespan == 7
    assert earliest([3, 3, 2, 2, 2], 2) == 6


@given(
    st.dictionaries(
        st.frozensets(st.sampled_from("abcd"), min_size=1), st.floats(0.1, 100), max_size=7
    ),
    st.fixed_dictionaries({kind: st.integers(1, 4) for kind in "abcd"}),
)
def test_most_by_capacity_is_that_of_the_best_choice(
    work: dict[frozenset[str], float], slots: dict[str, int]
) -> None:
    choices = chain.from_iterable(combinations(work, n) for n in range(1, len(work) + 1))
    most = max(
        (
            sum(work[one] for one in choice)
            / sum(slots[kind] for kind in frozenset().union(*choice))
            for choice in choices
        ),
        default=0.0,
    )
    assert most_by_capacity(work, slots) == pytest.approx(most, rel=1e-6)


def test_the_bound_looks_at_kinds_that_overlap() -> None:
    # Neither pair of workers has more than 6 s each, all three have 8 s each.
    work = {frozenset("ab"): 12.0, frozenset("bc"): 12.0}
    assert most_by_capacity(work, {"a": 1, "b": 1, "c": 1}) == pytest.approx(8)


def test_longest_first_and_where_it_is_done_first() -> None:
    jobs = [Job("short", {"slow": 1.0, "fast": 0.5}), Job("long", {"slow": 9.0, "fast": 4.0})]
    made = schedule(jobs, [Worker("s", "slow"), Worker("f", "fast")])
    assert [(one.job.name, one.worker) for one in made.assigned] == [("long", "f"), ("short", "s")]
    assert (made.makespan, made.work, made.busy) == (4.0, 5.0, 2)


def test_of_two_the_one_that_can_do_less_takes_it() -> None:
    jobs = [Job("either", {"all": 5.0, "one": 5.0}), Job("other", {"all": 5.0})]
    made = schedule(jobs, [Worker("a", "all"), Worker("o", "one")])
    assert {one.job.name: one.worker for one in made.assigned} == {"either": "o", "other": "a"}


def test_nobody_and_nothing() -> None:
    made = schedule([Job("a", {"k": 1.0})], [])
    assert ([one.name for one in made.left], made.makespan, made.busy) == (["a"], 0.0, 0)
    assert schedule([], [Worker("w", "k")]).bound.seconds == 0.0


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(FarmError, match=r"the worker w has 0 slots; give it one"):
        schedule([], [Worker("w", "k", 0)])
    for seconds in (-1.0, float("nan")):
        with pytest.raises(FarmError, match=r"a takes \S+ s; a time is zero or more"):
            schedule([Job("a", {"k": seconds})], [Worker("w", "k")])


def test_a_fleet_of_4000_engines_and_40_workers_takes_no_second() -> None:
    kinds = [f"k{n}" for n in range(40)]
    jobs = [
        Job(str(n), {kinds[(n + step) % 40]: 1.0 + n % 97 for step in range(4)})
        for n in range(4000)
    ]
    began = time.process_time()
    made = schedule(jobs, [Worker(kind, kind) for kind in kinds])
    assert time.process_time() - began < 1
    assert made.makespan <= 1.1 * made.bound.seconds
