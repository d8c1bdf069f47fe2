"""The actions: what doit runs where an artifact is not fresh, and on `doit clean`.

They are made with every task and rarely run, so they import what they need when they run. They
are small enough to be pickled to doit's worker processes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from doit.exceptions import BaseFail, TaskError, TaskFailed

from ..errors import BackboneSpecError, EngineryError
from ..jobs import EngineJob
from ..publish import remove

if TYPE_CHECKING:
    import logging


class BuildEngine(msgspec.Struct, frozen=True):
    """The action of an engine's task: through the compiler, so a hit builds nothing."""

    job: EngineJob

    def __call__(self) -> BaseFail | None:
        """Build the engine; what went wrong comes back as doit's failure or error."""
        from ..compiler import EngineCompiler
        from ..digest import short
        from ..runtimes import load_runtime

        compiler = EngineCompiler(
            inference_runtime=load_runtime(self.job.runtime), logger=_logger()
        )
        try:
            (result,) = compiler.compile_engines_for_corpus(self.job.request)
        except (EngineryError, OSError) as error:
            return _failure(self.job, error)
        path = result.entry.engine_path
        what = f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {short(result.entry.sha256_hex)}"
        if result.compile_duration_s is None:
            sys.stdout.write(f"{what}, fresh already\n")
        else:
            sys.stdout.write(f"{what}, built in {result.compile_duration_s:.1f} s\n")
        return None


class LowerModel(msgspec.Struct, frozen=True):
    """The action of a lowering task."""

    job: EngineJob

    def __call__(self) -> BaseFail | None:
        """Lower the model; what went wrong comes back as doit's failure or error."""
        from .. import lowering
        from ..inputs import InputDigests

        job = self.job
        try:
            lowering.lower(
                job.plan.spec, job.request.precision, job.plan.model_path.parent, InputDigests()
            )
        except (EngineryError, OSError) as error:
            return _failure(job, error)
        return None


class RemoveArtifact(msgspec.Struct, frozen=True):
    """The clean action: an artifact with its sidecar and provenance, the sidecar first."""

    path: Path

    def __call__(self, dryrun: bool) -> None:
        """Remove it, or only say so."""
        for gone in remove(self.path, dry_run=dryrun):
            sys.stdout.write(f"{gone}\n")

    def __str__(self) -> str:
        """As doit shows it, which cuts the first character off."""
        return f" remove {self.path.name}, its sidecar and provenance"


def _failure(job: EngineJob, error: Exception) -> BaseFail:
    if isinstance(error, BackboneSpecError):
        # The mistake is in the corpus, not in the build.
        return TaskError(f"{job.corpus_path}: backbones.{job.backbone}.{error.field}: {error}")
    if isinstance(error, OSError):
        return TaskError(f"{job.backbone}: {job.plan.path.name} cannot be written: {error}")
    return TaskFailed(f"{job.backbone}: {error}")


def _logger() -> logging.Logger:
    import logging

    logger = logging.getLogger("enginery")
    if not logger.hasHandlers():
        handler = logging.StreamHandler(_TaskStderr())
        handler.addFilter(_is_for_a_person)
        handler.setLevel(logging.WARNING)
        logger.addHandler(handler)
    return logger


class _TaskStderr:
    """Standard error as it is at the time: doit replaces it while a task runs."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _is_for_a_person(record: logging.LogRecord) -> bool:
    # doit reports a task's failure itself.
    return getattr(record, "kind", None) != "c10.engine.compile.error"
