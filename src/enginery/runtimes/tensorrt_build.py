"""One TensorRT build, in a process of its own: parse, check, configure, build, write.

Everything that reaches the engine's bytes is set explicitly, then read back: TensorRT logs or
ignores what it does not take and goes on. An error in its log is a failure of the build, even
where bytes come out.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
from polygraphy.backend.trt import Profile, engine_bytes_from_network
from polygraphy.exception import PolygraphyException
from polygraphy.logger import G_LOGGER

from ..digest import write_hashed
from ..errors import EngineBuildError
from .profiles import GraphInput, ProfileRange, check_profiles

_MIB = 1 << 20

# TensorRT takes these from the machine that builds; without a GPU it takes these very values.
_TACTIC_DRAM = 64 << 30
_TACTIC_SHARED_MEMORY = 1 << 30


_FLAGS = {
    "tf32": "TF32",
    "sparse_weights": "SPARSE_WEIGHTS",
    "weight_streaming": "WEIGHT_STREAMING",
}

_TURING = 75
_DTYPES = {"FLOAT": "fp32", "BF16": "bf16"}


class BuildRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What the parent asks for; see `tensorrt_rtx` for who fills it."""

    module: str
    version: str
    model: str
    output: str
    capabilities: list[int]
    workspace_mb: int
    profiles: list[ProfileRange]
    builder: dict[str, Any]
    plugins: list[str]


def build(request: dict[str, Any]) -> dict[str, str]:
    """Build the engine and write it to the request's output; returns its digest."""
    wanted = msgspec.convert(request, BuildRequest)
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    trt = importlib.import_module(wanted.module)
    if trt.__version__ != wanted.version:
        raise EngineBuildError(
            f"the engine is for TensorRT {wanted.version}, {trt.__version__} is installed here; "
            "install that version or change the target"
        )
    log = _build_log(trt)
    builder = trt.Builder(log)
    _load_plugins(builder, log, wanted.plugins)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, log, network, wanted.model)
    check_profiles(_graph_inputs(network), wanted.profiles)
    _check_capabilities(trt, network, wanted)
    try:
        config = _config(trt, wanted)(builder, network)
        _read_back(trt, config, wanted)
        engine = engine_bytes_from_network((builder, network), config)
    except PolygraphyException as error:
        raise EngineBuildError(log.words() or _one_line(str(error))) from error
    if log.errors:
        raise EngineBuildError(log.words())
    return {"sha256": write_hashed(Path(wanted.output), engine)}


def _build_log(trt: ModuleType) -> Any:
    """TensorRT's logger of this module, made here because its base class is in the module."""

    class BuildLog(trt.ILogger):  # type: ignore[misc, name-defined]
        """Keeps what went wrong."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(_one_line(message))

        def words(self) -> str:
            return "; ".join(dict.fromkeys(self.errors))

    return BuildLog()


def _parse(trt: ModuleType, log: Any, network: Any, model: str) -> None:
    trt.init_libnvinfer_plugins(log, "")
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(model):
        found = [_parser_words(parser.get_error(i)) for i in range(parser.num_errors)]
        words = "; ".join(dict.fromkeys(found)) or log.words()
        raise EngineBuildError(f"TensorRT's ONNX parser refused {Path(model).name}: {words}")
    # Bytes that are no ONNX at all can parse, as a network of nothing.
    if network.num_outputs == 0:
        raise EngineBuildError(
            f"{Path(model).name} holds no network; it is empty or no ONNX model, export it again"
        )


def _load_plugins(builder: Any, log: Any, plugins: list[str]) -> None:
    for plugin in plugins:
        handle = builder.get_plugin_registry().load_library(plugin)
        if handle is None or log.errors:
            raise EngineBuildError(
                f"the plugin library {plugin} cannot be loaded: "
                f"{log.words() or 'no reason given'}; build it for this TensorRT and this machine"
            )


def _check_capabilities(trt: ModuleType, network: Any, wanted: BuildRequest) -> None:
    """Refuse what some hardware cannot do before the builder fails on it with fewer words."""
    if min(wanted.capabilities) > _TURING:
        return
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.MATRIX_MULTIPLY:
            dtype = layer.get_input(0).dtype
            if dtype in (trt.float32, trt.bfloat16):
                raise EngineBuildError(
                    f"SM {min(wanted.capabilities)} (Turing) does no matrix product in "
                    f"{_DTYPES.get(dtype.name, dtype.name)}, and {layer.name!r} is one: FP32 GEMM "
                    "is not supported there; build it in fp16, or for SM 80 and later"
                )


def _parser_words(error: Any) -> str:
    operator = error.node_operator()
    where = f"operator {operator}" + (f" (node {error.node_name()!r})" if error.node_name() else "")
    prefix = f"{where}: " if operator else ""
    return prefix + _one_line(f"{error.code().name}: {error.desc()}")


def _graph_inputs(network: Any) -> list[GraphInput]:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    return [GraphInput(t.name, t.dtype.name.lower(), tuple(t.shape)) for t in tensors]


def _config(trt: ModuleType, wanted: BuildRequest) -> CreateConfigRTX:
    options = wanted.builder
    profiles = []
    for index in sorted({entry.index for entry in wanted.profiles}):
        profile = Profile()
        for entry in wanted.profiles:
            if entry.index == index:
                profile.add(entry.input_name, entry.min, entry.opt, entry.max)
        profiles.append(profile)
    return CreateConfigRTX(
        compute_capabilities=[divmod(sm, 10) for sm in wanted.capabilities],
        use_gpu=False,
        profiles=profiles,
        memory_pool_limits=_pools(trt, wanted),
        builder_optimization_level=options["builder_optimization_level"],
        profiling_verbosity=_verbosity(trt, options),
        max_aux_streams=options["max_aux_streams"],
        engine_capability=trt.EngineCapability.STANDARD,
        runtime_platform=trt.RuntimePlatform.SAME_AS_BUILD,
        tiling_optimization_level=trt.TilingOptimizationLevel.NONE,
    )


def _read_back(trt: ModuleType, config: Any, wanted: BuildRequest) -> None:
    """Set the flags that Polygraphy leaves alone, then compare what is set with what was asked."""
    options = {"weight_streaming": False, **wanted.builder}
    for option, flag in _FLAGS.items():
        change = config.set_flag if options[option] else config.clear_flag
        change(trt.BuilderFlag.__members__[flag])
    count = config.num_compute_capabilities
    capabilities = [config.get_compute_capability(i).name for i in range(count)]
    found = {
        "sm": capabilities,
        "builder_optimization_level": config.builder_optimization_level,
        "profiling_verbosity": config.profiling_verbosity,
        "max_aux_streams": config.max_aux_streams,
        **{
            option: config.get_flag(trt.BuilderFlag.__members__[flag])
            for option, flag in _FLAGS.items()
        },
        "profiles": config.num_optimization_profiles,
        **{str(pool): config.get_memory_pool_limit(pool) for pool in _pools(trt, wanted)},
    }
    asked = {
        **found,
        **{name: value for name, value in options.items() if name in found},
        "sm": [f"SM{sm}" for sm in wanted.capabilities],
        "profiling_verbosity": _verbosity(trt, options),
        "profiles": len({entry.index for entry in wanted.profiles}),
        **{str(pool): size for pool, size in _pools(trt, wanted).items()},
    }
    for name, value in asked.items():
        if found[name] != value:
            raise EngineBuildError(
                f"TensorRT did not take {name} = {value}; it has {found[name]}; change the setting"
            )


def _pools(trt: ModuleType, wanted: BuildRequest) -> dict[Any, int]:
    given = {
        trt.MemoryPoolType.__members__[name.upper()]: size * _MIB
        for name, size in wanted.builder.get("memory_pools", {}).items()
    }
    return {
        trt.MemoryPoolType.WORKSPACE: wanted.workspace_mb * _MIB,
        trt.MemoryPoolType.TACTIC_DRAM: _TACTIC_DRAM,
        trt.MemoryPoolType.TACTIC_SHARED_MEMORY: _TACTIC_SHARED_MEMORY,
        **given,
    }


def _verbosity(trt: ModuleType, options: dict[str, Any]) -> Any:
    return trt.ProfilingVerbosity.__members__[options["profiling_verbosity"].upper()]


def _one_line(text: str) -> str:
    return " ".join(text.split())
