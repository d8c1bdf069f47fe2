"""Which builder options enterprise TensorRT takes, by its version and the target's hardware.

The facts are NVIDIA's: its pages on hardware compatibility ("not supported on NVIDIA DRIVE OS or
JetPack"), on DLA, and the API reference of `MemoryPoolType`, `TacticSource` and
`HardwareCompatibilityLevel`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..config import BuilderOptions, PrecisionMode
from ..errors import BackboneSpecError, EngineBuildError
from ..hardware import HostCapabilities
from .tensorrt_versions import (
    DLA,
    DLA_JETPACK,
    NO_CUBLAS,
    SAME_COMPUTE_CAPABILITY,
    TILING,
    parts,
)

if TYPE_CHECKING:
    from ..build import BuildConfig

_ORIN = 87
_AMPERE = 80

_SOURCES = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
_OLD_SOURCES = ("CUBLAS", "CUBLAS_LT", "CUDNN")

# "This value must be less than 1GiB."
_SHARED_MEMORY_MIB = 1024

_DLA_POOLS = ("dla_managed_sram", "dla_local_dram", "dla_global_dram")

_DLA_PRECISIONS = (PrecisionMode.FP16, PrecisionMode.INT8)


def check_options(options: BuilderOptions, target: HostCapabilities) -> None:
    """Raise ValueError, with the remedy, for an option that cannot be had for the target."""
    for check in (_compatibility, _tactics, _dla, _pools):
        for fault in check(options, target):
            raise ValueError(fault)


def check_dla(build: BuildConfig) -> None:
    """Raise EngineBuildError for a build that no DLA can run, whatever its layers."""
    if build.builder.default_device_type != "dla":
        return
    if build.precision not in _DLA_PRECISIONS:
        raise EngineBuildError(
            f"a DLA computes in fp16 or int8, not in {build.precision}; build it in one of these, "
            "or for the GPU"
        )
    for profile in build.optimization_profiles:
        if not profile.min_shape == profile.opt_shape == profile.max_shape:
            raise BackboneSpecError(
                f"a DLA takes one shape of input {profile.input_name!r}; give it equal min, opt "
                "and max, or build for the GPU",
                field="profiles",
            )


def _compatibility(options: BuilderOptions, target: HostCapabilities) -> Iterator[str]:
    level = options.hardware_compatibility_level or "none"
    if level == "none":
        return
    name = "hardware_compatibility_level"
    if target.jetpack is not None:
        yield f"{name}: TensorRT has none on JetPack; remove it"
    if level == "ampere_plus" and min(target.capabilities) < _AMPERE:
        yield (
            f"{name}: ampere_plus is for SM {_AMPERE} and later, this target is "
            f"SM {min(target.capabilities)}; remove it"
        )
    if level == "same_compute_capability" and parts(target.trt) < SAME_COMPUTE_CAPABILITY:
        yield f"{name}: {level} came with TensorRT 10.9, this target has {target.trt}; remove it"


def _tactics(options: BuilderOptions, target: HostCapabilities) -> Iterator[str]:
    version = parts(target.trt)
    tiling = options.tiling_optimization_level or "none"
    if tiling != "none" and version < TILING:
        yield (
            "tiling_optimization_level: tiling came with TensorRT 10.8, this target has "
            f"{target.trt}; remove it"
        )
    known = _SOURCES if version >= NO_CUBLAS else (*_OLD_SOURCES, *_SOURCES)
    for source in options.tactic_sources or ():
        if source.upper() not in known:
            yield (
                f"tactic_sources: TensorRT {target.trt} has no {source!r}; use "
                f"{', '.join(known)}, or remove it"
            )


def _dla(options: BuilderOptions, target: HostCapabilities) -> Iterator[str]:
    if options.default_device_type != "dla":
        if options.gpu_fallback is not None:
            yield (
                "gpu_fallback: it is for layers that a DLA cannot run; set "
                'default_device_type = "dla" or remove it'
            )
        return
    name = "default_device_type"
    if target.sm != _ORIN or target.jetpack is None:
        yield f"{name}: only Jetson Orin (SM {_ORIN}) has a DLA; remove it"
    elif parts(target.trt) < DLA or parts(target.jetpack) < DLA_JETPACK:
        yield (
            f"{name}: a DLA takes strongly typed networks, as all are here, from TensorRT "
            f"11.4.1 and JetPack 7.2.2 on, this target has {target.trt} and {target.jetpack}; "
            "remove it"
        )


def _pools(options: BuilderOptions, target: HostCapabilities) -> Iterator[str]:  # noqa: ARG001
    pools = options.memory_pools
    if pools is None:
        return
    if (pools.tactic_shared_memory or 0) >= _SHARED_MEMORY_MIB:
        yield (
            f"memory_pools.tactic_shared_memory: it must be less than {_SHARED_MEMORY_MIB} MiB; "
            "lower it"
        )
    for name in _DLA_POOLS:
        size = getattr(pools, name)
        if size is not None and options.default_device_type != "dla":
            yield f'memory_pools.{name}: set default_device_type = "dla" too, or remove it'
        elif size is not None and size & (size - 1):
            yield f"memory_pools.{name}: {size} MiB is no power of two; write one"
