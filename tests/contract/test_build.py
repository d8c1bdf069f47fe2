"""Our build action over stand-ins from the real bindings of each TensorRT, option by option."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from behaviour import ENGINE
from bindings import RELEASES, shared

import enginery
from enginery import (
    BuildConfig,
    BuilderOptions,
    HostCapabilities,
    OptimizationProfile,
    PrecisionMode,
)
from enginery.config import MemoryPools
from enginery.digest import sha256_bytes
from enginery.runtimes.tensorrt import TensorRT
from enginery.runtimes.tensorrt_family import Place

pytestmark = pytest.mark.slow

SCRIPT = str(Path(__file__).with_name("scenarios.py"))
VERSIONS = list(RELEASES)
MIB = 1 << 20


def profile(index: int, largest: int) -> OptimizationProfile:
    """Batches from 1 to the largest."""
    shapes = [(batch, 3, 16, 16) for batch in (1, largest, largest)]
    return OptimizationProfile("input", *shapes, index=index)


@dataclass(frozen=True)
class Build:
    """A build: what is asked, and what the stand-ins are to do."""

    options: BuilderOptions = BuilderOptions()
    settings: dict[str, Any] = field(default_factory=dict)
    profiles: tuple[OptimizationProfile, ...] = (profile(0, 4),)
    with_cache: bool = False
    watched: bool = False
    loaded: bool = True

    def scenario(self, version: str, folder: Path, name: str) -> dict[str, Any]:
        """What the runtime asks of its child for this build, in `scenarios`' words."""
        config = BuildConfig(
            precision=PrecisionMode.FP32,
            workspace_mb=64,
            calibration_dataset=None,
            optimization_profiles=self.profiles,
            engine_path=folder / f"{name}.engine",
            builder=self.options,
            progress=print if self.watched else None,
        )
        target = HostCapabilities(sm=87, jetpack="6.2", trt=RELEASES[version].library)
        place = Place(timing_cache=folder / "cache" if self.with_cache else None)
        model = folder / "model.onnx"
        request = TensorRT().request(model, config, target, config.engine_path, place)
        entry = "enginery.runtimes.tensorrt_build:build"
        return {
            "entry": entry,
            "request": {**request, "load_back": self.loaded},
            "settings": self.settings,
        }


def setting(name: str, value: Any) -> list[Any]:
    return ["IBuilderConfig", name, {"value": value}]


def flag(name: str, *, on: bool = True) -> list[Any]:
    return ["IBuilderConfig", "set_flag" if on else "clear_flag", {"flag": f"BuilderFlag.{name}"}]


def pool(name: str, mib: int) -> list[Any]:
    arguments = {"pool": f"MemoryPoolType.{name}", "pool_size": mib * MIB}
    return ["IBuilderConfig", "set_memory_pool_limit", arguments]


OUT_OF_MEMORY = "Error Code 2: OutOfMemory (no further information)"
UNSUPPORTED = {
    "code": "UNSUPPORTED_NODE", "desc": "no importer", "node_operator": "Foo", "node_name": "/foo/1"
}  # fmt: skip

DLA = BuilderOptions(
    default_device_type="dla",
    gpu_fallback=True,
    memory_pools=MemoryPools(dla_managed_sram=1, dla_local_dram=512, dla_global_dram=256),
)

BUILDS = {
    "plain": Build(),
    "options": Build(BuilderOptions(
        builder_optimization_level=5, profiling_verbosity="detailed", max_aux_streams=2,
        tf32=False, sparse_weights=True, weight_streaming=True, avg_timing_iterations=8,
    )),
    "tactics": Build(BuilderOptions(tactic_sources=("JIT_CONVOLUTIONS", "EDGE_MASK_CONVOLUTIONS"))),
    "cublas": Build(BuilderOptions(tactic_sources=("CUBLAS",))),
    "pools": Build(BuilderOptions(memory_pools=MemoryPools(tactic_dram=512, tactic_shared_memory=1))),
    "ampere": Build(BuilderOptions(hardware_compatibility_level="ampere_plus")),
    "same": Build(BuilderOptions(hardware_compatibility_level="same_compute_capability")),
    "version": Build(BuilderOptions(version_compatible=True)),
    "tiling": Build(BuilderOptions(tiling_optimization_level="fast")),
    "no tiling": Build(BuilderOptions(tiling_optimization_level="none")),
    "dla": Build(DLA, {"dla_cores": 2}),
    "no dla": Build(DLA, {"dla_cores": 0}),
    "profiles": Build(profiles=(profile(0, 4), profile(1, 16))),
    "progress": Build(watched=True),
    "not loaded": Build(settings={"load_error": "wrong device"}),
    "plugins": Build(BuilderOptions(plugins=("/libplugin.so",))),
    "no plugin": Build(BuilderOptions(plugins=("/libplugin.so",)), {"plugin_error": "no symbol"}),
    "not built": Build(settings={"build_error": "no tactic"}),
    "skipped tactics": Build(settings={"tactic_errors": [OUT_OF_MEMORY, OUT_OF_MEMORY, "x" * 1000]}),
    "skipped, not loaded": Build(settings={"tactic_errors": ["no room"], "load_error": "no engine"}),
    "skipped, never loaded": Build(settings={"tactic_errors": ["no room"]}, loaded=False),
    "parsed with an error": Build(settings={"parse_error": "wrong weights"}),
    "not parsed": Build(settings={"parse_errors": [{"desc": "no such operator"}]}),
    "no importer": Build(settings={"parse_errors": [UNSUPPORTED, UNSUPPORTED]}),
    "cache": Build(with_cache=True),
    "cache again": Build(with_cache=True),
    "refused cache": Build(with_cache=True, settings={"refused_cache": True}),
}  # fmt: skip

# What has to be called in every version.
ARRIVES = {
    "plain": [
        setting("builder_optimization_level", 3),
        setting("profiling_verbosity", "ProfilingVerbosity.LAYER_NAMES_ONLY"),
        setting("engine_capability", "EngineCapability.STANDARD"),
        setting("runtime_platform", "RuntimePlatform.SAME_AS_BUILD"),
        setting("avg_timing_iterations", 1),
        setting("default_device_type", "DeviceType.GPU"),
        setting("hardware_compatibility_level", "HardwareCompatibilityLevel.NONE"),
        pool("WORKSPACE", 64),
        flag("TF32"),
        flag("SPARSE_WEIGHTS", on=False),
        flag("WEIGHT_STREAMING", on=False),
        flag("VERSION_COMPATIBLE", on=False),
    ],
    "options": [
        setting("builder_optimization_level", 5),
        setting("profiling_verbosity", "ProfilingVerbosity.DETAILED"),
        setting("max_aux_streams", 2),
        setting("avg_timing_iterations", 8),
        flag("TF32", on=False),
        flag("SPARSE_WEIGHTS"),
        flag("WEIGHT_STREAMING"),
    ],
    "pools": [pool("TACTIC_DRAM", 512), pool("TACTIC_SHARED_MEMORY", 1), pool("WORKSPACE", 64)],
    "ampere": [setting("hardware_compatibility_level", "HardwareCompatibilityLevel.AMPERE_PLUS")],
    "version": [flag("VERSION_COMPATIBLE"), flag("EXCLUDE_LEAN_RUNTIME")],
    "dla": [
        setting("default_device_type", "DeviceType.DLA"),
        setting("DLA_core", 0),
        flag("GPU_FALLBACK"),
        pool("DLA_MANAGED_SRAM", 1),
        pool("DLA_LOCAL_DRAM", 512),
        pool("DLA_GLOBAL_DRAM", 256),
    ],
    "progress": [setting("progress_monitor", "<Monitor>")],
    "plugins": [["IPluginRegistry", "load_library", {"plugin_path": "/libplugin.so"}]],
    "cache again": [
        ["IBuilderConfig", "create_timing_cache",
         {"serialized_timing_cache": "stand-in for a timing cache"}],
    ],
}  # fmt: skip

# What has to be called where the version has it; the error elsewhere.
LIMITED = {
    "same": (
        ("10.13", "10.16", "11.0", "11.4"),
        setting(
            "hardware_compatibility_level", "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY"
        ),
        "hardware_compatibility_level: ",
    ),
    "tiling": (
        ("10.13", "10.16", "11.0", "11.4"),
        setting("tiling_optimization_level", "TilingOptimizationLevel.FAST"),
        "tiling_optimization_level: ",
    ),
    "cublas": (
        ("10.3", "10.7", "10.13", "10.16"),
        ["IBuilderConfig", "set_tactic_sources", {"tactic_sources": 1}],
        "tactic_sources: ",
    ),
}

FAILS = {
    "no dla": "no DLA",
    "not loaded": "wrong device",
    "no plugin": "libplugin.so cannot be loaded: no symbol",
    "not built": "no tactic",
    "skipped, not loaded": "cannot be loaded: no engine; model.onnx: TensorRT logged errors",
    "skipped, never loaded": "EngineBuildError: no room",
    "parsed with an error": "EngineBuildError: wrong weights",
    "not parsed": "parser refused model.onnx: SUCCESS: no such operator",
    "no importer": (
        "parser refused model.onnx: operator Foo (node '/foo/1'): UNSUPPORTED_NODE: no importer"
    ),
}

SUCCEEDS = sorted(BUILDS.keys() - FAILS.keys() - LIMITED.keys())


@dataclass(frozen=True)
class Seen:
    """What one version made of all builds: name to outcome, and what was said meanwhile."""

    version: str
    folder: Path
    outcomes: dict[str, dict[str, Any]]
    said: str

    def calls(self, name: str) -> list[Any]:
        assert "error" not in self.outcomes[name], self.outcomes[name]["traceback"]
        found: list[Any] = self.outcomes[name]["calls"]
        return found

    def engine(self, name: str) -> Path:
        return self.folder / f"{name}.engine"


def run(version: str, builds: dict[str, Build], folder: Path, before: str = "") -> Seen:
    """All builds in one process: the stand-ins keep nothing from one to the next."""
    onnx_models.write_small(folder / "model.onnx", seed=1, batch="N")
    scenarios = [one.scenario(version, folder, name) for name, one in builds.items()]
    done = shared(version).run(SCRIPT, stand_ins=True, before=before, stdin=json.dumps(scenarios))
    assert done.returncode == 0, done.stderr
    outcomes = dict(zip(builds, json.loads(done.stdout), strict=True))
    return Seen(version, folder, outcomes, done.stderr)


@pytest.fixture(scope="module", params=VERSIONS)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return run(request.param, BUILDS, tmp_path_factory.mktemp("builds"))


@pytest.mark.parametrize("name", SUCCEEDS)
def test_an_engine_comes_out(seen: Seen, name: str) -> None:
    assert ["Builder", "build_serialized_network"] in [call[:2] for call in seen.calls(name)]
    engine = seen.engine(name).read_bytes()
    assert engine == ENGINE + b'["input"]'
    assert seen.outcomes[name]["value"]["sha256"] == sha256_bytes(engine)


@pytest.mark.parametrize("name", ARRIVES)
def test_what_is_asked_arrives(seen: Seen, name: str) -> None:
    calls = seen.calls(name)
    built = [call[1] for call in calls].index("build_serialized_network")
    missing = [call for call in ARRIVES[name] if call not in calls[:built]]
    assert not missing


@pytest.mark.parametrize("name", LIMITED)
def test_what_only_some_versions_have(seen: Seen, name: str) -> None:
    versions, call, words = LIMITED[name]
    if seen.version in versions:
        assert call in seen.calls(name)
    else:
        assert seen.outcomes[name]["error"].startswith(f"EngineBuildError: {words}")
        assert not seen.engine(name).exists()


@pytest.mark.parametrize("name", FAILS)
def test_a_failure_says_why(seen: Seen, name: str) -> None:
    assert seen.outcomes[name]["error"].startswith("EngineBuildError: ")
    assert FAILS[name] in seen.outcomes[name]["error"]
    assert not seen.engine(name).exists()


def test_tactics_that_are_skipped_cost_no_engine(seen: Seen) -> None:
    (warning,) = seen.outcomes["skipped tactics"]["value"]["warnings"]
    assert warning.startswith(
        "model.onnx: TensorRT logged errors and went on, so the engine may be slow: "
        f"{OUT_OF_MEMORY}; xxx"
    )
    assert warning.endswith("xxx ...; free memory of the GPU, or lower workspace_mb")
    assert len(warning) < 700
    assert seen.outcomes["plain"]["value"]["warnings"] == []


def test_an_error_of_parsing_ends_the_build_before_it_begins(seen: Seen) -> None:
    calls = [call[1] for call in seen.outcomes["parsed with an error"]["calls"]]
    assert "build_serialized_network" not in calls


def test_the_network_is_strongly_typed(seen: Seen) -> None:
    """By the bit that the version has for it, and no other."""
    bit = 1 << 1 if seen.version.startswith("10.") else 1
    (found,) = [call for call in seen.calls("plain") if call[1] == "create_network"]
    assert list(found[2].values()) == [bit]


def test_nothing_of_weak_typing_is_touched(seen: Seen) -> None:
    flags = {"FP16", "BF16", "INT8", "FP8", "OBEY_PRECISION_CONSTRAINTS",
             "PREFER_PRECISION_CONSTRAINTS"}  # fmt: skip
    for name in BUILDS:
        for _, method, arguments in seen.outcomes[name]["calls"]:
            assert method not in (
                "int8_calibrator",
                "set_calibration_profile",
                "algorithm_selector",
            )
            if method == "set_flag":
                assert arguments["flag"].partition(".")[2] not in flags


def test_tactic_sources_are_a_mask_of_this_versions_numbers(seen: Seen) -> None:
    mask = 0b11000 if seen.version.startswith("10.") else 0b11
    call = ["IBuilderConfig", "set_tactic_sources", {"tactic_sources": mask}]
    assert call in seen.calls("tactics")


def test_no_tiling_is_said_where_there_is_tiling(seen: Seen) -> None:
    call = setting("tiling_optimization_level", "TilingOptimizationLevel.NONE")
    for name in ("plain", "no tiling"):
        assert (call in seen.calls(name)) == (seen.version not in ("10.3", "10.7"))


def test_both_profiles_are_added(seen: Seen) -> None:
    calls = seen.calls("profiles")
    shapes = [call[2] for call in calls if call[1] == "set_shape"]
    assert [found["max"] for found in shapes] == [[4, 3, 16, 16], [16, 3, 16, 16]]
    assert [call[1] for call in calls].count("add_optimization_profile") == 2


def test_progress_is_reported(seen: Seen) -> None:
    assert "Tactic Selection" in seen.said


def test_an_engine_is_loaded_once_and_its_host_code_never_runs(seen: Seen) -> None:
    calls = seen.calls("plain")
    assert [call[:2] for call in calls].count(["Runtime", "deserialize_cuda_engine"]) == 1
    allowed = [call[2]["value"] for call in calls if call[1] == "engine_host_code_allowed"]
    assert allowed == [False]
    assert not seen.engine("not loaded").exists()


def test_plugins_are_loaded_for_the_build_and_for_the_engine(seen: Seen) -> None:
    calls = [call[1] for call in seen.calls("plugins")]
    assert calls.count("load_library") == 2
    assert calls.index("load_library") < calls.index("parse_from_file")
    assert "load_library" in calls[calls.index("build_serialized_network") :]


def test_an_engine_for_a_dla_is_loaded_on_it(seen: Seen) -> None:
    assert ["Runtime", "DLA_core", {"value": 0}] in seen.calls("dla")


def test_a_timing_cache_is_kept(seen: Seen) -> None:
    assert b"stand-in for a timing cache" in (seen.folder / "cache").read_bytes()


def test_a_refused_timing_cache_costs_no_engine(seen: Seen) -> None:
    """What was refused is replaced by an empty one, and the build goes on."""
    calls = seen.calls("refused cache")
    built = [call[1] for call in calls].index("build_serialized_network")
    asked = [call[2]["serialized_timing_cache"] for call in calls[:built]
             if call[1] == "create_timing_cache"]  # fmt: skip
    assert asked == ["", "stand-in for a timing cache", ""]
    (warning,) = seen.outcomes["refused cache"]["value"]["warnings"]
    assert "is not of this GPU, CUDA and TensorRT" in warning


@dataclass(frozen=True)
class Plant:
    """A word of our runtimes, and a wrong one that the real TensorRT would not take."""

    version: str
    right: str
    wrong: str
    said: str
    build: str = "plain"

    def put(self, package: Path) -> None:
        """Put the wrong word wherever the right one is."""
        count = 0
        for module in (package / "runtimes").glob("*.py"):
            right = rf"(?<!\w){re.escape(self.right)}(?!\w)"
            source, found = re.subn(right, self.wrong, module.read_text())
            module.write_text(source)
            count += found
        assert count, f"no module says {self.right} any more; plant another fault"


PLANTS = [
    # Names that no version has.
    Plant("10.3", "num_optimization_profiles", "nb_optimization_profiles", "nb_optimization_profiles"),
    Plant("10.7", "clear_flag", "unset_flag", "unset_flag"),
    Plant("10.16", "EngineCapability.STANDARD", "EngineCapability.DEFAULT", "DEFAULT"),
    Plant("11.4", "IProgressMonitor", "ProgressMonitor", "ProgressMonitor", "progress"),
    Plant("10.3", "error.node_name()", "error.name()", "ParserError' object has no attribute 'name", "no importer"),
    # A name that is a method in this version and no property.
    Plant("10.3", "str(error.code())", "str(error.code().name)", "UNSUPPORTED_NODE: 8", "no importer"),
    # Methods that TensorRT calls and nobody has written.
    Plant("10.7", "def phase_start", "def phase_begin", "phase_start", "progress"),
    Plant("10.13", "def step_complete", "def step_done", "step_complete", "progress"),
    Plant("11.4", "def phase_finish", "def phase_end", "phase_finish", "progress"),
    # A keyword that the method does not have.
    Plant("10.13", "ignore_mismatch", "ignore_mismatches", "ignore_mismatches", "cache again"),
    # What the version does not have any more, or not yet.
    Plant("11.0", "SPARSE_WEIGHTS", "FP16", "FP16"),
    Plant("11.4", "config.default_device_type", "config.int8_calibrator", "int8_calibrator"),
    Plant("10.7", "TILING = (10, 8", "TILING = (10, 3", "TilingOptimizationLevel"),
    # A value that the property does not take.
    Plant("11.4", "engine_host_code_allowed = False", "engine_host_code_allowed = None", "engine_host_code_allowed"),
]  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.wrong} in {plant.version}")
def test_a_planted_fault_is_found(plant: Plant, tmp_path: Path) -> None:
    """In a copy of our package with one word changed; without, the builds above go well."""
    package = tmp_path / "package" / "enginery"
    shutil.copytree(Path(enginery.__file__).parent, package)
    plant.put(package)
    builds = {"cache": BUILDS["cache"], plant.build: BUILDS[plant.build]}
    found = run(plant.version, builds, tmp_path, str(package.parent)).outcomes[plant.build]
    assert re.search(rf"\b{plant.said}\b", found.get("error", "")), found
