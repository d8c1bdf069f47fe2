"""What is asked for: backbones, their shapes and settings, and requests for engines of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .hardware import HostCapabilities

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


class BuilderOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of TensorRT's `IBuilderConfig`, each under the name that it has there.

    Attributes:
        builder_optimization_level: 0 (quick build) to 5 (fast engine); TensorRT's default is 3.
        profiling_verbosity: "none", "layer_names_only" or "detailed".
        max_aux_streams: Auxiliary CUDA streams; -1 leaves the number to TensorRT's heuristics.
        tf32: Whether fp32 matrix products may use TF32 tensor cores (TensorRT's default).
        sparse_weights: Whether 2:4 structured sparsity of the weights may be used.
    """

    builder_optimization_level: Annotated[int, Meta(ge=0, le=5)] = 3
    profiling_verbosity: Literal["none", "layer_names_only", "detailed"] = "layer_names_only"
    max_aux_streams: Annotated[int, Meta(ge=-1)] = -1
    tf32: bool = True
    sparse_weights: bool = False

    def as_dict(self) -> dict[str, int | str | bool]:
        """Name to value, for recipes and requests."""
        return msgspec.structs.asdict(self)


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
    """

    model_name: str
    onnx_path: Path
    expected_input_shape: tuple[int, ...]
    input_name: str = "input"
    profiles: tuple[OptimizationProfile, ...] = ()
    builder: BuilderOptions = BuilderOptions()

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
    """

    backbones: tuple[BackboneSpec, ...]
    calibration_path: Path | None
    cache_root: Path
    precision: PrecisionMode
    host: HostCapabilities
    workspace_mb: int = DEFAULT_WORKSPACE_MB
    lowered_root: Path | None = None
