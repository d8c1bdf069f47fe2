"""Polygraphy's own code, as far as we use it, over stand-ins from the real bindings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from bindings import RELEASES, shared

pytestmark = pytest.mark.slow

SHAPES = [[[1, 3, 16, 16], [2, 3, 16, 16], [4, 3, 16, 16]]]

# What is asked of CreateConfig, and a call that has to come of it.
ASKED = {
    "level": ({"builder_optimization_level": 5}, ["IBuilderConfig", "builder_optimization_level", {"value": 5}]),
    "streams": ({"max_aux_streams": 2}, ["IBuilderConfig", "max_aux_streams", {"value": 2}]),
    "verbosity": ({"profiling_verbosity": "ProfilingVerbosity.NONE"}, ["IBuilderConfig", "profiling_verbosity", {"value": "ProfilingVerbosity.NONE"}]),
    "capability": ({"engine_capability": "EngineCapability.STANDARD"}, ["IBuilderConfig", "engine_capability", {"value": "EngineCapability.STANDARD"}]),
    "platform": ({"runtime_platform": "RuntimePlatform.SAME_AS_BUILD"}, ["IBuilderConfig", "runtime_platform", {"value": "RuntimePlatform.SAME_AS_BUILD"}]),
    "hardware": ({"hardware_compatibility_level": "HardwareCompatibilityLevel.AMPERE_PLUS"}, ["IBuilderConfig", "hardware_compatibility_level", {"value": "HardwareCompatibilityLevel.AMPERE_PLUS"}]),
    "version": ({"version_compatible": True, "exclude_lean_runtime": True}, ["IBuilderConfig", "set_flag", {"flag": "BuilderFlag.EXCLUDE_LEAN_RUNTIME"}]),
    "tf32": ({"tf32": True}, ["IBuilderConfig", "set_flag", {"flag": "BuilderFlag.TF32"}]),
    "no tf32": ({"tf32": False}, ["IBuilderConfig", "clear_flag", {"flag": "BuilderFlag.TF32"}]),
    "sparse": ({"sparse_weights": True}, ["IBuilderConfig", "set_flag", {"flag": "BuilderFlag.SPARSE_WEIGHTS"}]),
    "streaming": ({"weight_streaming": True}, ["IBuilderConfig", "set_flag", {"flag": "BuilderFlag.WEIGHT_STREAMING"}]),
    "cache": ({}, ["IBuilderConfig", "set_timing_cache", {"cache": "<ITimingCache>", "ignore_mismatch": False}]),
    "fallback": ({"use_dla": True, "allow_gpu_fallback": True}, ["IBuilderConfig", "set_flag", {"flag": "BuilderFlag.GPU_FALLBACK"}]),
}  # fmt: skip

# What some versions do not have: from which version on, or up to which, and what is said elsewhere.
LIMITED = {
    "fp16": ({"fp16": True}, "until 10.16", "fp16 in CreateConfig is not available"),
    "int8": ({"int8": True}, "until 10.16", "int8 in CreateConfig is not available"),
    "tiling": ({"tiling_optimization_level": "TilingOptimizationLevel.FAST"}, "from 10.13", "TilingOptimizationLevel"),
    "same": ({"hardware_compatibility_level": "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY"}, "from 10.13", "SAME_COMPUTE_CAPABILITY"),
    "cublas": ({"tactic_sources": ["TacticSource.CUBLAS"]}, "until 10.16", "CUBLAS"),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(RELEASES))
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The version and name to what came of it, all in one process."""
    folder = tmp_path_factory.mktemp("polygraphy")
    model = folder / "model.onnx"
    onnx_models.write_small(model, seed=1, batch="N")
    common = {"model": str(model), "shapes": SHAPES}
    options = {name: asked for name, (asked, *_) in {**ASKED, **LIMITED}.items()}
    requests = {name: {**common, "options": asked} for name, asked in options.items()}
    jit = {"tactic_sources": ["TacticSource.JIT_CONVOLUTIONS"]}
    requests["tactics"] = {**common, "options": jit}
    requests["pools"] = {**common, "pools": {"WORKSPACE": 1 << 20, "TACTIC_DRAM": 1 << 30}}
    requests["monitor"] = {**common, "monitored": True}
    requests["profiles"] = {**common, "shapes": SHAPES * 2}
    requests["saved"] = {**common, "saved_cache": str(folder / "cache")}
    scenarios = [
        {"entry": "polygraphy_build:build", "request": one, "settings": {"dla_cores": 2}}
        for one in requests.values()
    ]
    engine = {"engine": 'stand-in for an engine: ["input"]'}
    scenarios.append({"entry": "polygraphy_build:load", "request": engine})
    ours = "polygraphy_build:load_without_host_code"
    scenarios += [{"entry": ours, "request": {"engine": one}} for one in (engine["engine"], "x")]
    script = str(Path(__file__).with_name("scenarios.py"))
    done = shared(request.param).run(script, stand_ins=True, stdin=json.dumps(scenarios))
    assert done.returncode == 0, done.stderr
    return request.param, dict(
        zip((*requests, "load", "ours", "torn"), json.loads(done.stdout), strict=True)
    )


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_arrives(outcomes: Any, name: str) -> None:
    _, found = outcomes
    assert "error" not in found[name], found[name]["traceback"]
    assert ASKED[name][1] in found[name]["calls"]
    assert found[name]["value"] == 'stand-in for an engine: ["input"]'


@pytest.mark.parametrize("name", LIMITED)
def test_what_only_some_versions_have(outcomes: Any, name: str) -> None:
    version, found = outcomes
    order, (_, limit, words) = list(RELEASES), LIMITED[name]
    bound = order.index(limit.split()[1])
    there = order.index(version) >= bound if "from" in limit else order.index(version) <= bound
    if there:
        assert "error" not in found[name], found[name]["traceback"]
    else:
        assert words in found[name]["error"]


def test_memory_pools(outcomes: Any) -> None:
    calls = outcomes[1]["pools"]["calls"]
    for pool, size in (("WORKSPACE", 1 << 20), ("TACTIC_DRAM", 1 << 30)):
        wanted = {"pool": f"MemoryPoolType.{pool}", "pool_size": size}
        assert ["IBuilderConfig", "set_memory_pool_limit", wanted] in calls


def test_the_network_is_strongly_typed(outcomes: Any) -> None:
    """By the bit that the version has for it, and no other."""
    version, found = outcomes
    bit = 1 << 1 if int(version.partition(".")[0]) < 11 else 1
    assert ["Builder", "create_network", {"flags": bit}] in found["cache"]["calls"]


def test_profiles(outcomes: Any) -> None:
    calls = outcomes[1]["profiles"]["calls"]
    low, best, high = SHAPES[0]
    wanted = {"input": "input", "min": low, "opt": best, "max": high}
    assert calls.count(["IOptimizationProfile", "set_shape", wanted]) == 2
    assert [call[1] for call in calls].count("add_optimization_profile") == 2


def test_tactic_sources(outcomes: Any) -> None:
    """By number, and that of a name changed."""
    version, found = outcomes
    bits = 1 << (4 if version.startswith("10.") else 1)
    wanted = ["IBuilderConfig", "set_tactic_sources", {"tactic_sources": bits}]
    assert wanted in found["tactics"]["calls"]


def test_progress(outcomes: Any) -> None:
    calls = outcomes[1]["monitor"]["calls"]
    assert ["IBuilderConfig", "progress_monitor", {"value": "<Monitor>"}] in calls


def test_a_timing_cache_is_saved(outcomes: Any) -> None:
    found = outcomes[1]["saved"]
    assert "error" not in found, found["traceback"]
    assert ["ITimingCache", "serialize", {}] in found["calls"]


def test_dla_brings_a_flag_of_weak_typing(outcomes: Any) -> None:
    """Why we do not ask Polygraphy for DLA: up to 10.16 it sets more than was asked."""
    version, found = outcomes
    weak = ["IBuilderConfig", "set_flag", {"flag": "BuilderFlag.PREFER_PRECISION_CONSTRAINTS"}]
    assert (weak in found["fallback"]["calls"]) == (version.partition(".")[0] == "10")


def test_loading_allows_host_code(outcomes: Any) -> None:
    """Polygraphy always allows what is off by default, so an engine just built is loaded by us."""
    _, found = outcomes
    assert found["load"]["value"] == "<ICudaEngine>"
    assert ["Runtime", "engine_host_code_allowed", {"value": True}] in found["load"]["calls"]


def test_our_runner_does_not_allow_it(outcomes: Any) -> None:
    _, found = outcomes
    assert found["ours"]["value"] == "<ICudaEngine>", found["ours"]
    assert ["Runtime", "engine_host_code_allowed", {"value": False}] in found["ours"]["calls"]
    assert "engine_host_code_allowed', {'value': True}" not in str(found["ours"]["calls"])


def test_an_engine_that_does_not_load_says_so(outcomes: Any) -> None:
    _, found = outcomes
    assert "TensorRT does not load the engine here" in found["torn"]["error"]
