"""Enterprise TensorRT's builder configuration, 10.3 to 11.x."""

from __future__ import annotations

from collections.abc import Mapping
from operator import methodcaller
from typing import Any

from polygraphy.backend.trt import CreateConfig

from ..errors import EngineBuildError
from .builder_config import BuilderConfig, Setting
from .tensorrt_versions import TILING, parts

_AUTOMATIC = -1


class Configuration(BuilderConfig):
    """What a build with enterprise TensorRT sets.

    Of memory pools only the workspace has a value of ours: TensorRT refuses more for tactics than
    the device has, and a limit of shared memory would undo that of hardware compatibility
    (`MemoryPoolType` in NVIDIA's API reference).
    """

    flags = (
        *BuilderConfig.flags,
        ("version_compatible", "VERSION_COMPATIBLE"),
        # A lean runtime in the engine would be host code, which is never allowed to run.
        ("version_compatible", "EXCLUDE_LEAN_RUNTIME"),
        ("gpu_fallback", "GPU_FALLBACK"),
    )

    def check(self, builder: Any, network: Any) -> None:  # noqa: ARG002
        """See `BuilderConfig.check`: a DLA that is not there."""
        if self._on_dla() and builder.num_DLA_cores == 0:
            raise EngineBuildError(
                "default_device_type: this machine has no DLA that TensorRT can use; build for "
                'the GPU, or on a Jetson that has one (its modules named "Nano" have none)'
            )

    def create(self, common: Mapping[str, Any]) -> Any:
        """See `BuilderConfig.create`."""
        streams = self.options["max_aux_streams"]
        return CreateConfig(
            **common,
            hardware_compatibility_level=self._level(),
            max_aux_streams=None if streams == _AUTOMATIC else streams,
            tactic_sources=self._sources(),
            tiling_optimization_level=self._tiling(),
        )

    def adjust(self, config: Any) -> None:
        """See `BuilderConfig.adjust`."""
        super().adjust(config)
        config.avg_timing_iterations = self._iterations()
        config.default_device_type = self._device()
        if self._on_dla():
            config.DLA_core = 0

    def settings(self) -> list[Setting]:
        """See `BuilderConfig.settings`."""
        found = [
            *super().settings(),
            self.setting("hardware_compatibility_level", self._level()),
            self.setting("avg_timing_iterations", self._iterations()),
            self.setting("default_device_type", self._device()),
        ]
        sources, tiling = self._sources(), self._tiling()
        if sources is not None:
            mask = sum(1 << int(source) for source in sources)
            found.append(Setting("tactic_sources", mask, methodcaller("get_tactic_sources")))
        if tiling is not None:
            found.append(self.setting("tiling_optimization_level", tiling))
        if self.options["max_aux_streams"] != _AUTOMATIC:
            found.append(self.setting("max_aux_streams", self.options["max_aux_streams"]))
        return found

    def _on_dla(self) -> bool:
        return self.options.get("default_device_type") == "dla"

    def _device(self) -> Any:
        device = self.options.get("default_device_type", "gpu")
        return self.member("DeviceType", "default_device_type", device)

    def _iterations(self) -> int:
        return int(self.options.get("avg_timing_iterations", 1))

    def _level(self) -> Any:
        option = "hardware_compatibility_level"
        return self.member("HardwareCompatibilityLevel", option, self.options.get(option, "none"))

    def _sources(self) -> list[Any] | None:
        option = "tactic_sources"
        names = self.options.get(option)
        if names is None:
            return None
        return [self.member("TacticSource", option, name) for name in dict.fromkeys(names)]

    def _tiling(self) -> Any:
        """The level, explicitly; None where this version knows of no tiling."""
        option = "tiling_optimization_level"
        level = self.options.get(option, "none")
        if parts(self.trt.__version__) >= TILING:
            return self.member("TilingOptimizationLevel", option, level)
        if level != "none":
            raise EngineBuildError(
                f"{option}: TensorRT {self.trt.__version__} has no tiling; remove it, or use 10.8 "
                "or later"
            )
        return None
