"""The actions: what doit runs where an artifact is not fresh, and on `doit clean`.

They are made with every task and rarely run, so they import what they need when they run. They
are small enough to be pickled to doit's worker processes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from doit.exceptions import BaseFail, TaskError, TaskFailed

from .. import provenance
from ..corpus_backbones import CorpusBackbone
from ..engine_job import EngineJob, UnknownEngine
from ..errors import BackboneSpecError, ElsewhereError, EngineryError, FarmError
from ..publish import remove
from . import wire
from .ahead import ask_ahead
from .elsewhere import fail_or_leave_out

if TYPE_CHECKING:
    import logging

    from ..build import EngineCompileResult
    from ..step import Step


class BuildEngine(msgspec.Struct, frozen=True):
    """The action of an engine's task: through the compiler, so a hit builds nothing.

    Attributes:
        job: The engine.
        also: Where it cannot be built here, engines after it that may not either.
    """

    job: EngineJob
    also: tuple[EngineJob | UnknownEngine, ...] = ()

    def __call__(self) -> BaseFail | str | None:
        """Build the engine; its digest, or what went wrong as doit's failure or error."""
        with wire.of_task(self.job.task):
            return self._make()

    def _make(self) -> BaseFail | str | None:
        from ..compiler import EngineCompiler
        from ..runtimes import load_runtime
        from .estimates import Estimate
        from .progress import SlowBuild

        ask_ahead()
        late = self.job.elsewhere and not self.job.farm
        failure = None if late else self._unchecked()
        if failure is not None:
            return failure
        compiler = EngineCompiler(
            inference_runtime=load_runtime(self.job.runtime),
            logger=_telling_logger(),
            progress=SlowBuild(self.job.task, _say, against=Estimate(self.job)),
            store=self.job.store,
            farm=self.job.farm,
        )
        try:
            (result,) = compiler.compile_engines_for_corpus(self.job.request)
        except ElsewhereError as error:
            return fail_or_leave_out(self.job, str(error), self.also)
        except (EngineryError, OSError) as error:
            if isinstance(error, FarmError) and self.job.skips:
                return fail_or_leave_out(self.job, str(error), ())
            return _failure(self.job.backbone, self.job.corpus_path, error)
        failure = self._unchecked() if late else None
        if failure is not None:
            return failure
        _say_what_came_of(self.job, result)
        return result.entry.sha256_hex

    def _unchecked(self) -> BaseFail | None:
        """Why it may not be built: doit runs a task even where one of its setup tasks failed."""
        from ..inputs import InputDigests

        job = self.job
        if not (job.backbone.require_check and job.plan.is_lowered):
            return None
        from ..accuracy.step import judge_check

        verdict = judge_check(job.check(), InputDigests())
        if verdict.fresh:
            return None
        return TaskFailed(
            f"{job.task}: its lowered model has no passing check ({verdict.reason}), which "
            f"require_check demands; see: doit check:{job.name}"
        )


def _say_what_came_of(job: EngineJob, result: EngineCompileResult) -> None:
    from ..digest import short

    path, digest = result.entry.engine_path, result.entry.sha256_hex
    size = path.stat().st_size
    what = f"{path.name}: {size / 1e6:.1f} MB, {short(digest)}"
    store = result.entry.extras.get("restored_from")
    seconds = result.compile_duration_s
    if store:
        sys.stdout.write(f"{what}, restored from {store}\n")
    elif seconds is None:
        sys.stdout.write(f"{what}, fresh already\n")
    else:
        wire.tell("c10.engine.build.finish", model=job.name, engine_path=str(path),
                  duration_s=round(seconds, 3), sha256=digest, size=size)  # fmt: skip
        host = result.entry.extras.get("built_by")
        by = f" by {host}" if host else ""
        sys.stdout.write(f"{what}, built in {seconds:.1f} s{by}\n")


class LowerModel(msgspec.Struct, frozen=True):
    """The action of a lowering task.

    Attributes:
        job: An engine of the lowered model.
        users: Every engine of it that can be built here.
        checked: Whether there is a task that checks the lowered model.
    """

    job: EngineJob
    users: tuple[EngineJob, ...] = ()
    checked: bool = False

    def __call__(self) -> BaseFail | None:
        """Lower the model; what went wrong comes back as doit's failure or error."""
        if self._is_needless():
            return None
        return _make(self.job.backbone, self.job.corpus_path, partial(_lowering, self.job))

    def _is_needless(self) -> bool:
        """Whether every engine came from a store instead, and no check wants the model."""
        from ..inputs import InputDigests

        if self.checked:
            from ..accuracy.step import judge_check

            if not judge_check(self.job.check(), InputDigests()).fresh:
                return False
        try:
            return bool(self.users) and all(restored(user) for user in self.users)
        except (EngineryError, OSError):
            return False  # the engine's own task says why


def restored(job: EngineJob) -> bool:
    """Whether an engine is fresh, if need be because a store has it.

    Raises:
        EngineryError: An input is missing, or a key cannot be used.
        OSError: The engine folder cannot be written.
    """
    from ..compiler import EngineCompiler
    from ..runtimes import load_runtime

    compiler = EngineCompiler(
        inference_runtime=load_runtime(job.runtime), logger=_telling_logger(), store=job.store
    )
    with wire.of_task(job.task):
        result = compiler.restore(job.request)
    if result is None:
        return False
    store = result.entry.extras.get("restored_from")
    if store:
        sys.stdout.write(f"{result.entry.engine_path.name}: restored from {store}\n")
    return True


class CheckModel(msgspec.Struct, frozen=True):
    """The action of a check; the engines are those of the lowered model."""

    job: EngineJob
    engines: tuple[EngineJob, ...]

    def __call__(self) -> BaseFail | None:
        """Compare the lowered model with the original; a miss comes back as doit's failure."""
        failure = self._compare(self.job.check)
        for job in self.engines:
            if failure is None and job.runs_here():
                failure = self._compare(job.engine_check)
        return failure

    def _compare(self, how: Callable[[], Step]) -> BaseFail | None:
        from ..accuracy.step import describe, judge_check
        from ..inputs import InputDigests

        failure = _make(self.job.backbone, self.job.corpus_path, how)
        if failure is not None:
            return failure
        step = how()
        verdict = judge_check(step, InputDigests())
        sys.stdout.write(describe(step))
        what = f"{self.job.name} in {self.job.request.precision}"
        return None if verdict.fresh else TaskFailed(f"{what}: {verdict.reason}; see {step.path}")


class Calibrate(msgspec.Struct, frozen=True):
    """The action of a calibration task."""

    backbone: CorpusBackbone
    corpus_path: Path

    def __call__(self) -> BaseFail | None:
        """Compute the cache; what went wrong comes back as doit's failure or error."""
        from .step_tasks import CALIBRATE

        with wire.of_task(f"{CALIBRATE}:{self.backbone.spec.model_name}"):
            how = partial(calibration, self.backbone, _show)
            return _make(self.backbone, self.corpus_path, how)


def calibration(backbone: CorpusBackbone, show: Callable[[str], None] | None = None) -> Step:
    """How the calibration cache of a backbone is computed."""
    from ..calibration.step import calibration_step

    assert backbone.calibrate is not None  # noqa: S101 - whoever calls has looked
    assert backbone.calibration_path is not None  # noqa: S101 - the corpus gives one
    return calibration_step(backbone.spec, backbone.calibrate, backbone.calibration_path, show=show)


class RemoveArtifact(msgspec.Struct, frozen=True):
    """The clean action: an artifact with its sidecar and provenance, the sidecar first.

    Attributes:
        path: The artifact.
        lowered: Whether it is a lowered model, which may have data files.
        report: The report of its check, which goes with it.
        proved: Whether it may be someone's who keeps a file there, and is ours only with its proof.
        job: The engine that it is, which goes from the local store too.
    """

    path: Path
    lowered: bool = False
    report: Path | None = None
    proved: bool = False
    job: EngineJob | None = None

    def __call__(self, dryrun: bool) -> None:
        """Remove it, or only say so."""
        try:
            self._remove(dryrun)
        except OSError as error:
            sys.stderr.write(f"{error.filename or self.path} cannot be removed: {error.strerror}\n")

    def _remove(self, dryrun: bool) -> None:
        if self.proved and not provenance.path_for(self.path).exists():
            return
        if self.job is not None and not dryrun:
            _forget(self.job)
        for gone in remove(self.path, dry_run=dryrun):
            sys.stdout.write(f"{gone}\n")
        for gone in remove(self.report, dry_run=dryrun) if self.report else ():
            sys.stdout.write(f"{gone}\n")
        if self.lowered:
            from ..lowering.data import data_files

            for data in data_files(self.path):
                sys.stdout.write(f"{data}\n")
                if not dryrun:
                    data.unlink(missing_ok=True)

    def __str__(self) -> str:
        """As doit shows it, which cuts the first character off."""
        return f" remove {self.path.name}, its sidecar and provenance"


def _forget(job: EngineJob) -> None:
    """Have an engine built the next time: as it is now, and as it would be built now."""
    from contextlib import suppress

    from ..inputs import InputDigests
    from ..store.engines import EngineStore

    fingerprints = set()
    with suppress(EngineryError):
        fingerprints.add(provenance.read(job.plan.path).fingerprint)
    with suppress(EngineryError):
        fingerprints.add(job.plan.recipe(InputDigests()).fingerprint)
    try:
        EngineStore(job.store, _say).forget(fingerprints)
    except EngineryError as error:
        sys.stderr.write(f"{error}\n")


def _lowering(job: EngineJob) -> Step:
    return job.plan.lowering(_telling_logger().warning)


def _make(backbone: CorpusBackbone, corpus: Path, step: Callable[[], Step]) -> BaseFail | None:
    from ..inputs import InputDigests

    try:
        step().make(InputDigests())
    except (EngineryError, OSError) as error:
        return _failure(backbone, corpus, error)
    return None


def _show(text: str) -> None:
    """Say how far a step is: in its row where there is one, else in a line."""
    if wire.is_live():
        wire.tell("c10.task.note", text=text)
    else:
        _say(text)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _failure(backbone: CorpusBackbone, corpus: Path, error: Exception) -> BaseFail:
    name = backbone.spec.model_name
    if isinstance(error, BackboneSpecError):
        # The mistake is in the corpus, not in the build.
        return TaskError(f"{corpus}: backbones.{name}.{error.field}: {error}")
    if isinstance(error, OSError):
        return TaskError(f"{name}: {error.filename or 'a file'} cannot be written: {error}")
    said = str(error)
    return TaskFailed(said if said.startswith(f"{name}: ") else f"{name}: {said}")


def _telling_logger() -> logging.Logger:
    """A logger whose events are told to whoever shows the run, and then go to `enginery`."""
    from .log_records import TellingLogger

    return TellingLogger()
