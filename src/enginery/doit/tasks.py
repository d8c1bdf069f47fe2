"""The tasks: one per engine, one per lowered model, all through the one compiler."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from doit.doit_cmd import DoitMain
from doit.exceptions import InvalidDodoFile
from doit.globals import Globals
from doit.task import Task

from ..config import PrecisionMode
from ..corpus import Corpus, CorpusBackbone, read_corpus
from ..errors import CorpusError
from ..hash_ahead import HashAhead
from ..inputs import InputDigests
from ..jobs import EngineJob, engine_jobs, input_memory, lowered_root
from ..publish import clear_abandoned, owned_paths
from ..verdict import Verdict
from .actions import (
    BuildEngine,
    Calibrate,
    CheckModel,
    LowerModel,
    RemoveArtifact,
    calibration,
)
from .uptodate import LoweredUpToDate, VerifiedUpToDate

LOWER, CALIBRATE, CHECK = "lower", "calibrate", "check"
"""Prefixes of the tasks besides those of engines; no backbone can have such a name."""

_COMMANDS = frozenset(command.get_name() for command in DoitMain.DOIT_CMDS)
_NAMES_TAKEN = _COMMANDS | {LOWER, CALIBRATE, CHECK}


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
    if _is_run():
        for folder in (corpus.engines, lowered_root(corpus)):
            atexit.register(clear_abandoned, folder)
    ahead = HashAhead()
    sys.excepthook = partial(_end_quietly_on_ctrl_c, sys.excepthook)
    if hasattr(os, "register_at_fork"):
        # doit's worker processes would outlive a doit that is killed.
        os.register_at_fork(after_in_child=_end_with_doit)
    ahead.expect(job.plan.path for job in jobs)
    checkers = {
        job.plan.path: VerifiedUpToDate(partial(job.judge, inputs, ahead.digest)) for job in jobs
    }
    yield from _engine_tasks(jobs, checkers)
    lowered = _by_lowered_model(jobs)
    checks = {
        name: users
        for name, users in lowered.items()
        if _is_declared(users[0].backbone) or _is_asked_for(CHECK)
    }
    checked = {name: VerifiedUpToDate(partial(_judge_check, users, inputs))
               for name, users in checks.items()}  # fmt: skip
    yield from _lowering_tasks(lowered, checkers, checked, inputs)
    yield from _check_tasks(checks, checked)
    yield from _calibration_tasks(corpus, inputs)


def _engine_tasks(
    jobs: tuple[EngineJob, ...], checkers: dict[Path, VerifiedUpToDate]
) -> Iterator[dict[str, Any]]:
    groups: set[str] = set()
    for job in jobs:
        task: dict[str, Any] = {
            "basename": job.name,
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
            if job.backbone.require_check:
                task["setup"].append(f"{CHECK}:{_check_name(job)}")
        if job.variant is not None:
            if job.name not in groups:
                groups.add(job.name)
                yield {"basename": job.name, "name": None, "doc": f"engines of {job.name}"}
            task["name"] = job.variant
        yield task


def _lowering_tasks(
    lowered: dict[str, list[EngineJob]],
    checkers: dict[Path, VerifiedUpToDate],
    checked: dict[str, VerifiedUpToDate],
    inputs: InputDigests,
) -> Iterator[Task]:
    for name, users in lowered.items():
        job = users[0]
        step = job.plan.lowering()
        needed_by = [checkers[user.plan.path] for user in users]
        if name in checked:
            needed_by.append(checked[name])
        # A subtask without a group task: doit would report the group as failed, too, and with
        # another exit code. No doit target: doit would make it where nobody needs it.
        yield Task(
            f"{LOWER}:{name}",
            [LowerModel(job)],
            subtask_of=LOWER,
            doc=f"{job.name} in {job.request.precision} as ONNX, {step.path}",
            file_dep=_file_dep(job),
            uptodate=[LoweredUpToDate(partial(step.judge, inputs), needed_by)],
            clean=[RemoveArtifact(step.path, lowered=True)],
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
            file_dep=_file_dep(job),
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
    run = Globals.dep_manager
    groups: dict[str, Task] = {} if run is None else run.__dict__.setdefault("_enginery", {})
    if name in groups:
        groups[name].task_dep.extend(members)
    elif members or _is_asked_for(name):
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


def _is_asked_for(what: str) -> bool:
    """Whether the command line names such a task: doit has no task that runs only when asked."""
    return any(argument.partition(":")[0] == what for argument in sys.argv[1:])


def _is_run() -> bool:
    """Whether doit is going to run tasks, and not to list, clean or explain them."""
    return sys.argv[1:2] == ["run"] or not _COMMANDS.intersection(sys.argv[1:2])


def _judge_check(users: list[EngineJob], inputs: InputDigests) -> Verdict:
    from ..accuracy.step import has_gpu, judge_check

    verdict = judge_check(users[0].check(), inputs)
    for job in users if has_gpu() else ():
        if verdict.fresh and job.plan.path.exists():
            verdict = judge_check(job.engine_check(), inputs)
    return verdict


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


def _end_with_doit() -> None:
    from ..worker import end_with_parent

    end_with_parent()


def _file_dep(job: EngineJob) -> list[str]:
    cache = job.request.calibration_path
    # Where nothing but int8 could need it, one that is not there is no input.
    needed = cache and (job.request.precision is PrecisionMode.INT8 or cache.exists())
    return [str(job.plan.spec.onnx_path), *([str(cache)] if needed else [])]


def _doc(job: EngineJob) -> str:
    return f"{job.runtime} engine in {job.request.precision} for {job.request.host}"


def _lowered_name(job: EngineJob) -> str:
    return f"{job.name}-{job.request.precision}"


def _check_name(job: EngineJob) -> str:
    """`<backbone>`, or `<backbone>:<precision>` where there are several that are lowered."""
    lowered = [mode for mode in job.backbone.precisions if mode is not PrecisionMode.FP32]
    return f"{job.name}:{job.request.precision}" if len(lowered) > 1 else job.name
