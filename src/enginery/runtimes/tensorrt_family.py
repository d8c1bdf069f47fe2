"""What TensorRT and TensorRT-RTX have in common: the parent's side of a build."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from ..config import PrecisionMode
from ..hardware import HostCapabilities
from .protocol import Runtime, target_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..build import BuildConfig, EngineCacheEntry
    from ..host import Host

FIRST_BF16 = 80
"""The first compute capability with bf16."""


class Place(msgspec.Struct, frozen=True):
    """Where a build happens.

    Attributes:
        environment: Variables that bind a process to it.
        timing_cache: Where its measurements are kept; None where nothing is measured.
    """

    environment: Mapping[str, str] = {}
    timing_cache: Path | None = None


class TensorRTFamily(Runtime):
    """Builds engines in a process of its own each.

    Attributes:
        module: The vendor's module; `<module>_config` beside this file says what is set on it.
        loads_back: Whether an engine is loaded once before it is published.
    """

    strongly_typed = True
    runner = "enginery.runtimes.tensorrt_runner:runner"
    module: ClassVar[str]
    loads_back: ClassVar[bool]

    def precisions(self) -> frozenset[PrecisionMode]:
        """See `Runtime.precisions`."""
        return frozenset(
            {PrecisionMode.FP32, PrecisionMode.FP16, PrecisionMode.BF16, PrecisionMode.INT8}
        )

    def check_precision(self, target: HostCapabilities, precision: PrecisionMode) -> None:
        """See `Runtime.check_precision`."""
        if precision is PrecisionMode.BF16 and min(target.capabilities) < FIRST_BF16:
            raise ValueError(
                f"SM {min(target.capabilities)} has no bf16; use fp16, or build for SM 80 and later"
            )

    def place(
        self,
        target: HostCapabilities,  # noqa: ARG002
        host: Host | None,  # noqa: ARG002
    ) -> AbstractContextManager[Place]:
        """Hold a place where an engine for the target can be built; waits for one if it must.

        Args:
            target: The hardware.
            host: This machine as it is declared, or None.

        Raises:
            ElsewhereError: There is none on this host.
        """
        return nullcontext(Place())

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        """Build and publish an engine; see `CompileEngineCallable.compile_engine`."""
        target = target_of(build_config)
        self.installed_version()

        def make(output: Path) -> str:
            with self.place(target, build_config.build_host) as place:
                built = self._build(model_path, build_config, target, output, place)
            for warning in built["warnings"]:
                warn(warning)
            return str(built["sha256"])

        return self.published(build_config, make)

    def request(
        self,
        model_path: Path,
        config: BuildConfig,
        target: HostCapabilities,
        output: Path,
        place: Place,
    ) -> dict[str, object]:
        """What `tensorrt_build.build` is asked, in JSON's types."""
        return {
            "module": self.module,
            "version": target.trt,
            "model": str(model_path),
            "output": str(output),
            "capabilities": list(target.capabilities),
            "workspace_mb": config.workspace_mb,
            "profiles": [profile.as_dict() for profile in config.optimization_profiles],
            "builder": config.builder.as_dict(),
            # A bare name would be looked for in the system's folders.
            "plugins": [str(Path(plugin).absolute()) for plugin in config.builder.plugins],
            "load_back": self.loads_back,
            "timing_cache": str(place.timing_cache) if place.timing_cache else None,
            "progress": config.progress is not None,
        }

    def _build(
        self,
        model_path: Path,
        config: BuildConfig,
        target: HostCapabilities,
        output: Path,
        place: Place,
    ) -> dict[str, Any]:
        from .. import worker
        from .progress import Relay

        relay = Relay(config.progress) if config.progress else None
        with worker.started(
            "enginery.runtimes.tensorrt_build:build",
            environment={**self.polygraphy_environment, **place.environment},
            label=config.engine_path.name,
            preload=self.module,
            show=relay,
        ) as build:
            if config.prepare_inputs:
                config.prepare_inputs()
            built: dict[str, Any] = build(self.request(model_path, config, target, output, place))
        if relay and relay.error:
            warn(f"{config.engine_path.name}: its progress was not shown: {relay.error!r}")
        return built


def warn(text: str) -> None:
    """Tell a person something that changes no engine."""
    import logging  # not where nothing is built

    logging.getLogger("enginery").warning(
        "%s", text, extra={"kind": "c10.engine.runtime.warning", "kv": {"reason": text}}
    )
