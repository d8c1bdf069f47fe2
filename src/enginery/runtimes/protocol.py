"""What a runtime must offer: little for the compiler alone, more for a corpus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from ..config import BuilderOptions, PrecisionMode
from ..hardware import HostCapabilities

if TYPE_CHECKING:
    from ..build import BuildConfig, EngineCacheEntry


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
    """

    name: ClassVar[str]
    strongly_typed: ClassVar[bool]
    prepares_inputs: ClassVar[bool] = False
    polygraphy_environment: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def installed_version(self) -> str:
        """Full TensorRT version with build number, found without importing it.

        Raises:
            RuntimeUnavailableError: It is not installed; the message says what to install.
        """

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
    def check_options(self, options: BuilderOptions) -> None:
        """Raise ValueError, with the remedy, for an option that the runtime ignores or refuses."""

    @abstractmethod
    def toolchain(self, target: HostCapabilities) -> Mapping[str, str]:
        """Name to version of whatever determines an engine's bytes, for the recipe."""

    @abstractmethod
    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        """See `CompileEngineCallable.compile_engine`."""
