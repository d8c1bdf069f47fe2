"""What our code rests on, looked up in NVIDIA's own bindings of every version that we name.

`docs/tensorrt-versions.md` says the same for people; change both together.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bindings import RELEASES, shared

import enginery

VERSIONS = tuple(RELEASES)
RTX = "tensorrt_rtx"
EVERY = frozenset({*VERSIONS, RTX})


def since(version: str) -> frozenset[str]:
    """That version, all after it, and TensorRT-RTX."""
    return frozenset({*VERSIONS[VERSIONS.index(version) :], RTX})


def until(version: str) -> frozenset[str]:
    """All versions up to that one."""
    return frozenset(VERSIONS[: VERSIONS.index(version) + 1])


TENSORRT = EVERY - {RTX}

# Name to where it is: in 10.3, 10.7, 10.13, 10.16, 11.0, 11.4 and TensorRT-RTX.
NAMES = {
    # Weak typing and implicit quantization, which we never use.
    "BuilderFlag.FP16": until("10.16"),
    "BuilderFlag.BF16": until("10.16"),
    "BuilderFlag.INT8": until("10.16"),
    "BuilderFlag.FP8": until("10.16"),
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS": until("10.16"),
    "BuilderFlag.PREFER_PRECISION_CONSTRAINTS": until("10.16"),
    "IBuilderConfig.int8_calibrator": until("10.16"),
    "IInt8EntropyCalibrator2": until("10.16"),
    "QuantizationFlag": until("10.16"),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": EVERY,
    # Flags that we set.
    "BuilderFlag.TF32": EVERY,
    "BuilderFlag.SPARSE_WEIGHTS": EVERY,
    "BuilderFlag.WEIGHT_STREAMING": EVERY,
    "BuilderFlag.GPU_FALLBACK": EVERY,
    "BuilderFlag.VERSION_COMPATIBLE": EVERY,
    "BuilderFlag.EXCLUDE_LEAN_RUNTIME": EVERY,
    "BuilderFlag.EDITABLE_TIMING_CACHE": since("10.13"),
    "BuilderFlag.ERROR_ON_TIMING_CACHE_MISS": EVERY,
    "BuilderFlag.DISTRIBUTIVE_INDEPENDENCE": since("10.13"),
    # Properties that we set.
    "IBuilderConfig.builder_optimization_level": EVERY,
    "IBuilderConfig.profiling_verbosity": EVERY,
    "IBuilderConfig.max_aux_streams": EVERY,
    "IBuilderConfig.avg_timing_iterations": EVERY,
    "IBuilderConfig.engine_capability": EVERY,
    "IBuilderConfig.hardware_compatibility_level": EVERY,
    "IBuilderConfig.runtime_platform": EVERY,
    "IBuilderConfig.progress_monitor": EVERY,
    "IBuilderConfig.default_device_type": EVERY,
    "IBuilderConfig.DLA_core": EVERY,
    "IBuilderConfig.tiling_optimization_level": since("10.13"),
    "IBuilderConfig.l2_limit_for_tiling": since("10.13"),
    "IBuilderConfig.set_compute_capability": frozenset({RTX}),
    "IBuilderConfig.num_compute_capabilities": frozenset({RTX}),
    "ComputeCapability": frozenset({RTX}),
    # Members of enums that corpus.toml can name.
    "HardwareCompatibilityLevel.NONE": EVERY,
    "HardwareCompatibilityLevel.AMPERE_PLUS": EVERY,
    "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY": since("10.13"),
    "TilingOptimizationLevel": since("10.13"),
    "TilingOptimizationLevel.FULL": since("10.13"),
    "TacticSource.CUBLAS": until("10.16"),
    "TacticSource.CUBLAS_LT": until("10.16"),
    "TacticSource.CUDNN": until("10.16"),
    "TacticSource.EDGE_MASK_CONVOLUTIONS": EVERY,
    "TacticSource.JIT_CONVOLUTIONS": EVERY,
    "EngineCapability.STANDARD": EVERY,
    "RuntimePlatform.SAME_AS_BUILD": EVERY,
    "DeviceType.GPU": EVERY,
    "DeviceType.DLA": EVERY,
    "MemoryPoolType.WORKSPACE": EVERY,
    "MemoryPoolType.DLA_MANAGED_SRAM": EVERY,
    "MemoryPoolType.DLA_LOCAL_DRAM": EVERY,
    "MemoryPoolType.DLA_GLOBAL_DRAM": EVERY,
    "MemoryPoolType.TACTIC_DRAM": EVERY,
    "MemoryPoolType.TACTIC_SHARED_MEMORY": EVERY,
    # The timing cache.
    "IBuilderConfig.create_timing_cache": EVERY,
    "IBuilderConfig.set_timing_cache": EVERY,
    "IBuilderConfig.get_timing_cache": EVERY,
    "ITimingCache.combine": EVERY,
    "ITimingCache.serialize": EVERY,
    "ITimingCache.update": since("10.13"),
    # Progress.
    "IProgressMonitor.phase_start": EVERY,
    "IProgressMonitor.step_complete": EVERY,
    "IProgressMonitor.phase_finish": EVERY,
    # DLA, plugins and loading.
    "Builder.num_DLA_cores": EVERY,
    "Builder.get_plugin_registry": EVERY,
    "Runtime.get_plugin_registry": EVERY,
    "IPluginRegistry.load_library": EVERY,
    "Runtime.DLA_core": EVERY,
    "Runtime.dla_workspace_allocation_strategy": since("11.4"),
    "Runtime.engine_host_code_allowed": EVERY,
    "Runtime.load_runtime": EVERY,
    "Runtime.get_engine_validity": frozenset({RTX}),
    "Runtime.engine_header_size": frozenset({RTX}),
    "ICudaEngine.weight_streaming_budget_v2": EVERY,
    "ICudaEngine.weight_streaming_budget": until("10.16"),
    "ICudaEngine.create_execution_context_without_device_memory": until("10.16"),
    "ITensor.dynamic_range": until("10.16"),
    # What Polygraphy asks about and does without.
    "Builder.build_engine": frozenset(),
    "PreviewFeature": EVERY,
    "OnnxParser.parse_from_file": EVERY,
    "ParserError.node_operator": EVERY,
    "ParserError.node_name": EVERY,
    "ParserError.code": EVERY,
    "ParserError.desc": EVERY,
    "ICudaEngine.create_execution_context": EVERY,
    "ICudaEngine.num_io_tensors": EVERY,
    "ICudaEngine.get_tensor_name": EVERY,
    "ICudaEngine.get_tensor_mode": EVERY,
    "ICudaEngine.get_tensor_dtype": EVERY,
    "ICudaEngine.get_tensor_format": EVERY,
    "ICudaEngine.is_shape_inference_io": EVERY,
    "ICudaEngine.get_aliased_input_tensor": since("10.16"),
    "IExecutionContext.set_input_shape": EVERY,
    "IExecutionContext.set_tensor_address": EVERY,
    "IExecutionContext.set_output_allocator": EVERY,
    "IExecutionContext.execute_async_v3": EVERY,
    "IExecutionContext.set_optimization_profile_async": EVERY,
}

# Enum member to its number, from a version on.
VALUES = {
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": {"10.3": 1, "11.0": 0, RTX: 0},
    "BuilderFlag.VERSION_COMPATIBLE": {"10.3": 13, "11.0": 12, RTX: 12},
    "BuilderFlag.WEIGHT_STREAMING": {"10.3": 21, "11.0": 20, RTX: 20},
    "TacticSource.JIT_CONVOLUTIONS": {"10.3": 4, "11.0": 1, RTX: 1},
    "HardwareCompatibilityLevel.NONE": {"10.3": 0, RTX: 0},
    "DeviceType.DLA": {"10.3": 1, RTX: 1},
    "ProfilingVerbosity.LAYER_NAMES_ONLY": {"10.3": 0, RTX: 0},
    "RuntimePlatform.SAME_AS_BUILD": {"10.3": 0, RTX: 0},
    "EngineCapability.STANDARD": {"10.3": 0, RTX: 0},
}

# What a user can write as tactic sources.
TACTIC_SOURCES = {
    "10.3": {"CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"},
    "11.0": {"EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"},
    RTX: {"EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"},
}


def from_version_on(table: dict[str, Any], version: str) -> Any:
    if version == RTX:
        return table[RTX]
    known = [one for one in VERSIONS[: VERSIONS.index(version) + 1] if one in table]
    return table[known[-1]]


@pytest.fixture(
    scope="module", params=[*(pytest.param(one, marks=pytest.mark.slow) for one in VERSIONS), RTX]
)
def seen(request: pytest.FixtureRequest) -> Any:
    """The version and what its bindings show; TensorRT-RTX is the one that is installed."""
    script = str(Path(__file__).with_name("surface.py"))
    if request.param == RTX:
        command = [sys.executable, script, RTX]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    else:
        done = shared(request.param).run(script, "tensorrt")
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


def test_it_is_that_version(seen: Any) -> None:
    version, surface = seen
    wanted = "1." if version == RTX else f"{RELEASES[version].wheel}"
    assert surface["version"].startswith(wanted)


def test_names_are_where_we_think(seen: Any) -> None:
    version, surface = seen
    wrong = {
        name: "is there" if name in surface["names"] else "is not there"
        for name, where in NAMES.items()
        if (name in surface["names"]) != (version in where)
    }
    assert not wrong


def test_members_have_the_numbers_that_we_think(seen: Any) -> None:
    version, surface = seen
    wanted = {name: from_version_on(table, version) for name, table in VALUES.items()}
    assert {name: surface["values"][name] for name in VALUES} == wanted


def test_tactic_sources(seen: Any) -> None:
    version, surface = seen
    found = {
        name.partition(".")[2] for name in surface["values"] if name.startswith("TacticSource")
    }
    assert found == from_version_on(TACTIC_SOURCES, version)


def test_what_we_set_can_be_set(seen: Any) -> None:
    version, surface = seen
    ours = {name for name, where in NAMES.items() if version in where} - {"IBuilderConfig"}
    methods = {
        "create_timing_cache",
        "set_timing_cache",
        "get_timing_cache",
        "set_compute_capability",
    }
    properties = {
        name
        for name in ours
        if name.startswith("IBuilderConfig.") and name.partition(".")[2] not in methods
    }
    assert properties
    assert not properties.difference(surface["settable"])


def chains(source: str) -> Iterator[tuple[str, ...]]:
    """Whatever is looked up in `trt` or `self.trt`: ("BuilderFlag",), ("BuilderFlag", "TF32")."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value  # noqa: PLW2901 - down the chain
        root = [node.id, *names] if isinstance(node, ast.Name) else []
        if root[:2] == ["self", "trt"]:
            root = root[1:]
        if root[:1] == ["trt"] and len(root) > 1:
            yield tuple(root[1:])


def test_every_name_of_the_vendor_in_our_source(seen: Any) -> None:
    """Whatever branch it is in: there in this version, or known above to be only in some."""
    version, surface = seen
    other = "tensorrt_config.py" if version == RTX else "tensorrt_rtx_config.py"
    found = {
        (module.name, ".".join(one for one in chain if not one.startswith("__")))
        for module in sorted(Path(enginery.__file__).with_name("runtimes").glob("*.py"))
        for chain in chains(module.read_text())
        if module.name != other
    }
    assert {"Builder", "OnnxParser"} <= {name for _, name in found}
    unknown = {
        (module, name)
        for module, name in found
        if name
        and name not in surface["names"]
        and name.rpartition(".")[0] not in surface["values"]
        and NAMES.get(name, EVERY) == EVERY
    }
    assert not unknown, f"not in {version}"


def test_chains() -> None:
    source = "trt.A.B\nself.trt.C(trt.D)\nother.E\nself.F\ntrt"
    assert set(chains(source)) == {("A",), ("A", "B"), ("C",), ("D",)}
