"""TensorRT-RTX: engines for RTX GPUs, built ahead of time on any machine, GPU or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..config import BuilderOptions
from ..errors import RuntimeUnavailableError
from ..hardware import HostCapabilities
from ..installed import first_installed
from .protocol import platform_here
from .tensorrt_family import TensorRTFamily

# One distribution per CUDA major version, all with the import name tensorrt_rtx.
_DISTRIBUTIONS = ("tensorrt_rtx_cu13", "tensorrt_rtx_cu12", "tensorrt_rtx")

# The capabilities in ComputeCapability of TensorRT-RTX 1.7; a later version may know more, so
# only those that no version can have are refused before the builder is asked.
_JETSON_AND_SERVER = {87: "Jetson Orin", 90: "H100/H200", 100: "B200", 101: "Thor", 110: "Thor"}

# Tried with TensorRT-RTX 1.7 without a GPU: the engine's bytes are the same whatever is set, but
# for version_compatible.
_REFUSED = {
    "avg_timing_iterations": "TensorRT-RTX times no tactics where it builds without a GPU",
    "tactic_sources": "TensorRT-RTX chooses tactics on the GPU that runs the engine",
    "tiling_optimization_level": "TensorRT-RTX ignores it where it builds without a GPU",
    "hardware_compatibility_level": "TensorRT-RTX has none; name every SM in the target",
    "version_compatible": "TensorRT-RTX comes without the lean runtime that loads such an engine",
    "default_device_type": "TensorRT-RTX has no DLA",
    "gpu_fallback": "TensorRT-RTX has no DLA",
}


class TensorRTRTX(TensorRTFamily):
    """Builds engines with TensorRT-RTX, CPU only."""

    name = "tensorrt_rtx"
    module = "tensorrt_rtx"
    prepares_inputs = True
    builds_anywhere = True
    reproducible = True
    # Without a GPU it cannot load what it builds.
    loads_back = False
    polygraphy_environment: ClassVar[Mapping[str, str]] = {"POLYGRAPHY_USE_TENSORRT_RTX": "1"}

    def installed_version(self) -> str:
        """See `Runtime.installed_version`."""
        found = first_installed(_DISTRIBUTIONS)
        if found is None:
            raise RuntimeUnavailableError(
                "TensorRT-RTX is not installed; install it with: pip install 'enginery[rtx]'"
            )
        return found

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

    def check_options(self, options: BuilderOptions, target: HostCapabilities) -> None:  # noqa: ARG002
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
            "platform": platform_here(),
        }
