"""The tasks of a corpus: one per engine, and those of the steps before it."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidDodoFile
from doit.task import Task

from ..corpus import Corpus, read_corpus
from ..engine_job import EngineJob, UnknownEngine
from ..errors import EngineryError
from ..hash_ahead import HashAhead
from ..inputs import InputDigests
from ..jobs import CorpusJobs, corpus_jobs, input_memory, lowered_root
from ..publish import owned_paths
from ..trust import read_keys
from .actions import BuildEngine, RemoveArtifact
from .elsewhere import LeftOut, engine_doc, unknown_task, wait_for
from .step_tasks import CALIBRATE, CHECK, LOWER, file_dep, setup_of, step_tasks
from .this_run import COMMANDS, corpora, is_run, prepare, shared
from .uptodate import VerifiedUpToDate

_NAMES_TAKEN = COMMANDS | {LOWER, CALIBRATE, CHECK}


def corpus_tasks(path: Path) -> Iterator[Task]:
    """See `enginery.doit.engine_tasks`."""
    corpus, found = _read(path)
    corpora().append((corpus, found))
    inputs = InputDigests(input_memory(corpus))
    atexit.register(inputs.save)
    prepare(corpus.engines, lowered_root(corpus))
    ahead = HashAhead()
    ahead.expect(job.plan.path for job in found.engines)
    checkers = {
        job.plan.path: VerifiedUpToDate(partial(job.judge, inputs, ahead.digest))
        for job in found.engines
    }
    here = [
        _engine_task(job, checkers[job.plan.path]) for job in found.engines if not job.elsewhere
    ]
    on_farm = [
        _engine_task(job, checkers[job.plan.path])
        for job in found.engines
        if job.elsewhere and job.farm
    ]
    others = list(_elsewhere_tasks(found, checkers))
    aliases = list(_alias_tasks(found))
    yield from here
    yield from step_tasks(corpus, found.engines, checkers, inputs)
    yield from on_farm
    yield from others
    yield from aliases
    yield from _engine_groups([*here, *on_farm, *aliases, *others])
    if is_run():
        # Of all corpora of this dodo.py.
        built: list[Task] = shared("_enginery_here", [])
        failing: list[Task] = shared("_enginery_elsewhere", [])
        built += [*here, *on_farm]
        failing += others
        wait_for(failing, built)


def _read(path: Path) -> tuple[Corpus, CorpusJobs]:
    try:
        corpus = read_corpus(path)
        for backbone in corpus.backbones:
            if backbone.spec.model_name in _NAMES_TAKEN:
                name = backbone.spec.model_name
                raise corpus.error(f"backbones.{name}", f"{name!r} is a command; rename it")
        if corpus.store.policy.demands("local"):
            # Every engine is going to be judged by them; one word about a key is enough.
            read_keys(corpus.store.policy)
        return corpus, corpus_jobs(corpus)
    except EngineryError as error:
        raise InvalidDodoFile(str(error)) from error


def _engine_task(
    job: EngineJob,
    checker: VerifiedUpToDate,
    also: tuple[EngineJob | UnknownEngine, ...] = (),
) -> Task:
    return Task(
        job.task,
        [BuildEngine(job, also)],
        file_dep=file_dep(job),
        setup=setup_of(job),
        targets=[str(one) for one in reversed(owned_paths(job.plan.path))],
        uptodate=[checker],
        **_of_engine(job),
    )


def _elsewhere_tasks(found: CorpusJobs, checkers: dict[Path, VerifiedUpToDate]) -> Iterator[Task]:
    """Tasks of engines that nobody builds: one that is there and fresh is up to date."""
    nobodys = [job for job in found.elsewhere if isinstance(job, UnknownEngine) or job.farm is None]
    # Only a run names those after the one that fails.
    failing = [job for job in nobodys if not job.skips] if is_run() else []
    places = {job.task: place for place, job in enumerate(failing)}
    for job in nobodys:
        also = () if job.skips else tuple(failing[places.get(job.task, 0) + 1 :])
        if isinstance(job, UnknownEngine):
            yield unknown_task(job, also)
        elif job.skips:
            # Without file_dep: doit would run it for want of a record.
            checker = LeftOut(job, checkers[job.plan.path])
            yield Task(job.task, [BuildEngine(job)], uptodate=[checker], title=checker.title,
                       **_of_engine(job))  # fmt: skip
        else:
            yield _engine_task(job, checkers[job.plan.path], also)


def _alias_tasks(found: CorpusJobs) -> Iterator[Task]:
    """Tasks of the target `host` where it is a target with a name of its own, too."""
    for name, job in found.aliases.items():
        yield Task(name, None, task_dep=[job.task], subtask_of=job.name,
                   doc=f"this host is another target: {job.task}")  # fmt: skip


def _of_engine(job: EngineJob) -> dict[str, Any]:
    return {
        "subtask_of": job.name if job.variant else None,
        "doc": engine_doc(job),
        "clean": [RemoveArtifact(job.plan.path, report=job.engine_check_path, job=job)],
        "verbosity": 2,
    }


def _engine_groups(tasks: list[Task]) -> Iterator[Task]:
    groups: dict[str, list[str]] = {}
    for task in tasks:
        if task.subtask_of:
            groups.setdefault(task.subtask_of, []).append(task.name)
    for name, members in groups.items():
        yield Task(name, None, task_dep=members, has_subtask=True, doc=f"engines of {name}")
