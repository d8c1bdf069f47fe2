"""Estimates for the engines of this run."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from ..engine_job import EngineJob
from ..figures import duration
from ..history import estimate, model_size, past_builds
from .this_run import corpora


def expected_s(job: EngineJob) -> float | None:
    """For how many seconds an engine is going to be built; None where nothing compares."""
    request = job.request
    return estimate(
        job.name,
        job.runtime,
        request.precision.value,
        past_builds(request.cache_root),
        {name: model_size(onnx) for name, onnx in _models(job.corpus_path).items()},
    )


class Estimate:
    """Puts a time in words, compared with earlier builds, which are looked up once if at all."""

    def __init__(self, job: EngineJob) -> None:
        self._job = job

    def __call__(self, elapsed_s: float) -> str:
        """The time that the engine's build has taken, and of how much."""
        return against(elapsed_s, self._expected_s)

    @cached_property
    def _expected_s(self) -> float | None:
        return expected_s(self._job)


def _models(corpus_path: Path) -> dict[str, Path]:
    return {
        backbone.spec.model_name: backbone.spec.onnx_path
        for corpus, _ in corpora()
        if corpus.path == corpus_path
        for backbone in corpus.backbones
    }


def against(elapsed_s: float, expected: float | None) -> str:
    """How long something has taken, and of how much.

    >>> against(12, 40)
    '12 s of about 40 s'
    """
    so_far = duration(elapsed_s)
    if expected is None:
        return f"{so_far}, no earlier build to go by"
    if elapsed_s > expected:
        return f"{so_far}, usually about {duration(expected)}"
    return f"{so_far} of about {duration(expected)}"
