"""Builds for the farm, asked for ahead: doit runs task after task, and the farm has many workers.

The first engine's task of a run that builds anything has all engines of the run asked for that the
farm is to build, in the background. Each engine's own task then waits for its engine and publishes
it. Nothing rests on this: what was not asked for ahead is asked for when its task runs.
"""

from __future__ import annotations

import multiprocessing
import threading
from contextlib import suppress

from ..corpus_backbones import STATE
from ..engine_job import EngineJob
from ..errors import EngineryError
from .this_run import corpora, looked_at, shared

_ASKED = "_enginery_asked_ahead"
"""What is shared once that was done, in this process or in the one that it was forked from."""


def ask_ahead() -> None:
    """Have the engines of this run asked for that the farm is to build; returns at once."""
    asked: list[object] = shared(_ASKED, [])
    if asked or not any(corpus.farm for corpus, _ in corpora()):
        return
    asked.append(True)
    names = set(looked_at())
    jobs = [
        job
        for _, found in corpora()
        for job in found.engines
        if job.farm and job.elsewhere and job.task in names
    ]
    if jobs and _is_alone(jobs[0], asked):
        threading.Thread(target=_ask, args=(jobs,), name="enginery-ahead", daemon=True).start()


def _is_alone(job: EngineJob, keep: list[object]) -> bool:
    """Whether no other worker process of doit does it; the lock is held as long as this one is."""
    if multiprocessing.parent_process() is None:
        return True
    from filelock import FileLock, Timeout

    folder = job.corpus_path.parent / STATE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".ahead.lock")
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    keep.append(lock)
    return True


def _ask(jobs: list[EngineJob]) -> None:
    # Those that are not there need no look.
    for job in sorted(jobs, key=lambda job: job.plan.path.exists()):
        # The engine's own task tells what is wrong with it.
        with suppress(EngineryError, OSError):
            _ask_for(job)


def _ask_for(job: EngineJob) -> None:
    from ..farm.client import Farm
    from ..farm.taking import check_cache
    from ..inputs import InputDigests
    from ..jobs import input_memory_of
    from ..store.engines import EngineStore

    inputs = InputDigests(input_memory_of(job.corpus_path))
    if job.farm is None or job.judge_now(inputs).fresh:
        return
    recipe = job.plan.recipe(inputs)
    check_cache(job.plan, inputs)
    if not EngineStore(job.store, _say_nothing).has(recipe.fingerprint):
        farm = Farm(job.farm, _say_nothing, job.store)
        farm.ask(job.plan, recipe, job.plan.input_paths(recipe), job.runtime)


def _say_nothing(_text: str) -> None:
    """What is to be said, the engine's own task says."""
