"""The figure of `doit plan`: a fleet of 10,000 devices of 20 kinds, and 200 backbones.

    python benchmarks/plan.py

A corpus of 4,000 engines, a target for each kind: none is there and nobody can build them; all are
fresh; one target in twenty is built here, and the builds of the others are the history. Each is
planned by a doit of its own, from start to end; the plan by itself, with 40 workers that are not
there, is timed in this process. Nothing is asserted of a time; one above the bar of 2 s has `over`
beside it.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from pairs import DOIT, ENVIRONMENT, machine

from enginery import provenance
from enginery.corpus import read_corpus
from enginery.digest import sha256_bytes
from enginery.engine_job import EngineJob
from enginery.farm.fleet import read_fleet
from enginery.farm.pace import Paces, past_in
from enginery.farm.plan_document import plan_document, served
from enginery.farm.planning import HERE, Builder, Wanted, make_plan
from enginery.farm.tags import resource_of
from enginery.inputs import InputDigests
from enginery.jobs import corpus_jobs
from enginery.publish import publish
from enginery.runtimes import load_runtime
from enginery.status import Condition, EngineStatus
from enginery.verdict import Fault, Verdict

BACKBONES, KINDS, DEVICES, WORKERS = 200, 20, 10_000, 40
BAR, RUNS = 2.0, 5
DODO = """\
from enginery.doit import doit_config, engine_tasks
DOIT_CONFIG = doit_config()
def task_engines():
    yield from engine_tasks("corpus.toml")
"""
HARDWARE = """\
runtime = "tensorrt"
sm = 87
jetpack = "6.{kind}"
trt = "10.3.0.30"
"""


class Took(NamedTuple):
    """Seconds of a clock, and those that a CPU worked: they differ on a machine that is busy."""

    wall: float
    cpu: float


def write(folder: Path) -> None:
    """A corpus with a target for each kind of device, and the fleet."""
    folder.mkdir(parents=True)
    (folder / "dodo.py").write_text(DODO)
    kinds = range(KINDS)
    targets = ", ".join(f'"t{kind}"' for kind in kinds)
    tables = [f"schema = 1\n[corpus]\ntargets = [{targets}]\n[store]\nlocal = false\n"]
    tables += [f"[targets.t{kind}]\n{HARDWARE.format(kind=kind)}" for kind in kinds]
    for number in range(BACKBONES):
        name = f"m{number}"
        (folder / f"{name}.onnx").write_bytes(b"model %d" % number)
        tables.append(
            f'[backbones.{name}]\nonnx = "{name}.onnx"\nexpected_input_shape = [1, 3, 16, 16]\n'
        )
    (folder / "corpus.toml").write_text("".join(tables))
    devices = ["schema = 1\n"]
    for kind in kinds:
        names = [f"device-{number}" for number in range(kind, DEVICES, KINDS)]
        devices.append(
            f"[devices.k{kind}]\n{HARDWARE.format(kind=kind)}names = {json.dumps(names)}\n"
        )
    (folder / "fleet.toml").write_text("".join(devices))


def build(job: EngineJob, inputs: InputDigests, seconds: float) -> None:
    """Publish a few bytes as an engine that took so long."""
    data = job.plan.path.name.encode()
    started = datetime.now(timezone.utc) - timedelta(seconds=seconds)
    document = provenance.write_statement(
        job.plan.path,
        sha256_bytes(data),
        job.plan.recipe(inputs),
        dependencies={},
        versions={},
        started=started,
    )
    temporary = job.plan.path.with_suffix(".new")
    temporary.write_bytes(data)
    publish(temporary, job.plan.path, sha256_bytes(data), document)


def whole(folder: Path, **courses: int) -> list[Took]:
    """Times of `doit plan --inventory fleet.toml --json`, start and end of the process included.

    Holds that so many engines take each course: a figure of something else would be worthless.
    """
    times = []
    for _ in range(RUNS + 1):
        began, used = time.perf_counter(), _of_children()
        done = subprocess.run(
            [*DOIT, "plan", "--inventory", "fleet.toml", "--json"],
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            check=True,
        )
        times.append(Took(time.perf_counter() - began, _of_children() - used))
    found = json.loads(done.stdout)
    assert {name: n for name, n in found["courses"].items() if n} == courses
    assert sum(kind["count"] for kind in found["devices"]) == DEVICES
    return times[1:]


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def pure(folder: Path) -> list[Took]:
    """Times of the plan by itself: everything is to be built, by 40 workers for two kinds each."""
    corpus = read_corpus(folder / "corpus.toml")
    jobs = corpus_jobs(corpus).engines
    kinds = read_fleet(folder / "fleet.toml")
    runtime = load_runtime("tensorrt")
    tags = {job.target: resource_of(runtime, job.request.host) for job in jobs}
    every = list(tags.values())
    absent = Verdict(Fault.ABSENT, "it is not there")
    wanted = [
        Wanted(EngineStatus(job, Condition.ELSEWHERE, "", absent), tag=tags[job.target])
        for job in jobs
    ]
    builders = [Builder(HERE)] + [
        Builder(
            f"w{number}",
            address=f"tcp://10.0.0.{number}:1",
            tags=frozenset((every[number % KINDS], every[(number + 1) % KINDS])),
            host=f"10.0.0.{number}",
            corpora=frozenset((corpus.path,)),
        )
        for number in range(WORKERS)
    ]
    past = list(past_in(corpus.engines, {}))
    times = []
    for _ in range(RUNS):
        began, used = time.perf_counter(), time.process_time()
        plan = make_plan(wanted, builders, Paces(past, lambda _: {}))
        plan_document(plan, devices=served(kinds, plan.engines), notes=())
        times.append(Took(time.perf_counter() - began, time.process_time() - used))
    assert len(plan.schedule.assigned) == len(jobs)
    return times


def row(name: str, times: list[Took]) -> str:
    """A row of the table."""
    walls = [one.wall for one in times]
    median, cpu = statistics.median(walls), statistics.median(one.cpu for one in times)
    over = " over" if median > BAR else ""
    return (
        f"| {name} | {median:.2f} s{over} ({min(walls):.2f} to {max(walls):.2f}) | {cpu:.2f} s "
        f"| {BAR:.0f} s |"
    )


def main() -> None:
    """Print the table."""
    work = Path(tempfile.mkdtemp(prefix="plan-"))
    try:
        folder = work / "fleet"
        write(folder)
        print(f"{machine()}\n\n| what | time | of it CPU | bar |\n| --- | --- | --- | --- |")
        print(row("`doit plan --inventory --json`, no engine is there", whole(folder, nobody=4000)))
        inputs = InputDigests()
        for number, job in enumerate(corpus_jobs(read_corpus(folder / "corpus.toml")).engines):
            job.plan.path.parent.mkdir(exist_ok=True)
            build(job, inputs, 10 + number % 600)
        print(row("the same, all are fresh", whole(folder, fresh=4000)))
        print(row("the plan by itself, 4,000 builds on 40 workers", pure(folder)))
        text = (folder / "corpus.toml").read_text()
        (folder / "corpus.toml").write_text(text.replace("6.0", "6.90"))
        print(row("one kind in twenty is built here, the others fresh", here(folder)))
    finally:
        shutil.rmtree(work)


def here(folder: Path) -> list[Took]:
    """Times where this host is declared to be of one kind, whose 200 engines are not there."""
    ENVIRONMENT["ENGINERY_HOST"] = "sm=87 jetpack=6.90 trt=10.3.0.30"
    return whole(folder, here=200, fresh=3800)


if __name__ == "__main__":
    main()
