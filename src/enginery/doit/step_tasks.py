"""Tasks of the steps: lowered models, their checks and calibration caches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from doit.task import Task

from ..config import PrecisionMode
from ..corpus import Corpus
from ..corpus_backbones import CorpusBackbone
from ..engine_job import EngineJob
from ..inputs import InputDigests
from ..publish import owned_paths
from ..verdict import Verdict
from .actions import Calibrate, CheckModel, LowerModel, RemoveArtifact, calibration
from .this_run import is_asked_for, shared
from .uptodate import LoweredUpToDate, VerifiedUpToDate

LOWER, CALIBRATE, CHECK = "lower", "calibrate", "check"
"""Prefixes of the tasks besides those of engines; no backbone can have such a name."""


def step_tasks(
    corpus: Corpus,
    jobs: tuple[EngineJob, ...],
    checkers: dict[Path, VerifiedUpToDate],
    inputs: InputDigests,
) -> Iterator[Task]:
    """Tasks of all steps of a corpus.

    Args:
        corpus: The corpus.
        jobs: Its engines.
        checkers: Path of an engine to its checker: a model is lowered where an engine needs it.
        inputs: Digests of inputs.
    """
    lowered = _by_lowered_model(jobs)
    checks = {
        name: users
        for name, users in lowered.items()
        if _is_declared(users[0].backbone) or is_asked_for(CHECK)
    }
    checked = {name: VerifiedUpToDate(partial(_judge_check, users, inputs))
               for name, users in checks.items()}  # fmt: skip
    yield from _lowering_tasks(lowered, checkers, checked, inputs)
    yield from _check_tasks(checks, checked)
    yield from _calibration_tasks(corpus, inputs)


def setup_of(job: EngineJob) -> list[str]:
    """The steps that an engine's task waits for where it is to be built."""
    if not job.plan.is_lowered:
        return []
    setup = [] if job.elsewhere else [f"{LOWER}:{_lowered_name(job)}"]
    # An engine that came from elsewhere is checked here.
    there = not job.elsewhere or job.farm or os.path.lexists(job.plan.path)
    if job.backbone.require_check and there:
        setup.append(f"{CHECK}:{_check_name(job)}")
    return setup


def file_dep(job: EngineJob) -> list[str]:
    """What doit is told that an engine depends on."""
    cache = job.request.calibration_path
    # Where nothing but int8 could need it, one that is not there is no input.
    needed = cache and (job.request.precision is PrecisionMode.INT8 or cache.exists())
    return [str(job.plan.spec.onnx_path), *([str(cache)] if needed else [])]


def _lowering_tasks(
    lowered: dict[str, list[EngineJob]],
    checkers: dict[Path, VerifiedUpToDate],
    checked: dict[str, VerifiedUpToDate],
    inputs: InputDigests,
) -> Iterator[Task]:
    for name, users in lowered.items():
        job = users[0]
        step = job.plan.lowering()
        needed_by = [checkers[user.plan.path] for user in users if user.elsewhere is None]
        if name in checked:
            needed_by.append(checked[name])
        # A subtask without a group task: doit would report the group as failed, too, and with
        # another exit code. No doit target: doit would make it where nobody needs it.
        yield Task(
            f"{LOWER}:{name}",
            [LowerModel(job, tuple(user for user in users if not user.elsewhere), name in checked)],
            subtask_of=LOWER,
            doc=f"{job.name} in {job.request.precision} as ONNX, {step.path}",
            file_dep=file_dep(job),
            uptodate=[LoweredUpToDate(partial(step.judge, inputs), needed_by)],
            clean=[RemoveArtifact(step.path, lowered=True, report=job.check_path)],
            verbosity=2,
        )


def _check_tasks(
    checks: dict[str, list[EngineJob]], checked: dict[str, VerifiedUpToDate]
) -> Iterator[Task]:
    groups: dict[str, list[str]] = {}
    for name, users in checks.items():
        job = users[0]
        task = f"{CHECK}:{_check_name(job)}"
        groups.setdefault(job.name, []).append(task)
        yield Task(
            task,
            [CheckModel(job, tuple(users))],
            subtask_of=CHECK,
            doc=f"compares {job.name} in {job.request.precision} with the original",
            file_dep=file_dep(job),
            setup=[f"{LOWER}:{name}"],
            uptodate=[checked[name]],
            clean=[RemoveArtifact(job.check().path)],
            verbosity=2,
        )
    for backbone, names in groups.items():
        if len(names) > 1:
            yield Task(f"{CHECK}:{backbone}", None, subtask_of=CHECK, task_dep=names,
                       doc=f"checks of {backbone}")  # fmt: skip
    yield from _group(
        CHECK, [name for names in groups.values() for name in names], "checks of lowered models"
    )


def _calibration_tasks(corpus: Corpus, inputs: InputDigests) -> Iterator[Task]:
    names = []
    for backbone in corpus.backbones:
        if backbone.calibrate is None:
            continue
        step = calibration(backbone)
        names.append(f"{CALIBRATE}:{backbone.spec.model_name}")
        yield Task(
            names[-1],
            [Calibrate(backbone, corpus.path)],
            subtask_of=CALIBRATE,
            doc=f"calibration cache of {backbone.spec.model_name}, {step.path}",
            file_dep=[str(backbone.spec.onnx_path)],
            targets=[str(one) for one in reversed(owned_paths(step.path))],
            uptodate=[VerifiedUpToDate(partial(step.judge, inputs))],
            clean=[RemoveArtifact(step.path, proved=True)],
            verbosity=2,
        )
    yield from _group(CALIBRATE, names, "calibration caches")


def _group(name: str, members: list[str], doc: str) -> Iterator[Task]:
    """A group that several corpora of one dodo.py share; doit takes a name only once."""
    groups: dict[str, Task] = shared("_enginery_groups", {})
    if name in groups:
        groups[name].task_dep.extend(members)
    elif members or is_asked_for(name):
        groups[name] = Task(name, None, task_dep=members, has_subtask=True, doc=doc)
        yield groups[name]


def _by_lowered_model(jobs: tuple[EngineJob, ...]) -> dict[str, list[EngineJob]]:
    found: dict[str, list[EngineJob]] = {}
    for job in jobs:
        if job.plan.is_lowered:
            found.setdefault(_lowered_name(job), []).append(job)
    return found


def _is_declared(backbone: CorpusBackbone) -> bool:
    return backbone.checked or backbone.require_check


def _judge_check(users: list[EngineJob], inputs: InputDigests) -> Verdict:
    from ..accuracy.step import judge_check

    verdict = judge_check(users[0].check(), inputs)
    for job in users:
        if verdict.fresh and job.runs_here():
            verdict = judge_check(job.engine_check(), inputs)
    return verdict


def _lowered_name(job: EngineJob) -> str:
    return f"{job.name}-{job.request.precision}"


def _check_name(job: EngineJob) -> str:
    """`<backbone>`, or `<backbone>:<precision>` where there are several that are lowered."""
    lowered = [mode for mode in job.backbone.precisions if mode is not PrecisionMode.FP32]
    return f"{job.name}:{job.request.precision}" if len(lowered) > 1 else job.name
