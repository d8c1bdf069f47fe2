"""What a runtime is told of a build, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from .config import BuilderOptions, OptimizationProfile, PrecisionMode
from .hardware import HostCapabilities, Sm
from .host import Host


class CompileOutcome(str, Enum):
    """How an engine came to be there."""

    BUILT = "built"
    REUSED = "reused"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        phase: What the runtime is at, in its own words.
        parent: The phase that this one is a part of, or None.
        step: How many of the phase's steps are done.
        steps: How many it has.
        done: Whether the phase is over; an unsuccessful one may end before its last step.
    """

    phase: str
    parent: str | None
    step: int
    steps: int
    done: bool


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """All that a runtime is told about one build.

    Attributes:
        precision: The precision that the network computes in.
        workspace_mb: Workspace memory pool in MiB.
        calibration_dataset: TensorRT calibration cache, or None.
        optimization_profiles: At least one.
        engine_path: Where engine and, beside it, sidecar are to be written.
        host: The hardware that the engine is for.
        model_name: The backbone's name, for messages.
        builder: Builder options.
        attest: Called by a runtime that publishes through `enginery.publish` with the finished
            engine's digest, before anything is published; returns the provenance to publish
            with it, or raises if the inputs changed under the build. A runtime that does not
            call it works as well: the compiler then records the inputs after it.
        keep: Called by such a runtime with the engine's file, its digest and the provenance, after
            `attest` and before anything is published: gives it to the store; returns the
            signature to publish with it, or None.
        prepare_inputs: Called, once, by a runtime that says so (`Runtime.prepares_inputs`)
            before it reads the model: hashes the inputs, and lowers the model if nobody has.
            A runtime calls it while its libraries load in another process.
        progress: Called, in another thread, while the engine is built, a few times a second.
        build_host: The machine that we are on as it is declared; None is to find out.
    """

    precision: PrecisionMode
    workspace_mb: int
    calibration_dataset: Path | None
    optimization_profiles: tuple[OptimizationProfile, ...]
    engine_path: Path
    host: HostCapabilities | None = None
    model_name: str = ""
    builder: BuilderOptions = BuilderOptions()
    attest: Callable[[str], bytes] | None = field(default=None, compare=False, repr=False)
    keep: Callable[[Path, str, bytes], bytes | None] | None = field(
        default=None, compare=False, repr=False
    )
    prepare_inputs: Callable[[], None] | None = field(default=None, compare=False, repr=False)
    progress: Callable[[BuildProgress], None] | None = field(
        default=None, compare=False, repr=False
    )
    build_host: Host | None = None


@dataclass(frozen=True, slots=True)
class EngineCacheEntry:
    """An engine on disk.

    Attributes:
        engine_path: The engine, a plain TensorRT plan.
        sha256_hex: Digest of its bytes, 64 lower-case hex digits.
        sm: Compute capability, or several.
        jp: JetPack version, or None.
        trt: TensorRT version.
        precision: The precision that the network computes in.
        extras: Whatever else a runtime tells.
    """

    engine_path: Path
    sha256_hex: str
    sm: Sm
    jp: str | None
    trt: str
    precision: PrecisionMode
    extras: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineCompileResult:
    """What became of one backbone; `compile_duration_s` is None where nothing was built."""

    entry: EngineCacheEntry
    outcome: CompileOutcome
    compile_duration_s: float | None


@dataclass(frozen=True, slots=True)
class EngineCompileSummary:
    """Counts of one call; `cache_hit_ratio` is reused by total, 0.0 where there is nothing."""

    engines_built: int
    engines_reused: int
    cache_hit_ratio: float
