"""Jobs: what a corpus asks for, engine by engine, with the installed runtimes' versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .config import EngineCompileRequest, PrecisionMode
from .corpus import STATE, Corpus, CorpusBackbone
from .errors import RuntimeUnavailableError
from .hardware import HostCapabilities
from .inputs import InputDigests
from .plan import EnginePlan
from .runtimes import load_runtime
from .verdict import Fault, Verdict

if TYPE_CHECKING:
    from .step import Step


class EngineJob(msgspec.Struct, frozen=True):
    """One engine of a corpus.

    Attributes:
        backbone: The backbone, as the corpus has it.
        variant: `<target>-<precision>` where the backbone has several engines, else None.
        runtime: Name of the runtime.
        plan: The engine.
        corpus_path: The corpus file.
    """

    backbone: CorpusBackbone
    variant: str | None
    runtime: str
    plan: EnginePlan
    corpus_path: Path

    @property
    def name(self) -> str:
        """The backbone's name."""
        return self.backbone.spec.model_name

    def check(self) -> Step:
        """How the lowered model is compared with the original; for lowered models only."""
        from .accuracy.step import check_step  # not where nothing is checked

        assert self.request.lowered_root is not None  # noqa: S101 - jobs always set it
        return check_step(
            self.plan.spec,
            self.backbone.check,
            self.plan.lowering(),
            self.request.precision,
            self.request.lowered_root.with_name("checks"),
        )

    def engine_check(self) -> Step:
        """How the engine itself is compared with the original, where there is a GPU."""
        from .accuracy.step import engine_check_step

        assert self.request.lowered_root is not None  # noqa: S101 - jobs always set it
        return engine_check_step(
            self.plan.spec,
            self.backbone.check,
            self.plan.path,
            load_runtime(self.runtime),
            self.request.precision,
            self.request.lowered_root.with_name("checks"),
        )

    def judge(self, inputs: InputDigests, digest: Callable[[Path], str]) -> Verdict:
        """Whether the engine is fresh and, where that is required, its check passed."""
        verdict = self.plan.judge(inputs, digest=digest)
        if not (verdict.fresh and self.backbone.require_check and self.plan.is_lowered):
            return verdict
        from .accuracy.step import judge_check

        check = judge_check(self.check(), inputs)
        if check.fresh:
            return verdict
        return Verdict(Fault.CHECK, f"its lowered model has no passing check: {check.reason}")

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
                f"backbones.{job.name}.targets",
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
    several = sum(map(len, backbone.builds.values())) > 1
    for target, precisions in backbone.builds.items():
        runtime = corpus.targets[target].runtime
        for precision in precisions:
            _check(corpus, backbone, target, hosts[target], precision)
            request = EngineCompileRequest(
                backbones=(backbone.spec,),
                calibration_path=_calibration(backbone, precision),
                cache_root=corpus.engines,
                precision=precision,
                host=hosts[target],
                workspace_mb=backbone.workspace_mb,
                lowered_root=lowered_root(corpus),
            )
            yield EngineJob(
                backbone=backbone,
                variant=f"{target}-{precision.value}" if several else None,
                runtime=runtime,
                plan=_plan(corpus, request, runtime),
                corpus_path=corpus.path,
            )


def _plan(corpus: Corpus, request: EngineCompileRequest, runtime: str) -> EnginePlan:
    (spec,) = request.backbones
    try:
        return EnginePlan(spec, request, load_runtime(runtime))
    except ValueError as error:
        raise corpus.error(f"backbones.{spec.model_name}", str(error)) from error


def _calibration(backbone: CorpusBackbone, precision: PrecisionMode) -> Path | None:
    """The cache is an input of int8 engines; where none is built, of whatever is."""
    other = precision is not PrecisionMode.INT8 and PrecisionMode.INT8 in backbone.precisions
    return None if other else backbone.calibration_path


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


def _check(
    corpus: Corpus,
    backbone: CorpusBackbone,
    target: str,
    host: HostCapabilities,
    precision: PrecisionMode,
) -> None:
    """Raise CorpusError for what the runtime never builds, whatever the model."""
    spec, name = backbone.spec, corpus.targets[target].runtime
    runtime = load_runtime(name)
    known = runtime.precisions()
    if precision not in known:
        raise corpus.error(
            f"backbones.{spec.model_name}.precision",
            f"{name} builds no {precision.value} here; use "
            + " or ".join(sorted(mode.value for mode in known)),
        )
    try:
        runtime.check_precision(host, precision)
    except ValueError as error:
        raise corpus.error(f"backbones.{spec.model_name}.precision", str(error)) from error
    try:
        runtime.check_options(spec.builder)
    except ValueError as error:
        raise corpus.error(f"backbones.{spec.model_name}.builder", str(error)) from error
    if runtime.strongly_typed and precision is not PrecisionMode.FP32:
        from .lowering import toolchain  # not where every engine is in fp32

        try:
            toolchain(precision)
        except RuntimeUnavailableError as error:
            raise corpus.error(f"backbones.{spec.model_name}.precision", str(error)) from error
