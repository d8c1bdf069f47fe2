"""Jobs: what a corpus asks for, engine by engine, with the installed runtimes' versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from .config import BackboneSpec, EngineCompileRequest, PrecisionMode
from .corpus import Corpus
from .corpus_backbones import STATE, CorpusBackbone
from .engine_job import EngineJob, UnknownEngine
from .errors import CorpusError, RuntimeUnavailableError
from .hardware import HostCapabilities
from .host import Host
from .plan import EnginePlan
from .runtimes import load_runtime
from .targets import HOST, Target, full_targets, host_of


class CorpusJobs(msgspec.Struct, frozen=True):
    """What a corpus asks for on this host.

    Attributes:
        engines: Every engine whose hardware is known, in the order of the file.
        unknown: The others.
        aliases: Task to the engine that it is, where the target `host` is another target too.
        targets: The targets by name.
        host: This machine; worked out when it is called.
    """

    engines: tuple[EngineJob, ...]
    unknown: tuple[UnknownEngine, ...]
    aliases: Mapping[str, EngineJob]
    targets: Mapping[str, Target]
    host: Callable[[], Host]

    @property
    def elsewhere(self) -> tuple[EngineJob | UnknownEngine, ...]:
        """Those that cannot be built on this host."""
        return (*(job for job in self.engines if job.elsewhere), *self.unknown)


def engine_jobs(corpus: Corpus) -> tuple[EngineJob, ...]:
    """Every engine of a corpus whose hardware is known, once; see `corpus_jobs`."""
    return corpus_jobs(corpus).engines


def corpus_jobs(corpus: Corpus) -> CorpusJobs:
    """Every engine of a corpus, in the order of the file.

    Raises:
        CorpusError: A target's runtime is not there, never builds for such hardware or in such
            a precision, or two engines would be the same file.
    """
    host = host_of(corpus)
    targets = full_targets(corpus, host)
    found = [job for backbone in corpus.backbones for job in _jobs(corpus, backbone, targets, host)]
    owners: dict[Path, EngineJob] = {}
    aliases: dict[str, EngineJob] = {}
    # Those of `host` last: where it is a target that has a name of its own, that one counts.
    for job in sorted(found, key=lambda job: job.target == HOST):
        if isinstance(job, EngineJob):
            other = owners.setdefault(job.plan.path, job)
            if other is not job:
                if job.target != HOST or not _are_alike(job.request, other.request):
                    raise _clash(corpus, job, other)
                aliases[job.task] = other
    return CorpusJobs(
        engines=tuple(
            job for job in found if isinstance(job, EngineJob) and job.task not in aliases
        ),
        unknown=tuple(job for job in found if isinstance(job, UnknownEngine)),
        aliases=aliases,
        targets=targets,
        host=host,
    )


def _are_alike(one: EngineCompileRequest, two: EngineCompileRequest) -> bool:
    return (one.backbones, one.workspace_mb) == (two.backbones, two.workspace_mb)


def _clash(corpus: Corpus, job: EngineJob, other: EngineJob) -> CorpusError:
    return corpus.error(
        f"backbones.{job.name}.targets",
        f"{other.variant} and {job.variant} are the same file, {job.plan.path.name}, whose name "
        "tells hardware and version and no other option; remove one of the targets",
    )


def lowered_root(corpus: Corpus) -> Path:
    """Folder of the corpus's lowered models."""
    return corpus.path.parent / STATE / "lowered"


def input_memory(corpus: Corpus) -> Path:
    """File in which digests of inputs are remembered."""
    return input_memory_of(corpus.path)


def input_memory_of(corpus_path: Path) -> Path:
    """`input_memory` of the corpus of this file."""
    return corpus_path.parent / STATE / "inputs.json"


def _jobs(
    corpus: Corpus,
    backbone: CorpusBackbone,
    targets: Mapping[str, Target],
    host: Callable[[], Host],
) -> Iterator[EngineJob | UnknownEngine]:
    several = sum(map(len, backbone.builds.values())) > 1
    for name, precisions in backbone.builds.items():
        target = targets[name]
        skips = target.spec.elsewhere == "skip"
        spec = replace(backbone.spec, builder=backbone.builders[name])
        for precision in precisions:
            variant = f"{name}-{precision.value}" if several else None
            if target.hardware is None:
                assert target.elsewhere is not None  # noqa: S101 - it says why that is not known
                yield UnknownEngine(spec.model_name, variant, name, precision,
                                    target.runtime.name, corpus.path, target.elsewhere,
                                    skips)  # fmt: skip
                continue
            _check(corpus, spec, target, target.hardware, precision)
            request = EngineCompileRequest(
                backbones=(spec,),
                calibration_path=_calibration(backbone, precision),
                cache_root=corpus.engines,
                precision=precision,
                host=target.hardware,
                workspace_mb=backbone.workspace_mb[name],
                lowered_root=lowered_root(corpus),
                build_host=None if target.runtime.builds_anywhere else host(),
            )
            yield EngineJob(
                backbone=backbone,
                variant=variant,
                target=name,
                runtime=target.runtime.name,
                plan=_plan(corpus, request, target.runtime.name),
                corpus_path=corpus.path,
                store=corpus.store,
                farm=corpus.farm,
                elsewhere=target.elsewhere,
                skips=skips,
            )


def _plan(corpus: Corpus, request: EngineCompileRequest, runtime: str) -> EnginePlan:
    (spec,) = request.backbones
    try:
        return EnginePlan(spec, request, load_runtime(runtime))
    except ValueError as error:
        raise corpus.error(f"backbones.{spec.model_name}", str(error)) from error


def _calibration(backbone: CorpusBackbone, precision: PrecisionMode) -> Path | None:
    """The cache is an input of int8; where no int8 is built, one that is given is of the others."""
    int8 = PrecisionMode.INT8
    other = precision is not int8 and (int8 in backbone.precisions or backbone.calibrate)
    return None if other else backbone.calibration_path


def _check(
    corpus: Corpus,
    spec: BackboneSpec,
    target: Target,
    hardware: HostCapabilities,
    precision: PrecisionMode,
) -> None:
    """Raise CorpusError for what the runtime never builds, whatever the model."""
    runtime = target.runtime
    known = runtime.precisions()
    if precision not in known:
        raise corpus.error(
            f"backbones.{spec.model_name}.precision",
            f"{runtime.name} builds no {precision.value} here; use "
            + " or ".join(sorted(mode.value for mode in known)),
        )
    try:
        runtime.check_precision(hardware, precision)
    except ValueError as error:
        raise corpus.error(f"backbones.{spec.model_name}.precision", str(error)) from error
    try:
        runtime.check_options(spec.builder, hardware)
    except ValueError as error:
        raise corpus.error(f"backbones.{spec.model_name}.builder", str(error)) from error
    if runtime.strongly_typed and precision is not PrecisionMode.FP32:
        from .lowering import toolchain  # not where every engine is in fp32

        try:
            toolchain(precision)
        except RuntimeUnavailableError as error:
            raise corpus.error(f"backbones.{spec.model_name}.precision", str(error)) from error
