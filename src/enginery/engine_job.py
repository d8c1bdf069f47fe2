"""One engine of a corpus, with all that is known of it on this host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .config import EngineCompileRequest, PrecisionMode
from .corpus_backbones import CorpusBackbone
from .digest import sha256_file
from .farm_spec import FarmSpec
from .inputs import InputDigests
from .plan import EnginePlan
from .runtimes import load_runtime
from .store_spec import StoreSpec
from .trust import judged
from .verdict import Fault, Verdict

if TYPE_CHECKING:
    from .step import Step


class EngineJob(msgspec.Struct, frozen=True):
    """One engine of a corpus.

    Attributes:
        backbone: The backbone, as the corpus has it.
        variant: `<target>-<precision>` where the backbone has several engines, else None.
        target: Name of the target.
        runtime: Name of the runtime.
        plan: The engine.
        corpus_path: The corpus file.
        store: Where engines are kept besides the engine folder, and what is believed.
        farm: Who builds it where this host cannot, or None.
        elsewhere: Why it cannot be built on this host; None where it can.
        skips: Whether it is then left out, and not a failure.
    """

    backbone: CorpusBackbone
    variant: str | None
    target: str
    runtime: str
    plan: EnginePlan
    corpus_path: Path
    store: StoreSpec = StoreSpec()
    farm: FarmSpec | None = None
    elsewhere: str | None = None
    skips: bool = False

    @property
    def name(self) -> str:
        """The backbone's name."""
        return self.backbone.spec.model_name

    @property
    def task(self) -> str:
        """Name of its task."""
        return _task(self.name, self.variant)

    @property
    def check_path(self) -> Path:
        """Where the report of its lowered model's check is."""
        return _checks(self) / f"{self.plan.lowering().path.stem}.check.json"

    @property
    def engine_check_path(self) -> Path:
        """Where the report of its own check is."""
        return _checks(self) / f"{self.plan.path.name}.check.json"

    def check(self) -> Step:
        """How the lowered model is compared with the original; for lowered models only."""
        from .accuracy.step import check_step  # not where nothing is checked

        return check_step(
            self.plan.spec,
            self.backbone.check,
            self.plan.lowering(),
            self.request.precision,
            _checks(self),
        )

    def engine_check(self) -> Step:
        """How the engine itself is compared with the original, where there is a GPU."""
        from .accuracy.step import engine_check_step

        return engine_check_step(
            self.plan.spec,
            self.backbone.check,
            self.plan.path,
            load_runtime(self.runtime),
            self.request.precision,
            _checks(self),
        )

    def runs_here(self) -> bool:
        """Whether the engine is there and this machine can run it."""
        from .probing import this_machine

        runtime = load_runtime(self.runtime)
        return bool(
            runtime.runner
            and self.plan.path.exists()
            and runtime.runs_on(self.request.host, this_machine())
        )

    def judge(self, inputs: InputDigests, digest: Callable[[Path], str]) -> Verdict:
        """Whether the engine is fresh and, where that is required, its check passed."""
        verdict = self.plan.judge(inputs, digest=digest)
        verdict = judged(self.store.policy, self.plan.path, verdict)
        if not (verdict.fresh and self.backbone.require_check and self.plan.is_lowered):
            return verdict
        from .accuracy.step import judge_check

        check = judge_check(self.check(), inputs)
        if check.fresh:
            return verdict
        return Verdict(Fault.CHECK, f"its lowered model has no passing check: {check.reason}")

    def judge_now(self, inputs: InputDigests) -> Verdict:
        """`judge`, by whoever has not hashed the engine before."""
        return self.judge(inputs, sha256_file)

    @property
    def request(self) -> EngineCompileRequest:
        """The compile request, for this backbone alone."""
        return self.plan.request


def _checks(job: EngineJob) -> Path:
    assert job.request.lowered_root is not None  # noqa: S101 - jobs always set it
    return job.request.lowered_root.with_name("checks")


class UnknownEngine(msgspec.Struct, frozen=True):
    """An engine of a corpus whose hardware is not known here, so that it has no path yet.

    Attributes:
        name: The backbone's name.
        variant: As for `EngineJob`.
        target: Name of the target.
        precision: The precision.
        runtime: Name of the runtime.
        corpus_path: The corpus file.
        elsewhere: Why it cannot be built on this host.
        skips: Whether it is left out, and not a failure.
    """

    name: str
    variant: str | None
    target: str
    precision: PrecisionMode
    runtime: str
    corpus_path: Path
    elsewhere: str
    skips: bool

    @property
    def task(self) -> str:
        """Name of its task."""
        return _task(self.name, self.variant)


def _task(name: str, variant: str | None) -> str:
    return name if variant is None else f"{name}:{variant}"
