"""The tasks: one per engine, one per lowered model, all through the one compiler."""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.util import register_after_fork
from pathlib import Path
from typing import Any

from doit.doit_cmd import DoitMain
from doit.exceptions import BaseFail, InvalidDodoFile, TaskError, TaskFailed
from doit.task import Task

from .. import lowering, worker
from ..compiler import EngineCompiler
from ..config import CompileOutcome, PrecisionMode
from ..corpus import read_corpus
from ..digest import short
from ..errors import BackboneSpecError, CorpusError, EngineryError
from ..hash_ahead import HashAhead
from ..inputs import InputDigests
from ..jobs import EngineJob, engine_jobs, input_memory
from ..publish import owned_paths, remove
from ..runtimes import load_runtime
from ..verdict import Fault, Verdict
from .uptodate import LoweredUpToDate, VerifiedUpToDate

LOWER = "lower"
"""Prefix of the tasks that lower models; no backbone can have its name."""

_LOGGER = logging.getLogger("enginery")
_TASK_NAMES_TAKEN = frozenset({LOWER, *(command.get_name() for command in DoitMain.DOIT_CMDS)})


def corpus_tasks(path: Path) -> Iterator[dict[str, Any] | Task]:
    """See `enginery.doit.engine_tasks`."""
    try:
        corpus = read_corpus(path)
        for backbone in corpus.backbones:
            if backbone.spec.model_name in _TASK_NAMES_TAKEN:
                name = backbone.spec.model_name
                raise corpus.error(f"backbones.{name}", f"{name!r} is a command; rename it")
        jobs = engine_jobs(corpus)
    except CorpusError as error:
        raise InvalidDodoFile(str(error)) from error
    # doit's worker processes are left behind when doit itself is killed.
    register_after_fork(_LOGGER, lambda _: worker.end_with_parent())
    inputs = InputDigests(input_memory(corpus))
    atexit.register(inputs.save)
    ahead = HashAhead()
    ahead.expect(job.engine_path for job in jobs)
    checkers = {
        job.engine_path: VerifiedUpToDate(partial(_judge_engine, job, inputs, ahead))
        for job in jobs
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
            "targets": [str(one) for one in reversed(owned_paths(job.engine_path))],
            "uptodate": [checkers[job.engine_path]],
            "clean": [RemoveArtifact(job.engine_path)],
            "verbosity": 2,
        }
        if _is_lowered(job):
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
        if _is_lowered(job):
            needed_by.setdefault(_lowered_name(job), []).append(job)
    for name, users in needed_by.items():
        job = users[0]
        precision = job.request.precision
        path = _lowered_path(job)
        # A subtask without a group task: doit would report the group as failed, too, and with
        # another exit code. No doit target: doit would make it where nobody needs it.
        yield Task(
            f"{LOWER}:{name}",
            [LowerModel(job)],
            subtask_of=LOWER,
            doc=f"{job.backbone} in {precision} as ONNX, {path}",
            file_dep=[str(job.spec.onnx_path)],
            uptodate=[
                LoweredUpToDate(
                    partial(_judge_lowered, job, inputs),
                    [checkers[user.engine_path] for user in users],
                )
            ],
            clean=[RemoveArtifact(path)],
            verbosity=2,
        )


@dataclass(frozen=True)
class BuildEngine:
    """The action of an engine's task: through the compiler, so a hit builds nothing."""

    job: EngineJob

    def __call__(self) -> BaseFail | None:
        """Build the engine; what went wrong comes back as doit's failure or error."""
        job = self.job
        try:
            compiler = EngineCompiler(inference_runtime=load_runtime(job.runtime), logger=_logger())
            (result,) = compiler.compile_engines_for_corpus(job.request)
        except (EngineryError, OSError) as error:
            return _failure(job, error)
        size = result.entry.engine_path.stat().st_size / 1e6
        what = f"{result.entry.engine_path.name}: {size:.1f} MB, {short(result.entry.sha256_hex)}"
        if result.outcome is CompileOutcome.REUSED:
            sys.stdout.write(f"{what}, fresh already\n")
        else:
            sys.stdout.write(f"{what}, built in {result.compile_duration_s:.1f} s\n")
        return None


@dataclass(frozen=True)
class LowerModel:
    """The action of a lowering task."""

    job: EngineJob

    def __call__(self) -> BaseFail | None:
        """Lower the model; what went wrong comes back as doit's failure or error."""
        job = self.job
        try:
            lowering.lower(
                job.spec, job.request.precision, _lowered_path(job).parent, InputDigests()
            )
        except (EngineryError, OSError) as error:
            return _failure(job, error)
        return None


@dataclass(frozen=True)
class RemoveArtifact:
    """The clean action: an artifact with its sidecar and provenance, the sidecar first."""

    path: Path

    def __call__(self, dryrun: bool) -> None:
        """Remove it, or only say so."""
        for gone in remove(self.path, dry_run=dryrun):
            sys.stdout.write(f"{gone}\n")

    def __str__(self) -> str:
        """As doit shows it, which cuts the first character off."""
        return f" remove {self.path.name}, its sidecar and provenance"


def _judge_engine(job: EngineJob, inputs: InputDigests, ahead: HashAhead) -> Verdict:
    compiler = EngineCompiler(inference_runtime=load_runtime(job.runtime), logger=_LOGGER)
    return compiler.judge(job.spec, job.request, inputs=inputs, digest=ahead.digest)


def _judge_lowered(job: EngineJob, inputs: InputDigests) -> Verdict:
    try:
        return lowering.judge_lowered(
            job.spec, job.request.precision, _lowered_path(job).parent, inputs
        )
    except EngineryError as error:
        return Verdict(Fault.INPUT, str(error))


def _failure(job: EngineJob, error: Exception) -> BaseFail:
    if isinstance(error, BackboneSpecError):
        # The mistake is in the corpus, not in the build.
        return TaskError(f"{job.corpus_path}: backbones.{job.backbone}.{error.field}: {error}")
    if isinstance(error, OSError):
        return TaskError(f"{job.backbone}: {job.engine_path.name} cannot be written: {error}")
    return TaskFailed(f"{job.backbone}: {error}")


class _Console(logging.Handler):
    """Events for a person at a terminal, where nobody set up logging of his own."""

    def emit(self, record: logging.LogRecord) -> None:
        # doit replaces sys.stderr while a task runs, and reports a task's failure itself.
        if getattr(record, "kind", None) != "c10.engine.compile.error":
            sys.stderr.write(f"{record.getMessage()}\n")


def _logger() -> logging.Logger:
    if not _LOGGER.hasHandlers():
        _LOGGER.addHandler(_Console(logging.WARNING))
    return _LOGGER


def _file_dep(job: EngineJob) -> list[str]:
    calibration = job.request.calibration_path
    return [str(job.spec.onnx_path), *([str(calibration)] if calibration else [])]


def _doc(job: EngineJob) -> str:
    return f"{job.runtime} engine in {job.request.precision} for {job.request.host}"


def _is_lowered(job: EngineJob) -> bool:
    return (
        load_runtime(job.runtime).strongly_typed and job.request.precision is not PrecisionMode.FP32
    )


def _lowered_name(job: EngineJob) -> str:
    return f"{job.backbone}-{job.request.precision}"


def _lowered_path(job: EngineJob) -> Path:
    assert job.request.lowered_root is not None  # noqa: S101 - jobs always set it
    return lowering.path_for(job.request.lowered_root, job.backbone, job.request.precision)
