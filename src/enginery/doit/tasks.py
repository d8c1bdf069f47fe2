"""The tasks: one per engine, one per lowered model, all through the one compiler."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.util import register_after_fork
from pathlib import Path
from types import TracebackType
from typing import Any

from doit.doit_cmd import DoitMain
from doit.exceptions import InvalidDodoFile
from doit.task import Task

from ..corpus import read_corpus
from ..errors import CorpusError, EngineryError
from ..hash_ahead import HashAhead
from ..inputs import InputDigests
from ..jobs import EngineJob, engine_jobs, input_memory
from ..publish import owned_paths
from ..verdict import Fault, Verdict
from .actions import BuildEngine, LowerModel, RemoveArtifact
from .uptodate import LoweredUpToDate, VerifiedUpToDate

LOWER = "lower"
"""Prefix of the tasks that lower models; no backbone can have its name."""

_NAMES_TAKEN = frozenset({LOWER, *(command.get_name() for command in DoitMain.DOIT_CMDS)})


def corpus_tasks(path: Path) -> Iterator[dict[str, Any] | Task]:
    """See `enginery.doit.engine_tasks`."""
    try:
        corpus = read_corpus(path)
        for backbone in corpus.backbones:
            if backbone.spec.model_name in _NAMES_TAKEN:
                name = backbone.spec.model_name
                raise corpus.error(f"backbones.{name}", f"{name!r} is a command; rename it")
        jobs = engine_jobs(corpus)
    except CorpusError as error:
        raise InvalidDodoFile(str(error)) from error
    inputs = InputDigests(input_memory(corpus))
    atexit.register(inputs.save)
    ahead = HashAhead()
    sys.excepthook = partial(_end_quietly_on_ctrl_c, sys.excepthook)
    # doit's worker processes would outlive a doit that is killed.
    register_after_fork(ahead, _end_with_doit)
    ahead.expect(job.plan.path for job in jobs)
    checkers = {
        job.plan.path: VerifiedUpToDate(partial(_judge_engine, job, inputs, ahead)) for job in jobs
    }
    yield from _engine_tasks(jobs, checkers)
    yield from _lowering_tasks(jobs, checkers, inputs)


def _engine_tasks(
    jobs: tuple[EngineJob, ...], checkers: dict[Path, VerifiedUpToDate]
) -> Iterator[dict[str, Any]]:
    groups: set[str] = set()
    for job in jobs:
        task: dict[str, Any] = {
            "basename": job.backbone,
            "doc": _doc(job),
            "actions": [BuildEngine(job)],
            "file_dep": _file_dep(job),
            "targets": [str(one) for one in reversed(owned_paths(job.plan.path))],
            "uptodate": [checkers[job.plan.path]],
            "clean": [RemoveArtifact(job.plan.path)],
            "verbosity": 2,
        }
        if job.plan.is_lowered:
            task["setup"] = [f"{LOWER}:{_lowered_name(job)}"]
        if job.variant is not None:
            if job.backbone not in groups:
                groups.add(job.backbone)
                yield {"basename": job.backbone, "name": None, "doc": f"engines of {job.backbone}"}
            task["name"] = job.variant
        yield task


def _lowering_tasks(
    jobs: tuple[EngineJob, ...], checkers: dict[Path, VerifiedUpToDate], inputs: InputDigests
) -> Iterator[Task]:
    needed_by: dict[str, list[EngineJob]] = {}
    for job in jobs:
        if job.plan.is_lowered:
            needed_by.setdefault(_lowered_name(job), []).append(job)
    for name, users in needed_by.items():
        job = users[0]
        precision = job.request.precision
        path = job.plan.model_path
        # A subtask without a group task: doit would report the group as failed, too, and with
        # another exit code. No doit target: doit would make it where nobody needs it.
        yield Task(
            f"{LOWER}:{name}",
            [LowerModel(job)],
            subtask_of=LOWER,
            doc=f"{job.backbone} in {precision} as ONNX, {path}",
            file_dep=[str(job.plan.spec.onnx_path)],
            uptodate=[
                LoweredUpToDate(
                    partial(_judge_lowered, job, inputs),
                    [checkers[user.plan.path] for user in users],
                )
            ],
            clean=[RemoveArtifact(path)],
            verbosity=2,
        )


def _judge_engine(job: EngineJob, inputs: InputDigests, ahead: HashAhead) -> Verdict:
    return job.plan.judge(inputs, digest=ahead.digest)


def _judge_lowered(job: EngineJob, inputs: InputDigests) -> Verdict:
    from .. import lowering

    try:
        return lowering.judge_lowered(
            job.plan.spec, job.request.precision, job.plan.model_path.parent, inputs
        )
    except EngineryError as error:
        return Verdict(Fault.INPUT, str(error))


def _end_quietly_on_ctrl_c(
    show: Callable[..., object],
    kind: type[BaseException],
    error: BaseException,
    traceback: TracebackType | None,
) -> None:
    """Say one line on Ctrl-C, which doit lets end it with a traceback of its own inside."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("\ninterrupted; engines that were finished stay, run again to go on\n")
    else:
        show(kind, error, traceback)


def _end_with_doit(_: object) -> None:
    from ..worker import end_with_parent

    end_with_parent()


def _file_dep(job: EngineJob) -> list[str]:
    calibration = job.request.calibration_path
    return [str(job.plan.spec.onnx_path), *([str(calibration)] if calibration else [])]


def _doc(job: EngineJob) -> str:
    return f"{job.runtime} engine in {job.request.precision} for {job.request.host}"


def _lowered_name(job: EngineJob) -> str:
    return f"{job.backbone}-{job.request.precision}"
