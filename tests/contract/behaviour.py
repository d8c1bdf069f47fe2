"""What the stand-ins of a TensorRT do: as little as a build needs in order to go all the way.

Each function has the name "Class.method", "Class.property" or "function" and gets the stand-in
(for a function the `Vendor`) and the arguments in the order of the real signature. None of them
is reached through a name or with arguments that the real class does not have: `spec` sees to it.

A scenario asks for more through `Vendor.settings`:

    dla_cores       cores that the builder counts
    build_error     words that the build logs as an error; it then gives no engine
    tactic_errors   words that the build logs as errors, one each; it gives an engine all the same
    load_error      the same for the runtime that deserializes
    parse_error     words that parsing logs as an error; it goes well all the same
    parse_errors    one per error of the parser, its `desc` and what else `ParserError` tells, a
                    code by name; parsing then fails
    plugin_error    words that loading a plugin library logs; it then gives no handle
    refused_cache   whether a timing cache is refused, as that of another version is
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from spec import Behaviour, Call, Vendor, state

CALLS = "ENGINERY_CONTRACT_CALLS"
SETTINGS = "ENGINERY_CONTRACT_SETTINGS"

ENGINE = b"stand-in for an engine: "
CACHE = b"stand-in for a timing cache"

_CLASSES = ("Builder", "OnnxParser", "Runtime")
_FUNCTIONS = ("init_libnvinfer_plugins", "get_plugin_registry")

_DTYPES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF",
           16: "BF16", 17: "FP8"}  # fmt: skip
_LAYERS = {"Conv": "CONVOLUTION", "Gemm": "MATRIX_MULTIPLY", "MatMul": "MATRIX_MULTIPLY"}

# Whatever is kept beside the properties has a key that no attribute can have.
_FLAGS, _POOLS, _PROFILES, _CACHE = "#flags", "#pools", "#profiles", "#cache"
_SOURCES, _INPUTS, _OUTPUTS, _LAYERS_OF = "#sources", "#inputs", "#outputs", "#layers"
_CONTENT, _NETWORK, _SHAPES, _LOGGER = "#content", "#network", "#shapes", "#logger"

_BEHAVIOURS: dict[str, Behaviour] = {}

# What was installed in this process.
VENDORS: list[Vendor] = []


def install(module: ModuleType) -> Vendor:
    """Replace what needs TensorRT's library in its module.

    Calls go to the file that $ENGINERY_CONTRACT_CALLS names, a line of JSON each, and settings come
    from the JSON in $ENGINERY_CONTRACT_SETTINGS.
    """
    log = os.environ.get(CALLS)

    def heard(call: Call) -> None:
        if log:
            with Path(log).open("a") as stream:
                stream.write(json.dumps(shown(call)) + "\n")

    vendor = Vendor(module, _BEHAVIOURS, heard)
    vendor.settings.update(json.loads(os.environ.get(SETTINGS, "{}")))
    vendor.install(_CLASSES, _FUNCTIONS)
    VENDORS.append(vendor)
    return vendor


def shown(call: Call) -> list[Any]:
    """A call in JSON's types: class, name and arguments."""
    return [call.on, call.name, {name: _shown(value) for name, value in call.arguments.items()}]


def _shown(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, bytes) and type(value) is bytes:
        return value.decode("ascii", "backslashreplace")
    if hasattr(value, "__members__"):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, (list, tuple)):
        return [_shown(one) for one in value]
    return f"<{type(value).__name__}>"


def _is(name: str) -> Callable[[Behaviour], Behaviour]:
    def keep(function: Behaviour) -> Behaviour:
        _BEHAVIOURS[name] = function
        return function

    return keep


def _say(logger: Any, words: str) -> None:
    logger.log(type(logger).ERROR, words)


@_is("init_libnvinfer_plugins")
def _(vendor: Vendor, logger: Any, namespace: str) -> bool:
    return True


@_is("get_plugin_registry")
def _(vendor: Vendor) -> Any:
    return vendor.make("IPluginRegistry")


@_is("IPluginRegistry.load_library")
def _(registry: Any, path: str) -> Any:
    found = state(registry)
    if "plugin_error" in found.vendor.settings:
        _say(found.values[_LOGGER], found.vendor.settings["plugin_error"])
        return None
    return object()


@_is("Builder.__init__")
@_is("Runtime.__init__")
def _(owner: Any, logger: Any) -> None:
    state(owner).values["logger"] = logger


@_is("Builder.get_plugin_registry")
@_is("Runtime.get_plugin_registry")
def _(owner: Any) -> Any:
    found = state(owner)
    return found.vendor.make("IPluginRegistry", **{_LOGGER: found.values["logger"]})


@_is("Builder.num_DLA_cores")
@_is("Runtime.num_DLA_cores")
def _(owner: Any) -> int:
    cores: int = state(owner).vendor.settings.get("dla_cores", 0)
    return cores


@_is("Builder.create_network")
def _(builder: Any, flags: int = 0) -> Any:
    network = state(builder).vendor.make("INetworkDefinition", flags=flags, builder=builder)
    state(network).values.update({_INPUTS: [], _OUTPUTS: [], _LAYERS_OF: []})
    return network


@_is("Builder.create_optimization_profile")
def _(builder: Any) -> Any:
    return state(builder).vendor.make("IOptimizationProfile", **{_SHAPES: {}})


@_is("Builder.create_builder_config")
def _(builder: Any) -> Any:
    """With TensorRT's defaults where they are not zero."""
    vendor = state(builder).vendor
    trt = vendor.module
    config = vendor.make(
        "IBuilderConfig",
        DLA_core=-1,
        avg_timing_iterations=1,
        builder_optimization_level=3,
        max_aux_streams=-1,
    )
    every = sum(1 << int(one) for one in trt.TacticSource.__members__.values())
    state(config).values.update(
        {_FLAGS: {trt.BuilderFlag.TF32}, _POOLS: {}, _PROFILES: [], _CACHE: None, _SOURCES: every}
    )
    return config


@_is("Builder.build_serialized_network")
def _(builder: Any, network: Any, config: Any) -> Any:
    vendor, logger = state(builder).vendor, state(builder).values["logger"]
    if _is_cancelled(config):
        _say(logger, "the build was cancelled")
        return None
    if "build_error" in vendor.settings:
        _say(logger, vendor.settings["build_error"])
        return None
    for words in vendor.settings.get("tactic_errors", ()):
        _say(logger, words)
    cache = state(config).values[_CACHE]
    if cache is not None:
        state(cache).values[_CONTENT] = CACHE
    names = [tensor.name for tensor in state(network).values[_INPUTS]]
    return vendor.make("IHostMemory", ENGINE + json.dumps(names).encode())


def _is_cancelled(config: Any) -> bool:
    monitor = config.progress_monitor
    if monitor is None:
        return False
    _demand_overrides(monitor, state(config).vendor.module.IProgressMonitor)
    monitor.phase_start("Building Engine", None, 2)
    monitor.phase_start("Tactic Selection", "Building Engine", 3)
    if not all(monitor.step_complete("Tactic Selection", step) is True for step in range(3)):
        return True
    monitor.phase_finish("Tactic Selection")
    monitor.step_complete("Building Engine", 0)
    monitor.step_complete("Building Engine", 1)
    monitor.phase_finish("Building Engine")
    return False


def _demand_overrides(given: Any, real: type) -> None:
    """Each method of an interface is pure virtual, and TensorRT calls each."""
    virtual = [name for name in vars(real) if not name.startswith("_")]
    assert virtual
    for name in virtual:
        if getattr(type(given), name) is getattr(real, name):
            raise TypeError(f'Tried to call pure virtual function "{real.__name__}::{name}"')


@_is("IBuilderConfig.set_flag")
def _(config: Any, flag: Any) -> None:
    state(config).values[_FLAGS].add(flag)


@_is("IBuilderConfig.clear_flag")
def _(config: Any, flag: Any) -> None:
    state(config).values[_FLAGS].discard(flag)


@_is("IBuilderConfig.get_flag")
def _(config: Any, flag: Any) -> bool:
    return flag in state(config).values[_FLAGS]


@_is("IBuilderConfig.set_memory_pool_limit")
def _(config: Any, pool: Any, size: int) -> None:
    state(config).values[_POOLS][pool] = size


@_is("IBuilderConfig.get_memory_pool_limit")
def _(config: Any, pool: Any) -> int:
    size: int = state(config).values[_POOLS].get(pool, 0)
    return size


@_is("IBuilderConfig.set_tactic_sources")
def _(config: Any, sources: int) -> bool:
    state(config).values[_SOURCES] = sources
    return True


@_is("IBuilderConfig.get_tactic_sources")
def _(config: Any) -> int:
    sources: int = state(config).values[_SOURCES]
    return sources


@_is("IBuilderConfig.add_optimization_profile")
def _(config: Any, profile: Any) -> int:
    state(config).values[_PROFILES].append(profile)
    return len(state(config).values[_PROFILES]) - 1


@_is("IBuilderConfig.num_optimization_profiles")
def _(config: Any) -> int:
    return len(state(config).values[_PROFILES])


@_is("IBuilderConfig.create_timing_cache")
def _(config: Any, content: bytes) -> Any:
    return state(config).vendor.make("ITimingCache", **{_CONTENT: bytes(content)})


@_is("IBuilderConfig.set_timing_cache")
def _(config: Any, cache: Any, ignore_mismatch: bool) -> bool:
    found = state(config)
    if found.vendor.settings.get("refused_cache") and state(cache).values[_CONTENT]:
        return False
    found.values[_CACHE] = cache
    return True


@_is("IBuilderConfig.get_timing_cache")
def _(config: Any) -> Any:
    return state(config).values[_CACHE]


@_is("ITimingCache.serialize")
def _(cache: Any) -> Any:
    return state(cache).vendor.make("IHostMemory", state(cache).values[_CONTENT])


@_is("ITimingCache.combine")
def _(cache: Any, other: Any, ignore_mismatch: bool) -> bool:
    state(cache).values[_CONTENT] += b"+" + state(other).values[_CONTENT]
    return True


@_is("IHostMemory.nbytes")
def _(memory: Any) -> int:
    return memoryview(memory).nbytes


@_is("IOptimizationProfile.set_shape")
@_is("IOptimizationProfile.set_shape_input")
def _(profile: Any, name: str, low: Any, best: Any, high: Any) -> None:
    state(profile).values[_SHAPES][name] = [low, best, high]


@_is("IOptimizationProfile.get_shape")
@_is("IOptimizationProfile.get_shape_input")
def _(profile: Any, name: str) -> list[Any]:
    dims = state(profile).vendor.module.Dims
    return [dims(one) for one in state(profile).values[_SHAPES].get(name, [])]


@_is("IOptimizationProfile.__bool__")
def _(profile: Any) -> bool:
    return bool(state(profile).values[_SHAPES])


@_is("INetworkDefinition.get_flag")
def _(network: Any, flag: Any) -> bool:
    return bool(network.flags & 1 << int(flag))


@_is("INetworkDefinition.num_inputs")
def _(network: Any) -> int:
    return len(state(network).values[_INPUTS])


@_is("INetworkDefinition.num_outputs")
def _(network: Any) -> int:
    return len(state(network).values[_OUTPUTS])


@_is("INetworkDefinition.num_layers")
@_is("INetworkDefinition.__len__")
def _(network: Any) -> int:
    return len(state(network).values[_LAYERS_OF])


@_is("INetworkDefinition.get_input")
def _(network: Any, index: int) -> Any:
    return state(network).values[_INPUTS][index]


@_is("INetworkDefinition.get_output")
def _(network: Any, index: int) -> Any:
    return state(network).values[_OUTPUTS][index]


@_is("INetworkDefinition.get_layer")
@_is("INetworkDefinition.__getitem__")
def _(network: Any, index: int) -> Any:
    return state(network).values[_LAYERS_OF][index]


@_is("ILayer.get_input")
def _(layer: Any, index: int) -> Any:
    return state(layer).values[_INPUTS][index]


@_is("OnnxParser.__init__")
def _(parser: Any, network: Any, logger: Any) -> None:
    state(parser).values.update({_NETWORK: network, _LOGGER: logger})


@_is("OnnxParser.parse_from_file")
def _(parser: Any, model: str) -> bool:
    import onnx

    return _parsed(parser, onnx.load(model, load_external_data=False))


@_is("OnnxParser.parse")
def _(parser: Any, model: bytes, path: str = "") -> bool:
    import onnx

    return _parsed(parser, onnx.load_from_string(bytes(model)))


def _parsed(parser: Any, model: Any) -> bool:
    vendor, network = state(parser).vendor, state(state(parser).values[_NETWORK])
    if vendor.settings.get("parse_errors"):
        return False
    if "parse_error" in vendor.settings:
        _say(state(parser).values[_LOGGER], vendor.settings["parse_error"])
    weights = {one.name for one in model.graph.initializer}
    inputs = [_tensor(vendor, one) for one in model.graph.input if one.name not in weights]
    network.values[_INPUTS] = inputs
    network.values[_OUTPUTS] = [_tensor(vendor, one) for one in model.graph.output]
    network.values[_LAYERS_OF] = [_layer(vendor, node, inputs) for node in model.graph.node]
    return True


def _tensor(vendor: Vendor, declared: Any) -> Any:
    trt, kind = vendor.module, declared.type.tensor_type
    sizes = [one.dim_value if one.HasField("dim_value") else -1 for one in kind.shape.dim]
    dtype = trt.DataType.__members__[_DTYPES[kind.elem_type]]
    return vendor.make("ITensor", name=declared.name, dtype=dtype, shape=trt.Dims(sizes))


def _layer(vendor: Vendor, node: Any, inputs: list[Any]) -> Any:
    kind = vendor.module.LayerType.__members__[_LAYERS.get(node.op_type, "IDENTITY")]
    return vendor.make("ILayer", name=node.name, type=kind, **{_INPUTS: inputs})


@_is("OnnxParser.num_errors")
def _(parser: Any) -> int:
    return len(state(parser).vendor.settings.get("parse_errors", ()))


@_is("OnnxParser.get_error")
def _(parser: Any, index: int) -> Any:
    vendor = state(parser).vendor
    return vendor.make("ParserError", **{_CONTENT: vendor.settings["parse_errors"][index]})


@_is("ParserError.code")
def _(error: Any) -> Any:
    found = state(error)
    return found.vendor.module.ErrorCode.__members__[found.values[_CONTENT].get("code", "SUCCESS")]


@_is("ParserError.desc")
def _(error: Any) -> str:
    return _told(error, "desc")


@_is("ParserError.node_name")
def _(error: Any) -> str:
    return _told(error, "node_name")


@_is("ParserError.node_operator")
def _(error: Any) -> str:
    return _told(error, "node_operator")


def _told(error: Any, name: str) -> str:
    words: str = state(error).values[_CONTENT].get(name, "")
    return words


@_is("Runtime.deserialize_cuda_engine")
def _(runtime: Any, engine: Any) -> Any:
    found = state(runtime)
    if "load_error" in found.vendor.settings or not bytes(engine).startswith(ENGINE):
        _say(found.values["logger"], found.vendor.settings.get("load_error", "no engine"))
        return None
    names = json.loads(bytes(engine).removeprefix(ENGINE))
    return found.vendor.make("ICudaEngine", num_io_tensors=len(names))
