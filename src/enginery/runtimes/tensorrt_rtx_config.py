"""TensorRT-RTX's builder configuration: engines for given capabilities, made without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

from ..errors import EngineBuildError
from .builder_config import BuilderConfig, Setting

# TensorRT takes these from the machine that builds; without a GPU it takes these very values.
_TACTIC_DRAM = 64 << 30
_TACTIC_SHARED_MEMORY = 1 << 30

_TURING = 75
_DTYPES = {"FLOAT": "fp32", "BF16": "bf16"}


class Configuration(BuilderConfig):
    """What a build with TensorRT-RTX sets."""

    def check(self, builder: Any, network: Any) -> None:  # noqa: ARG002
        """See `BuilderConfig.check`: Turing's matrix products."""
        trt, lowest = self.trt, min(self.wanted.capabilities)
        if lowest > _TURING:
            return
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            if layer.type == trt.LayerType.MATRIX_MULTIPLY:
                dtype = layer.get_input(0).dtype
                if dtype in (trt.float32, trt.bfloat16):
                    raise EngineBuildError(
                        f"SM {lowest} (Turing) does no matrix product in "
                        f"{_DTYPES.get(dtype.name, dtype.name)}, and {layer.name!r} is one: FP32 "
                        "GEMM is not supported there; build it in fp16, or for SM 80 and later"
                    )

    def create(self, common: Mapping[str, Any]) -> Any:
        """See `BuilderConfig.create`."""
        trt = self.trt
        return CreateConfigRTX(
            **common,
            compute_capabilities=[divmod(sm, 10) for sm in self.wanted.capabilities],
            use_gpu=False,
            max_aux_streams=self.options["max_aux_streams"],
            tiling_optimization_level=trt.TilingOptimizationLevel.NONE,
        )

    def default_pools(self) -> dict[Any, int]:
        """See `BuilderConfig.default_pools`."""
        trt = self.trt
        return {
            **super().default_pools(),
            trt.MemoryPoolType.TACTIC_DRAM: _TACTIC_DRAM,
            trt.MemoryPoolType.TACTIC_SHARED_MEMORY: _TACTIC_SHARED_MEMORY,
        }

    def settings(self) -> list[Setting]:
        """See `BuilderConfig.settings`."""
        return [
            Setting("sm", [f"SM{sm}" for sm in self.wanted.capabilities], _capabilities),
            *super().settings(),
            self.setting("max_aux_streams", self.options["max_aux_streams"]),
        ]


def _capabilities(config: Any) -> list[str]:
    count = config.num_compute_capabilities
    return [config.get_compute_capability(index).name for index in range(count)]
