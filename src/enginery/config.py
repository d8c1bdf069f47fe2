"""What is asked for: backbones, their shapes and settings, and requests for engines of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .hardware import HostCapabilities
from .host import Host

DEFAULT_WORKSPACE_MB = 4096


class PrecisionMode(str, Enum):
    """What the network computes in where it is not told otherwise."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class OptimizationProfile:
    """The range of shapes of one input that an engine accepts and is tuned for.

    Attributes:
        input_name: The network's input.
        min_shape: Smallest shape, one size per dimension, batch first.
        opt_shape: The shape that kernels are tuned for.
        max_shape: Largest shape.
        index: Which of the engine's profiles this range belongs to. An engine with several
            inputs has one range per input and index.
    """

    input_name: str
    min_shape: tuple[int, ...]
    opt_shape: tuple[int, ...]
    max_shape: tuple[int, ...]
    index: int = 0

    def as_dict(self) -> dict[str, Any]:
        """In JSON's types, for recipes and requests."""
        return {
            "index": self.index,
            "input_name": self.input_name,
            "min": list(self.min_shape),
            "opt": list(self.opt_shape),
            "max": list(self.max_shape),
        }


# 16 TiB: more than any GPU has, and no more than TensorRT can count in bytes.
Mib = Annotated[int, Meta(ge=1, le=1 << 24)]


class MemoryPools(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of TensorRT's memory pools besides the workspace, in MiB; see `MemoryPoolType`.

    Attributes:
        tactic_dram: Device memory while tactics are tried.
        tactic_shared_memory: Shared memory of a kernel.
        dla_managed_sram: DLA's memory on the chip.
        dla_local_dram: DLA's host memory for activations, of one engine.
        dla_global_dram: DLA's host memory for weights and what engines share.
    """

    tactic_dram: Mib | None = None
    tactic_shared_memory: Mib | None = None
    dla_managed_sram: Mib | None = None
    dla_local_dram: Mib | None = None
    dla_global_dram: Mib | None = None


class BuilderOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of TensorRT's `IBuilderConfig`, each under the name that it has there.

    Those that are None are left to the runtime's fixed value and out of recipes.

    Attributes:
        builder_optimization_level: 0 (quick build) to 5 (fast engine); TensorRT's default is 3.
        profiling_verbosity: "none", "layer_names_only" or "detailed".
        max_aux_streams: Auxiliary CUDA streams; -1 leaves the number to TensorRT's heuristics.
        tf32: Whether fp32 matrix products may use TF32 tensor cores (TensorRT's default).
        sparse_weights: Whether 2:4 structured sparsity of the weights may be used.
        weight_streaming: Whether weights may be streamed from host memory at run time.
        avg_timing_iterations: How often a tactic is timed.
        tactic_sources: Where tactics may come from, by their names in `TacticSource`.
        tiling_optimization_level: "none", "fast", "moderate" or "full".
        hardware_compatibility_level: "none", "ampere_plus" (SM 80 and later) or
            "same_compute_capability".
        version_compatible: Whether other versions of TensorRT of the same major may load it,
            through the lean runtime of the version that built it. The engine holds none of that
            itself, so it holds no host code.
        default_device_type: "gpu" or "dla".
        gpu_fallback: Whether layers that DLA cannot run may run on the GPU.
        memory_pools: Limits of memory pools.
        plugins: Plugin libraries; in corpus.toml relative to it.
    """

    builder_optimization_level: Annotated[int, Meta(ge=0, le=5)] = 3
    profiling_verbosity: Literal["none", "layer_names_only", "detailed"] = "layer_names_only"
    max_aux_streams: Annotated[int, Meta(ge=-1, le=1024)] = -1
    tf32: bool = True
    sparse_weights: bool = False
    weight_streaming: bool | None = None
    avg_timing_iterations: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    tactic_sources: tuple[str, ...] | None = None
    tiling_optimization_level: Literal["none", "fast", "moderate", "full"] | None = None
    hardware_compatibility_level: (
        Literal["none", "ampere_plus", "same_compute_capability"] | None
    ) = None
    version_compatible: bool | None = None
    default_device_type: Literal["gpu", "dla"] | None = None
    gpu_fallback: bool | None = None
    memory_pools: MemoryPools | None = None
    plugins: tuple[str, ...] = ()

    @property
    def modes(self) -> tuple[str, ...]:
        """What an engine's name says of them: how it is tied to its hardware and version."""
        level = self.hardware_compatibility_level or "none"
        return tuple(
            mode
            for mode, wanted in (
                ("hc-" + level.replace("_", "-"), level != "none"),
                ("vc", self.version_compatible),
                ("dla", self.default_device_type == "dla"),
            )
            if wanted
        )

    def as_dict(self) -> dict[str, Any]:
        """Name to value in JSON's types, for recipes and requests.

        Plugin libraries are not among them: recipes name them by content, among the inputs.
        """
        found: dict[str, Any] = msgspec.to_builtins(self)
        del found["plugins"]
        if self.memory_pools:
            found["memory_pools"] = _given(found["memory_pools"])
        return _given(found)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


class LoweringOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model is lowered to a precision.

    Attributes:
        keep_nodes: Names of nodes that stay in fp32.
        keep_operators: Operators, such as "Softmax", whose nodes all stay in fp32.
        int8_with: What an int8 model computes in where it is not quantized.
        io: Types of inputs and outputs: "declared" as in the model, or "lowered" too.
        uncovered_percent: Of the tensors that int8 quantizes, how many a calibration cache may
            leave without a scale before it is refused.
    """

    keep_nodes: tuple[str, ...] = ()
    keep_operators: tuple[str, ...] = ()
    int8_with: Literal["fp16", "fp32"] = "fp16"
    io: Literal["declared", "lowered"] = "declared"
    uncovered_percent: Annotated[int, Meta(ge=0, le=100)] = 10

    def as_dict(self) -> dict[str, int | str | list[str]]:
        """Name to value, for recipes and requests."""
        return {**msgspec.structs.asdict(self), "keep_nodes": list(self.keep_nodes),
                "keep_operators": list(self.keep_operators)}  # fmt: skip


class CalibrateSpec(msgspec.Struct, frozen=True):
    """How a calibration cache is computed.

    Attributes:
        data: The pattern of the files or the "module:function" that yields the feeds.
        folder: What the pattern or the module is relative to.
        method: How ranges are found: "entropy", "minmax" or "percentile".
        percentile: Which percentile, as text: recipes hold no floats.
    """

    data: str
    folder: Path
    method: Literal["entropy", "minmax", "percentile"]
    percentile: str


class CheckSpec(msgspec.Struct, frozen=True):
    """How a lowered model is compared with the original.

    Attributes:
        data: Pattern of files with inputs, or None for generated ones.
        folder: What the pattern is relative to.
        samples: How many inputs are generated.
        seed: Seed of the generated inputs.
        tolerances: Precision to name to bound; a bound is text because recipes hold no floats.
    """

    folder: Path
    data: str | None = None
    samples: int = 4
    seed: int = 0
    tolerances: Mapping[PrecisionMode, Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """One ONNX model of the corpus.

    Attributes:
        model_name: The name that engines carry; a safe file name.
        onnx_path: The ONNX file; external data lies where the file says, relative to it.
        expected_input_shape: Static shape of the input, one size per dimension, batch first.
        input_name: The network's input that the shape is for.
        profiles: Explicit optimization profiles; they override the default one, which has
            min == opt == max == `expected_input_shape`.
        builder: Builder options.
        lowering: How the model is lowered where the precision is not that of the model.
    """

    model_name: str
    onnx_path: Path
    expected_input_shape: tuple[int, ...]
    input_name: str = "input"
    profiles: tuple[OptimizationProfile, ...] = ()
    builder: BuilderOptions = BuilderOptions()
    lowering: LoweringOptions = LoweringOptions()

    @property
    def optimization_profiles(self) -> tuple[OptimizationProfile, ...]:
        """The explicit profiles, or the default one."""
        shape = tuple(self.expected_input_shape)
        return self.profiles or (OptimizationProfile(self.input_name, shape, shape, shape),)


@dataclass(frozen=True, slots=True)
class EngineCompileRequest:
    """Engines asked for: every backbone in one precision for one host.

    Attributes:
        backbones: The models, in the order in which results are wanted.
        calibration_path: TensorRT calibration cache, or None.
        cache_root: Folder of the engines; made if it is not there.
        precision: The precision that the networks compute in.
        host: The hardware that the engines are for.
        workspace_mb: Workspace memory pool in MiB.
        lowered_root: Folder of ONNX files lowered to a precision; None is `.enginery/lowered`
            in `cache_root`.
        build_host: The machine that we are on; None is to find out, where that matters.
    """

    backbones: tuple[BackboneSpec, ...]
    calibration_path: Path | None
    cache_root: Path
    precision: PrecisionMode
    host: HostCapabilities
    workspace_mb: int = DEFAULT_WORKSPACE_MB
    lowered_root: Path | None = None
    build_host: Host | None = None
