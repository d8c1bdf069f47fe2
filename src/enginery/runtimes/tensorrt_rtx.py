"""TensorRT-RTX: engines for RTX GPUs, built ahead of time on any machine, GPU or not."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..config import BuilderOptions, PrecisionMode
from ..errors import EngineBuildError, RuntimeUnavailableError
from ..hardware import HostCapabilities
from ..installed import first_installed
from .protocol import Runtime

if TYPE_CHECKING:
    from ..build import BuildConfig, EngineCacheEntry

# One distribution per CUDA major version, all with the import name tensorrt_rtx.
_DISTRIBUTIONS = ("tensorrt_rtx_cu13", "tensorrt_rtx_cu12", "tensorrt_rtx")

# The capabilities in ComputeCapability of TensorRT-RTX 1.7; a later version may know more, so
# only those that no version can have are refused before the builder is asked.
_JETSON_AND_SERVER = {87: "Jetson Orin", 90: "H100/H200", 100: "B200", 101: "Thor", 110: "Thor"}

_FIRST_BF16 = 80

# Tried with TensorRT-RTX 1.7 without a GPU: the engine's bytes are the same whatever is set.
_REFUSED = {
    "avg_timing_iterations": "TensorRT-RTX times no tactics where it builds without a GPU",
    "tactic_sources": "TensorRT-RTX chooses tactics on the GPU that runs the engine",
    "tiling_optimization_level": "TensorRT-RTX ignores it where it builds without a GPU",
}


class TensorRTRTX(Runtime):
    """Builds engines with TensorRT-RTX, CPU only, each in a process of its own."""

    name = "tensorrt_rtx"
    strongly_typed = True
    prepares_inputs = True
    polygraphy_environment: ClassVar[Mapping[str, str]] = {"POLYGRAPHY_USE_TENSORRT_RTX": "1"}

    def installed_version(self) -> str:
        """See `Runtime.installed_version`."""
        found = first_installed(_DISTRIBUTIONS)
        if found is None:
            raise RuntimeUnavailableError(
                "TensorRT-RTX is not installed; install it with: pip install 'enginery[rtx]'"
            )
        return found

    def precisions(self) -> frozenset[PrecisionMode]:
        """See `Runtime.precisions`."""
        return frozenset(
            {PrecisionMode.FP32, PrecisionMode.FP16, PrecisionMode.BF16, PrecisionMode.INT8}
        )

    def check_target(self, target: HostCapabilities) -> None:
        """See `Runtime.check_target`."""
        if target.jetpack is not None:
            raise ValueError("TensorRT-RTX does not run on Jetson; leave jetpack out")
        for sm in target.capabilities:
            if sm in _JETSON_AND_SERVER:
                raise ValueError(
                    f"TensorRT-RTX builds nothing for SM {sm} ({_JETSON_AND_SERVER[sm]}); "
                    "use 75, 80, 86, 89, 120 or 121"
                )

    def check_precision(self, target: HostCapabilities, precision: PrecisionMode) -> None:
        """See `Runtime.check_precision`."""
        if precision is PrecisionMode.BF16 and min(target.capabilities) < _FIRST_BF16:
            raise ValueError(
                f"SM {min(target.capabilities)} has no bf16 (Turing); use fp16, or build for "
                "SM 80 and later"
            )

    def check_options(self, options: BuilderOptions) -> None:
        """See `Runtime.check_options`."""
        for name, reason in _REFUSED.items():
            if getattr(options, name) is not None:
                raise ValueError(f"{name}: {reason}; remove it")
        pools = options.memory_pools
        for name in ("dla_managed_sram", "dla_local_dram", "dla_global_dram"):
            if pools and getattr(pools, name):
                raise ValueError(f"memory_pools.{name}: TensorRT-RTX has no DLA; remove it")

    def toolchain(self, target: HostCapabilities) -> Mapping[str, str]:
        """See `Runtime.toolchain`. Engines are built for the platform that builds them."""
        return {
            "runtime": self.name,
            "tensorrt": target.trt,
            "platform": _platform(),
        }

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        """Build and publish an engine; see `CompileEngineCallable.compile_engine`."""
        target = build_config.host
        if target is None:
            raise EngineBuildError("the build's target is not given; set BuildConfig.host")
        self.installed_version()
        # Not where nothing is built.
        from .. import atomic, worker
        from ..build import EngineCacheEntry
        from ..publish import publish

        path = build_config.engine_path
        with atomic.staged(path) as temporary:
            with worker.started(
                "enginery.runtimes.tensorrt_build:build",
                environment=self.polygraphy_environment,
                label=path.name,
                preload="tensorrt_rtx",
            ) as build:
                if build_config.prepare_inputs:
                    build_config.prepare_inputs()
                built = build(_request(model_path, build_config, target, temporary))
            digest = built["sha256"]
            document = build_config.attest(digest) if build_config.attest else None
            publish(temporary, path, digest, document)
        return EngineCacheEntry(
            engine_path=path,
            sha256_hex=digest,
            sm=target.sm,
            jp=target.jetpack,
            trt=target.trt,
            precision=build_config.precision,
        )


@cache
def _platform() -> str:
    return f"{sys.platform}-{platform.machine()}"


def _request(
    model_path: Path, config: BuildConfig, target: HostCapabilities, output: Path
) -> dict[str, object]:
    return {
        "module": "tensorrt_rtx",
        "version": target.trt,
        "model": str(model_path),
        "output": str(output),
        "capabilities": list(target.capabilities),
        "workspace_mb": config.workspace_mb,
        "profiles": [profile.as_dict() for profile in config.optimization_profiles],
        "builder": config.builder.as_dict(),
        # A bare name would be looked for in the system's folders.
        "plugins": [str(Path(plugin).absolute()) for plugin in config.builder.plugins],
    }
