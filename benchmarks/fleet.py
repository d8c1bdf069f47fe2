"""A fleet release, simulated: how far its end is from the earliest that there is.

    python benchmarks/fleet.py [--svg docs/fleet.svg] [--seeds 3]

200 backbones for 20 kinds of devices are 4000 builds, on 1 to 40 workers. Build times are drawn
from given distributions, seeded. What is simulated is what Dask's scheduler does with tasks that
need a resource: it deals each out at once, to the worker that can do it with the fewest tasks,
since it knows no time of its own; each worker takes its own by priority, which is the estimate;
one without any takes a task from the worker with the most, whichever it can do. Estimates are
wrong by a factor: the noise. A worker gets its share before anybody knows how long it takes, so
this is no longest-processing-time-first but close to it.

The end is compared with the lower bound of `enginery.farm.bound`: the longest build, and the work
that only some workers can do by their number, for whichever builds that is most. Nothing is
asserted; a ratio above the bar of 1.1 has `over` beside it.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginery.farm.schedule import Job, Worker, bound, schedule

BACKBONES, KINDS = 200, 20
WORKERS = (1, 2, 4, 5, 8, 10, 16, 20, 24, 32, 40)
NOISE = (0.0, 0.3, 1.0)
BAR = 1.1

DISTRIBUTIONS: dict[str, Callable[[random.Random], float]] = {
    # Median two minutes, one in twenty longer than ten.
    "lognormal": lambda r: r.lognormvariate(math.log(120), 1.0),
    # Pareto with the exponent 1.5, whose variance is infinite.
    "heavy tailed": lambda r: 40 * r.paretovariate(1.5),
    # Four networks in five take about a minute, the fifth a quarter of an hour.
    "bimodal": lambda r: r.lognormvariate(math.log(60 if r.random() < 0.8 else 900), 0.2),
}
SERVING = {"one kind": 1, "four kinds": 4, "every kind": KINDS}
"""How many kinds each worker builds for, at the least; fewer workers than kinds build for more."""


@dataclass(frozen=True)
class Build:
    """One engine: for which kind, how long it takes, and how long it is said to take."""

    kind: int
    seconds: float
    estimate: float


@dataclass(frozen=True)
class Row:
    """A figure: the ratio of several seeds, and that of a schedule that knows all times."""

    distribution: str
    serving: str
    workers: int
    noise: float
    ratio: float
    worst: float
    offline: float


def drawn(distribution: str, noise: float, seed: int) -> list[Build]:
    """The builds of a release; the same times whatever the noise."""
    times, errors = (random.Random(seed + more) for more in (0, 1))  # noqa: S311 - a simulation
    speeds = [times.lognormvariate(0, 0.5) for _ in range(KINDS)]
    builds = []
    for _ in range(BACKBONES):
        base = DISTRIBUTIONS[distribution](times)
        for kind, speed in enumerate(speeds):
            seconds = base * speed * times.lognormvariate(0, 0.1)
            wrong = errors.lognormvariate(0, math.log1p(noise)) if noise else 1.0
            builds.append(Build(kind, seconds, seconds * wrong))
    return builds


def served(workers: int, serving: str) -> list[frozenset[int]]:
    """The kinds that each worker builds for: neighbours in a ring, every kind by someone."""
    width = max(SERVING[serving], math.ceil(KINDS / workers))
    if width >= KINDS:
        return [frozenset(range(KINDS))] * workers
    starts = [number * KINDS // workers if workers < KINDS else number for number in range(workers)]
    return [frozenset((start + step) % KINDS for step in range(width)) for start in starts]


def simulated(builds: list[Build], kinds: list[frozenset[int]], seed: int) -> float:
    """When the last build is done, by Dask's rules."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    able = [[w for w, some in enumerate(kinds) if kind in some] for kind in range(KINDS)]
    queues: list[list[int]] = [[] for _ in kinds]
    # The client submits by estimate, longest first; a tie goes to the first worker.
    order = sorted(range(len(builds)), key=lambda i: -builds[i].estimate)
    for index in reversed(order):
        worker = min(able[builds[index].kind], key=lambda w: len(queues[w]))
        queues[worker].append(index)  # the end is what comes first
    free = [(0.0, worker) for worker in range(len(kinds))]
    end = 0.0
    while free:
        now, worker = heapq.heappop(free)
        taken = _taken(builds, queues, kinds, worker, chance)
        if taken is not None:
            finish = now + builds[taken].seconds
            end = max(end, finish)
            heapq.heappush(free, (finish, worker))
    return end


def _taken(
    builds: list[Build],
    queues: list[list[int]],
    kinds: list[frozenset[int]],
    worker: int,
    chance: random.Random,
) -> int | None:
    """The next build of a worker: its own, or one of the worker with the most."""
    if queues[worker]:
        return queues[worker].pop()
    for victim in sorted(range(len(queues)), key=lambda w: -len(queues[w])):
        if not queues[victim]:
            return None
        fit = [i for i in queues[victim] if builds[i].kind in kinds[worker]]
        if fit:
            index = chance.choice(fit)
            queues[victim].remove(index)
            return index
    return None


def rows(seeds: int) -> Iterator[Row]:
    """Every figure."""
    for distribution in DISTRIBUTIONS:
        for serving in SERVING:
            for workers in WORKERS:
                kinds = served(workers, serving)
                for noise in NOISE:
                    yield _row(distribution, serving, kinds, noise, seeds)


def _row(
    distribution: str, serving: str, kinds: list[frozenset[int]], noise: float, seeds: int
) -> Row:
    ratios, offline = [], []
    for seed in range(seeds):
        builds = drawn(distribution, noise, 100 * seed)
        names = ["-".join(map(str, sorted(some))) for some in kinds]
        crew = [Worker(str(number), name) for number, name in enumerate(names)]
        able = [
            [name for name, some in dict(zip(names, kinds, strict=True)).items() if kind in some]
            for kind in range(KINDS)
        ]
        jobs = [
            Job(str(i), dict.fromkeys(able[one.kind], one.seconds)) for i, one in enumerate(builds)
        ]
        least = bound(jobs, {name: names.count(name) for name in names}).seconds
        ratios.append(simulated(builds, kinds, seed) / least)
        if noise == 0:
            offline.append(schedule(jobs, crew).makespan / least)
    return Row(
        distribution,
        serving,
        len(kinds),
        noise,
        statistics.median(ratios),
        max(ratios),
        max(offline, default=math.nan),
    )


def table(found: list[Row]) -> Iterator[str]:
    """The figures in Markdown, a line per fleet."""
    heads = [f"noise {noise:.0%}" for noise in NOISE]
    yield f"| build times | a worker builds for | workers | {' | '.join(heads)} | all times known |"
    yield "| --- | --- | --- | " + "--- | " * (len(heads) + 1)
    for start in range(0, len(found), len(NOISE)):
        group = found[start : start + len(NOISE)]
        cells = " | ".join(_cell(row.worst) for row in group)
        first = group[0]
        yield (
            f"| {first.distribution} | {first.serving} | {first.workers} | {cells} "
            f"| {_cell(first.offline)} |"
        )


def _cell(ratio: float) -> str:
    return f"{ratio:.3f}{' over' if ratio > BAR else ''}"


def picture(found: list[Row]) -> dict[str, Any]:
    """The curves as a Vega-Lite specification: worst ratio by workers."""
    values = [
        {
            "workers": row.workers,
            "ratio": round(row.worst, 3),
            "times": row.distribution,
            "serving": f"a worker builds for {row.serving}",
            "noise": f"{row.noise:.0%}",
        }
        for row in found
    ]
    layers = [
        {
            "mark": {"type": "line", "strokeWidth": 1.5},
            "encoding": {
                "x": {"field": "workers", "type": "quantitative", "title": "workers"},
                "y": {
                    "field": "ratio",
                    "type": "quantitative",
                    "title": "end / lower bound",
                    "scale": {"zero": False},
                },
                "color": {"field": "times", "type": "nominal", "title": "build times"},
                "strokeDash": {
                    "field": "noise",
                    "type": "ordinal",
                    "title": "noise of estimates",
                    "sort": [f"{noise:.0%}" for noise in NOISE],
                },
            },
        },
        {
            "mark": {"type": "rule", "color": "#888888", "strokeDash": [2, 2]},
            "encoding": {"y": {"datum": BAR, "type": "quantitative"}},
        },
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "data": {"values": values},
        "facet": {
            "column": {
                "field": "serving",
                "type": "nominal",
                "title": None,
                "sort": [f"a worker builds for {name}" for name in SERVING],
            }
        },
        "spec": {"width": 230, "height": 200, "layer": layers},
    }


def main(arguments: list[str]) -> None:
    """Print the table, and draw the curves where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--svg", type=Path, help="file for the curves")
    parser.add_argument("--seeds", type=int, default=3, help="releases per figure, the worst shown")
    asked = parser.parse_args(arguments)
    found = list(rows(asked.seeds))
    print(*table(found), sep="\n")
    for noise in NOISE:
        over = [row for row in found if row.noise == noise and row.worst > BAR]
        count = sum(row.noise == noise for row in found)
        print(f"\nnoise {noise:.0%}: {len(over)} of {count} over {BAR}")
    if asked.svg:
        import vl_convert

        # Without what it says to screen readers of each line: the table is beside it.
        drawn = re.sub(
            r' (?:aria|role)[a-z-]*="[^"]*"', "", vl_convert.vegalite_to_svg(picture(found))
        )
        asked.svg.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
