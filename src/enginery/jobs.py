"""Jobs: what a corpus asks for, engine by engine, with the installed runtimes' versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from .config import EngineCompileRequest, PrecisionMode
from .corpus import Corpus, CorpusBackbone
from .errors import RuntimeUnavailableError
from .hardware import HostCapabilities
from .plan import EnginePlan
from .runtimes import load_runtime

STATE = ".enginery"
"""Folder beside the corpus file: lowered models and remembered digests of inputs."""


class EngineJob(msgspec.Struct, frozen=True):
    """One engine of a corpus.

    Attributes:
        backbone: The backbone's name.
        variant: `<target>-<precision>` where the backbone has several engines, else None.
        runtime: Name of the runtime.
        plan: The engine.
        corpus_path: The corpus file.
    """

    backbone: str
    variant: str | None
    runtime: str
    plan: EnginePlan
    corpus_path: Path

    @property
    def request(self) -> EngineCompileRequest:
        """The compile request, for this backbone alone."""
        return self.plan.request


def engine_jobs(corpus: Corpus) -> tuple[EngineJob, ...]:
    """Every engine of a corpus, in the order of the file.

    Raises:
        CorpusError: A target's runtime is not there, never builds for such hardware or in such
            a precision, or two engines would be the same file.
    """
    hosts = {name: _host(corpus, name) for name in {t for b in corpus.backbones for t in b.targets}}
    jobs = tuple(job for backbone in corpus.backbones for job in _jobs(corpus, backbone, hosts))
    owners: dict[Path, EngineJob] = {}
    for job in jobs:
        other = owners.setdefault(job.plan.path, job)
        if other is not job:
            raise corpus.error(
                f"backbones.{job.backbone}.targets",
                f"{other.variant} and {job.variant} are the same engine, {job.plan.path.name}; "
                "remove one of the targets",
            )
    return jobs


def lowered_root(corpus: Corpus) -> Path:
    """Folder of the corpus's lowered models."""
    return corpus.path.parent / STATE / "lowered"


def input_memory(corpus: Corpus) -> Path:
    """File in which digests of inputs are remembered."""
    return corpus.path.parent / STATE / "inputs.json"


def _jobs(
    corpus: Corpus, backbone: CorpusBackbone, hosts: dict[str, HostCapabilities]
) -> Iterator[EngineJob]:
    several = len(backbone.precisions) * len(backbone.targets) > 1
    for target in backbone.targets:
        runtime = corpus.targets[target].runtime
        for precision in backbone.precisions:
            _check_precision(corpus, backbone, runtime, precision)
            request = EngineCompileRequest(
                backbones=(backbone.spec,),
                calibration_path=backbone.calibration_path,
                cache_root=corpus.engines,
                precision=precision,
                host=hosts[target],
                workspace_mb=backbone.workspace_mb,
                lowered_root=lowered_root(corpus),
            )
            yield EngineJob(
                backbone=backbone.spec.model_name,
                variant=f"{target}-{precision.value}" if several else None,
                runtime=runtime,
                plan=EnginePlan(backbone.spec, request, load_runtime(runtime)),
                corpus_path=corpus.path,
            )


def _host(corpus: Corpus, name: str) -> HostCapabilities:
    target = corpus.targets[name]
    try:
        runtime = load_runtime(target.runtime)
        trt = target.trt or runtime.installed_version()
    except RuntimeUnavailableError as error:
        raise corpus.error(f"targets.{name}.runtime", str(error)) from error
    host = HostCapabilities(sm=target.sm, jetpack=target.jetpack, trt=trt)
    try:
        runtime.check_target(host)
    except ValueError as error:
        raise corpus.error(f"targets.{name}", str(error)) from error
    return host


def _check_precision(
    corpus: Corpus, backbone: CorpusBackbone, runtime: str, precision: PrecisionMode
) -> None:
    known = load_runtime(runtime).precisions()
    if precision not in known:
        raise corpus.error(
            f"backbones.{backbone.spec.model_name}.precision",
            f"{runtime} builds no {precision.value} here; use "
            + " or ".join(sorted(mode.value for mode in known)),
        )
