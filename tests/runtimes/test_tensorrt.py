"""Enterprise TensorRT as far as no TensorRT is needed: what it says of targets and options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from enginery import (
    BackboneSpecError,
    BuilderOptions,
    EngineBuildError,
    HostCapabilities,
    OptimizationProfile,
    PrecisionMode,
    RuntimeUnavailableError,
)
from enginery.build import BuildConfig
from enginery.config import MemoryPools
from enginery.host import Gpu, Host
from enginery.runtimes.tensorrt import TensorRT
from enginery.runtimes.tensorrt_versions import agrees, parts

ORIN = HostCapabilities(87, "6.2", "10.3.0.30")
NEW_ORIN = HostCapabilities(87, "7.2.2", "11.4.1.8")
A100 = HostCapabilities(80, None, "10.7.0.23")
H100 = HostCapabilities(90, None, "11.0.0.114")


def host(*sms: int, jetpack: str | None = None, trt: str | None = None) -> Host:
    gpus = tuple(Gpu(index=index, name="GPU", sm=sm) for index, sm in enumerate(sms))
    return Host(source="probed", cpu="x86-64-v3", gpus=gpus, jetpack=jetpack, trt=trt)


ORIN_HOST = host(87, jetpack="6.2", trt="10.3.0.30")


@pytest.mark.parametrize(
    "target", [ORIN, NEW_ORIN, A100, H100, HostCapabilities(110, "7.0", "10.13.3.9")]
)
def test_targets(target: HostCapabilities) -> None:
    TensorRT().check_target(target)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (HostCapabilities((86, 89), None, "10.7.0.23"), "one SM, not for SM 8.6, 8.9.*one target per SM"),
        (HostCapabilities((), None, "10.7.0.23", cpu="x86-64-v3"), "one SM, not for CPU"),
        (HostCapabilities(72, "5.1", "8.5.2.2"), r"SM 72 \(Jetson Xavier\)"),
        (HostCapabilities(87, None, "10.3.0.30"), r"SM 87 is Jetson Orin; add its JetPack"),
        (HostCapabilities(86, "6.2", "10.3.0.30"), "SM 86 is no Jetson; leave jetpack out"),
        (HostCapabilities(86, None, "10.2.0.19"), "10.2.0.19 is not supported; write one from 10.3 to 11.x"),
        (HostCapabilities(86, None, "8.6.1.6"), "is not supported"),
        (HostCapabilities(86, None, "12.0.0.1"), "is not supported"),
        (HostCapabilities(86, None, "10.3"), "four numbers"),
        (HostCapabilities(86, None, "10.3.0"), "four numbers"),
        (HostCapabilities(86, None, "10.3.0.30-foo"), "four numbers"),
        (HostCapabilities(61, None, "10.3.0.30"), "SM 61 has no TensorRT 10"),
        (HostCapabilities(87, "5.1.2", "10.3.0.30"), "JetPack 5.1.2 has no TensorRT 10"),
        (HostCapabilities(86, None, "latest"), "in full"),
    ],
)  # fmt: skip
def test_targets_that_are_never_built(target: HostCapabilities, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TensorRT().check_target(target)


def test_precisions() -> None:
    assert PrecisionMode.FP8 not in TensorRT().precisions()
    for precision in TensorRT().precisions():
        TensorRT().check_precision(ORIN, precision)
    with pytest.raises(ValueError, match="SM 75 has no bf16"):
        TensorRT().check_precision(HostCapabilities(75, None, "10.7.0.23"), PrecisionMode.BF16)


DLA = {"default_device_type": "dla"}


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, ORIN),
        ({"hardware_compatibility_level": "none"}, ORIN),
        ({"hardware_compatibility_level": "ampere_plus"}, A100),
        ({"hardware_compatibility_level": "same_compute_capability"}, H100),
        ({"tiling_optimization_level": "none"}, ORIN),
        ({"tiling_optimization_level": "full"}, H100),
        ({"tactic_sources": ("cublas", "JIT_CONVOLUTIONS")}, ORIN),
        ({"tactic_sources": ()}, H100),
        ({"version_compatible": True, "weight_streaming": True}, ORIN),
        ({**DLA, "gpu_fallback": True, "memory_pools": MemoryPools(dla_local_dram=512)}, NEW_ORIN),
        ({"default_device_type": "gpu"}, H100),
        ({"memory_pools": MemoryPools(tactic_dram=4096, tactic_shared_memory=1023)}, A100),
    ],
)
def test_options(options: dict[str, object], target: HostCapabilities) -> None:
    TensorRT().check_options(BuilderOptions(**options), target)


@pytest.mark.parametrize(
    ("options", "target", "words"),
    [
        ({"hardware_compatibility_level": "ampere_plus"}, NEW_ORIN, "TensorRT has none on JetPack; remove it"),
        ({"hardware_compatibility_level": "ampere_plus"}, HostCapabilities(75, None, "11.0.0.114"), "SM 80 and later"),
        ({"hardware_compatibility_level": "same_compute_capability"}, A100, "came with TensorRT 10.9, this target has 10.7.0.23"),
        ({"tiling_optimization_level": "fast"}, ORIN, "tiling came with TensorRT 10.8"),
        ({"tactic_sources": ("CUBLAS",)}, H100, "has no 'CUBLAS'; use EDGE_MASK_CONVOLUTIONS, JIT_CONVOLUTIONS"),
        ({"tactic_sources": ("CUBLAST",)}, ORIN, "has no 'CUBLAST'; use CUBLAS, "),
        ({"gpu_fallback": False}, ORIN, 'gpu_fallback: .*set default_device_type = "dla" or remove it'),
        (DLA, ORIN, "from TensorRT 11.4.1 and JetPack 7.2.2 on, this target has 10.3.0.30 and 6.2"),
        (DLA, HostCapabilities(87, "7.2", "11.4.1.8"), "JetPack 7.2.2"),
        (DLA, HostCapabilities(87, "7.2.2", "11.4.0.106"), "TensorRT 11.4.1"),
        (DLA, HostCapabilities(110, "7.2.2", "11.4.1.8"), "only Jetson Orin"),
        (DLA, H100, "only Jetson Orin"),
        ({"memory_pools": MemoryPools(dla_local_dram=512)}, ORIN, "memory_pools.dla_local_dram: set default_device_type"),
        ({**DLA, "memory_pools": MemoryPools(dla_local_dram=500)}, NEW_ORIN, "500 MiB is no power of two"),
        ({"memory_pools": MemoryPools(tactic_shared_memory=1024)}, ORIN, "less than 1024 MiB"),
    ],
)  # fmt: skip
def test_options_that_are_refused(
    options: dict[str, object], target: HostCapabilities, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        TensorRT().check_options(BuilderOptions(**options), target)


@pytest.mark.parametrize(
    ("precision", "shapes", "error", "words"),
    [
        (PrecisionMode.FP32, [(1, 3)] * 3, EngineBuildError, "fp16 or int8, not in fp32"),
        (PrecisionMode.FP16, [(1, 3), (2, 3), (2, 3)], BackboneSpecError, "one shape of input 'x'"),
    ],
)
def test_builds_that_no_dla_can_run(
    precision: PrecisionMode, shapes: list[tuple[int, ...]], error: type[Exception], words: str
) -> None:
    config = BuildConfig(
        precision=precision,
        workspace_mb=64,
        calibration_dataset=None,
        optimization_profiles=(OptimizationProfile("x", *shapes),),
        engine_path=Path("never.engine"),
        host=NEW_ORIN,
        builder=BuilderOptions(default_device_type="dla"),
    )
    with pytest.raises(error, match=words):
        TensorRT().compile_engine(Path("never.onnx"), config)


@pytest.mark.parametrize(
    "here",
    [ORIN_HOST, host(86, 87, jetpack="6.2", trt="10.3.0.30"), host(87, jetpack="6.2", trt="10.3.0")],
    ids=["it is the target", "several GPUs", "the build number is not known"],
)  # fmt: skip
def test_a_host_that_is_the_target(here: Host) -> None:
    assert TensorRT().elsewhere(ORIN, here) is None
    assert TensorRT().runs_on(ORIN, here)


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (host(86, jetpack="6.2", trt="10.3.0.30"), "this one is SM 8.6, JetPack 6.2, TensorRT 10.3.0.30"),
        (host(87, jetpack="6.1", trt="10.3.0.30"), "this one is SM 8.7, JetPack 6.1"),
        (host(87, jetpack="6.2", trt="10.3.0.26"), "TensorRT 10.3.0.26$"),
        (host(87, jetpack="6.2", trt="10.3.0.3"), "TensorRT 10.3.0.3$"),
        (host(87, jetpack="6.2"), "no TensorRT"),
        (host(), "this one is x86-64-v3 without a GPU"),
    ],
)  # fmt: skip
def test_a_host_that_is_not(here: Host, words: str) -> None:
    reason = TensorRT().elsewhere(ORIN, here)
    assert reason is not None
    assert reason.startswith("it needs a host with SM 8.7, JetPack 6.2, TensorRT 10.3.0.30; ")
    assert re.search(words, reason)
    assert not TensorRT().runs_on(ORIN, here)


def test_the_version_here() -> None:
    assert TensorRT().version_here(lambda: ORIN_HOST) == "10.3.0.30"
    with pytest.raises(RuntimeUnavailableError, match="pip install tensorrt"):
        TensorRT().version_here(lambda: host(86))
    with pytest.raises(RuntimeUnavailableError, match=r"JetPack.*--system-site-packages"):
        TensorRT().version_here(lambda: host(87, jetpack="6.2"))


def test_the_toolchain_is_that_of_the_target() -> None:
    """So that a laptop can judge what a Jetson built."""
    assert TensorRT().toolchain(ORIN) == {
        "runtime": "tensorrt", "tensorrt": "10.3.0.30", "platform": "linux-aarch64"
    }  # fmt: skip


def test_versions() -> None:
    assert parts("10.3.0.30") == (10, 3, 0, 30)
    assert parts("7.2.2-b12") == (7, 2, 2)
    assert parts("DP") == ()
    assert agrees("10.3.0", "10.3.0.30")
    assert agrees("10.3.0.30", "10.3.0.30")
    assert not agrees("10.3.0.3", "10.3.0.30")
    assert not agrees("10.3.0.30", "10.3.0")
