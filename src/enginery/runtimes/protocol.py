"""What a runtime must offer: little for the compiler alone, more for a corpus."""

from __future__ import annotations

import platform
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from ..config import BuilderOptions, PrecisionMode
from ..errors import EngineBuildError
from ..filename import TENSORRT
from ..hardware import HostCapabilities, Sm

if TYPE_CHECKING:
    from ..build import BuildConfig, EngineCacheEntry
    from ..host import Host


class CompileEngineCallable(Protocol):
    """The least that `EngineCompiler` needs."""

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        """Build an engine and write it, and its sidecar, at `build_config.engine_path`.

        Raises:
            EngineBuildError: The engine cannot be built.
            CalibrationCacheError: The calibration cache cannot be used.
        """


class Runtime(ABC):
    """A runtime that a corpus file can name. Making one imports no vendor library.

    Attributes:
        name: The name in corpus.toml and in recipes.
        strongly_typed: Whether the network's precision is that of its ONNX, so that the model
            has to be lowered first; `compile_engine` then gets the lowered model.
        prepares_inputs: Whether `compile_engine` calls `BuildConfig.prepare_inputs` itself;
            otherwise it was called before.
        polygraphy_environment: What makes Polygraphy use this runtime; its settings are read when
            it is imported.
        builds_anywhere: Whether every target can be built on every host; otherwise `elsewhere`
            is asked.
        reproducible: Whether the same inputs make the same bytes, always and everywhere.
        cpu_targets: Whether a target without `sm` is one for a CPU.
        version_tag: Letters before the version in an engine's name.
        runner: A function, as "module:name", that takes the bytes of a verified engine and
            returns a runner of Polygraphy's for it; called in a process of its own, where
            `runs_on` says yes.
    """

    name: ClassVar[str]
    strongly_typed: ClassVar[bool]
    prepares_inputs: ClassVar[bool] = False
    polygraphy_environment: ClassVar[Mapping[str, str]] = {}
    builds_anywhere: ClassVar[bool] = False
    reproducible: ClassVar[bool] = False
    cpu_targets: ClassVar[bool] = False
    version_tag: ClassVar[str] = TENSORRT
    runner: ClassVar[str] = ""

    @abstractmethod
    def installed_version(self) -> str:
        """Full TensorRT version with build number, found without importing it.

        Raises:
            RuntimeUnavailableError: It is not installed; the message says what to install.
        """

    def resolve(
        self, sm: Sm | None, jetpack: str | None, trt: str | None, host: Callable[[], Host]
    ) -> HostCapabilities:
        """The target in full, from what a corpus says of it.

        Args:
            sm: Compute capabilities, or None where those of this host are meant.
            jetpack: JetPack version, if one is given.
            trt: The runtime's version, or None where the one that is here is meant.
            host: This machine; called only where something of it is needed.

        Raises:
            HostError: What is meant is not there.
            RuntimeUnavailableError: The runtime's version is not given and it is not installed.
            ValueError: What is given does not go together.
        """
        if sm is None:
            here = host()
            sm, jetpack = here.sm(), jetpack or here.jetpack
        return HostCapabilities(sm=sm, jetpack=jetpack, trt=trt or self.version_here(host))

    def version_here(self, host: Callable[[], Host]) -> str:  # noqa: ARG002
        """The runtime's version on this host; a host that is declared may have another."""
        return self.installed_version()

    def elsewhere(self, target: HostCapabilities, host: Host) -> str | None:  # noqa: ARG002
        """Why an engine for the target cannot be built on this host, or None where it can.

        The words go on after "cannot be built here: ".
        """
        return None

    def runs_on(self, target: HostCapabilities, host: Host) -> bool:
        """Whether an engine for the target runs on this host."""
        return bool(set(target.capabilities).intersection(host.sms))

    @abstractmethod
    def precisions(self) -> frozenset[PrecisionMode]:
        """The precisions that can be asked for."""

    @abstractmethod
    def check_target(self, target: HostCapabilities) -> None:
        """Raise ValueError, with the remedy, for hardware that the runtime never builds for."""

    @abstractmethod
    def check_precision(self, target: HostCapabilities, precision: PrecisionMode) -> None:
        """Raise ValueError, with the remedy, for a precision that such hardware cannot do."""

    @abstractmethod
    def check_options(self, options: BuilderOptions, target: HostCapabilities) -> None:
        """Raise ValueError, with the remedy, for an option that the runtime ignores or refuses."""

    @abstractmethod
    def toolchain(self, target: HostCapabilities) -> Mapping[str, str]:
        """Name to version of whatever determines an engine's bytes, for the recipe."""

    @abstractmethod
    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        """See `CompileEngineCallable.compile_engine`; `published` does most of it."""

    def published(self, build_config: BuildConfig, make: Callable[[Path], str]) -> EngineCacheEntry:
        """Have an engine made in a temporary file and publish it with its proofs.

        Args:
            build_config: The build.
            make: Writes the engine to a path and returns the SHA-256 of its bytes.

        Raises:
            EngineBuildError: The target is not given, or an input changed meanwhile; whatever was
                made is gone.
        """
        # Not where nothing is built.
        from ..atomic import staged
        from ..build import EngineCacheEntry
        from ..publish import publish

        path, target = build_config.engine_path, target_of(build_config)
        with staged(path) as temporary:
            digest = make(temporary)
            document = build_config.attest(digest) if build_config.attest else None
            keep = build_config.keep
            envelope = keep(temporary, digest, document) if keep and document else None
            publish(temporary, path, digest, document, envelope)
        return EngineCacheEntry(
            engine_path=path,
            sha256_hex=digest,
            sm=target.sm,
            jp=target.jetpack,
            trt=target.trt,
            precision=build_config.precision,
        )


def target_of(build_config: BuildConfig) -> HostCapabilities:
    """The hardware that a build is for.

    Raises:
        EngineBuildError: It is not given.
    """
    if build_config.host is None:
        raise EngineBuildError("the build's target is not given; set BuildConfig.host")
    return build_config.host


@cache
def platform_here() -> str:
    """This machine's operating system and architecture, such as "linux-x86_64"."""
    return f"{sys.platform}-{platform.machine()}"
