"""ONNX Runtime: engines where no TensorRT is, each for the CPU of the machine that builds it.

An engine is the model as ONNX Runtime optimized it, one ONNX file that `InferenceSession` loads.
A target without `sm` is for a CPU; with `sm` it is for a GPU, through the TensorRT execution
provider (`onnxruntime_tensorrt` says what of that has been run).

Why the CPU's level is in an engine's name: the weights of convolutions lie in blocks as wide as
the CPU's vectors, and nothing in the file says how wide. Tried with ONNX Runtime 1.32: a ResNet-50
optimized on a CPU with AVX-512 loads and runs on one with AVX2 without a word, and its outputs
are wrong (cosine similarity 0.15). ONNX Runtime's page "Graph Optimizations", section
"Online/Offline Mode", warns of it. Files of 1.23 and 1.32 load in each other, and differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..config import BuilderOptions, PrecisionMode
from ..errors import HostError, RuntimeUnavailableError
from ..hardware import HostCapabilities, Sm, dotted
from ..installed import ONNXRUNTIME, first_installed
from .protocol import Runtime, platform_here, target_of

if TYPE_CHECKING:
    from ..build import BuildConfig, EngineCacheEntry
    from ..host import Host

# Raised when this package changes how it has ONNX Runtime build.
_REVISION = "1"

# Between the versions of ONNX Runtime and TensorRT in the version of an engine for a GPU.
_WITH_TENSORRT = "+trt"

# What the TensorRT execution provider has an option for.
_FOR_A_GPU = frozenset({"builder_optimization_level", "max_aux_streams", "sparse_weights"})


class OnnxRuntime(Runtime):
    """Builds engines with ONNX Runtime, each in a process of its own."""

    name = "onnxruntime"
    strongly_typed = True
    prepares_inputs = True
    reproducible = True
    cpu_targets = True
    version_tag = "ort"
    runner = "enginery.runtimes.onnxruntime_runner:runner"

    def installed_version(self) -> str:
        """ONNX Runtime's version; see `Runtime.installed_version`."""
        found = first_installed(ONNXRUNTIME)
        if found is None:
            raise RuntimeUnavailableError(
                "ONNX Runtime is not installed; install it with: pip install 'enginery[build]'"
            )
        return found

    def resolve(
        self, sm: Sm | None, jetpack: str | None, trt: str | None, host: Callable[[], Host]
    ) -> HostCapabilities:
        """See `Runtime.resolve`; a target without `sm` is this host's CPU."""
        if sm is not None:
            return HostCapabilities(sm=sm, jetpack=jetpack, trt=trt or self._with_tensorrt(host()))
        if jetpack is not None:
            raise ValueError("jetpack goes with a GPU; add sm, or leave jetpack out")
        return HostCapabilities(
            sm=(), jetpack=None, trt=trt or self.installed_version(), cpu=host().cpu
        )

    def _with_tensorrt(self, host: Host) -> str:
        version = self.installed_version()
        if host.trt is None:
            raise HostError(
                f"an engine of ONNX Runtime for a GPU needs TensorRT, this host is {host}; install "
                f'TensorRT, or write trt = "{version}{_WITH_TENSORRT}<version of TensorRT>"'
            )
        return version + _WITH_TENSORRT + host.trt

    def elsewhere(self, target: HostCapabilities, host: Host) -> str | None:
        """See `Runtime.elsewhere`."""
        if target.cpu is not None:
            if target.cpu != host.cpu:
                return f"it needs the CPU {target.cpu}, this host is {host.cpu}"
        elif not self.runs_on(target, host):
            needed = ", ".join(map(dotted, target.capabilities))
            return f"it needs a GPU of SM {needed}, this host is {host}"
        elif target.jetpack != host.jetpack:
            return f"it needs {_jetpack(target.jetpack)}, this host is {host}"
        version, tensorrt = _versions(target)
        here = first_installed(ONNXRUNTIME)
        if version != here:
            return (
                f"it needs ONNX Runtime {version}, this host has {here or 'none'}; install that "
                "version, or leave trt out for the one that is here"
            )
        if tensorrt is not None and tensorrt != host.trt:
            return f"it needs TensorRT {tensorrt}, this host is {host}"
        return None

    def runs_on(self, target: HostCapabilities, host: Host) -> bool:
        """See `Runtime.runs_on`."""
        if target.cpu is not None:
            return target.cpu == host.cpu
        return super().runs_on(target, host)

    def precisions(self) -> frozenset[PrecisionMode]:
        """See `Runtime.precisions`."""
        return frozenset(
            {PrecisionMode.FP32, PrecisionMode.FP16, PrecisionMode.BF16, PrecisionMode.INT8}
        )

    def check_target(self, target: HostCapabilities) -> None:
        """See `Runtime.check_target`."""
        version, tensorrt = _versions(target)
        if target.cpu is not None and tensorrt is not None:
            raise ValueError(f'trt = "{target.trt}" is for a GPU; add sm, or write "{version}"')
        if target.cpu is None and tensorrt is None:
            raise ValueError(
                f'trt = "{target.trt}" leaves TensorRT open, which engines for a GPU are tied to; '
                f'write "{version}{_WITH_TENSORRT}<version of TensorRT>"'
            )
        if len(target.capabilities) > 1:
            raise ValueError(
                "ONNX Runtime builds for the one GPU that is there; give one sm, and make another "
                "target of each further one"
            )

    def check_precision(self, target: HostCapabilities, precision: PrecisionMode) -> None:
        """See `Runtime.check_precision`.

        bf16: docs/OperatorKernels.md of ONNX Runtime has no kernel for the CPU that computes in
        it; the check of a graph's types refuses a bf16 convolution before opset 22 anyway.
        """
        if target.cpu is not None and precision is PrecisionMode.BF16:
            raise ValueError(
                "ONNX Runtime does not compute in bf16 on a CPU; use fp32, fp16 or int8 there"
            )

    def check_options(self, options: BuilderOptions, target: HostCapabilities) -> None:
        """See `Runtime.check_options`."""
        known = frozenset() if target.cpu is not None else _FOR_A_GPU
        given, default = msgspec.structs.asdict(options), msgspec.structs.asdict(BuilderOptions())
        where = "on a CPU" if target.cpu is not None else "with TensorRT"
        for name, value in given.items():
            if name not in known and value != default[name]:
                raise ValueError(f"{name}: ONNX Runtime has no such setting {where}; remove it")

    def toolchain(self, target: HostCapabilities) -> Mapping[str, str]:
        """See `Runtime.toolchain`."""
        version, tensorrt = _versions(target)
        return {
            "runtime": self.name,
            "onnxruntime": version,
            **({} if tensorrt is None else {"tensorrt": tensorrt}),
            "settings": _REVISION,
            "platform": platform_here(),
        }

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        """Build and publish an engine; see `CompileEngineCallable.compile_engine`."""
        target = target_of(build_config)
        self.installed_version()
        from .. import worker  # not where nothing is built

        def make(output: Path) -> str:
            with worker.started(
                "enginery.runtimes.onnxruntime_build:build",
                environment=self.polygraphy_environment,
                label=build_config.engine_path.name,
            ) as build:
                if build_config.prepare_inputs:
                    build_config.prepare_inputs()
                return str(build(_request(model_path, build_config, target, output))["sha256"])

        return self.published(build_config, make)


def _versions(target: HostCapabilities) -> tuple[str, str | None]:
    """The versions of ONNX Runtime and, for a GPU, of TensorRT."""
    version, _, tensorrt = target.trt.partition(_WITH_TENSORRT)
    return version, tensorrt or None


def _jetpack(version: str | None) -> str:
    return "a GPU off Jetson" if version is None else f"JetPack {version}"


def _request(
    model_path: Path, config: BuildConfig, target: HostCapabilities, output: Path
) -> dict[str, object]:
    return {
        "version": _versions(target)[0],
        "cpu": target.cpu,
        "sm": list(target.capabilities),
        "model": str(model_path),
        "output": str(output),
        "workspace_mb": config.workspace_mb,
        "profiles": [profile.as_dict() for profile in config.optimization_profiles],
        "builder": config.builder.as_dict(),
    }
