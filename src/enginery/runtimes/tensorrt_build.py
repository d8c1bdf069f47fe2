"""One TensorRT build, in a process of its own: parse, check, configure, build, load, write.

It is the same for TensorRT and TensorRT-RTX; what each sets is in `<module>_config`. An error in
TensorRT's log is a failure of the build, even where bytes come out. One exception: TensorRT logs
errors for tactics that it tries, skips and does without ("OutOfMemory", then "Skipping tactic";
microsoft/onnxruntime#22164, NVIDIA/TensorRT#2643), so what it logs while it builds is a warning if
the engine loads afterwards.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from polygraphy.backend.trt import engine_bytes_from_network
from polygraphy.exception import PolygraphyException
from polygraphy.logger import G_LOGGER

from .. import worker
from ..digest import write_hashed
from ..errors import EngineBuildError
from .builder_config import BuilderConfig, BuildRequest
from .profiles import GraphInput, check_profiles
from .progress import monitor
from .tensorrt_log import GPU_ADVICE, Log, one_line
from .tensorrt_versions import agrees
from .timing_cache import TimingCache


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Build the engine and write it to the request's output.

    Returns:
        "sha256", its digest, and "warnings", what a person should hear.
    """
    wanted = msgspec.convert(request, BuildRequest)
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    trt = importlib.import_module(wanted.module)
    if not agrees(trt.__version__, wanted.version):
        raise EngineBuildError(
            f"the engine is for TensorRT {wanted.version}, {trt.__version__} is installed here; "
            "install that version or change the target"
        )
    log = Log(trt)
    engine = _build(trt, log, wanted)
    # The builder is gone by now, and the memory that it took.
    if wanted.load_back:
        name = Path(wanted.model).name
        log.overlook(f"{name}: TensorRT logged errors and went on, so the engine may be slow")
        _load_back(trt, log, wanted, engine)
    return {"sha256": write_hashed(Path(wanted.output), engine), "warnings": log.warnings}


def _build(trt: ModuleType, log: Log, wanted: BuildRequest) -> Any:
    builder = _made(trt.Builder, log)
    _load_plugins(builder.get_plugin_registry(), log, wanted.plugins)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, log, network, wanted.model)
    check_profiles(_graph_inputs(network), wanted.profiles)
    configuration = _configuration(trt, wanted)
    configuration.check(builder, network)
    cache = TimingCache(Path(wanted.timing_cache), log) if wanted.timing_cache else None
    # It must live as long as the builder does.
    watching = monitor(trt, worker.report) if wanted.progress else None
    try:
        config = configuration.make(builder, network, watching)
        if cache:
            cache.attach(config)
        log.check()
        engine = engine_bytes_from_network((builder, network), config)
    except PolygraphyException as error:
        raise EngineBuildError(log.words() or one_line(str(error))) from error
    if not wanted.load_back:
        log.check()
    if cache:
        cache.save(config)
    return engine


def _configuration(trt: ModuleType, wanted: BuildRequest) -> BuilderConfig:
    module = importlib.import_module(f"{__package__}.{wanted.module}_config")
    found: BuilderConfig = module.Configuration(trt, wanted)
    return found


def _made(kind: Any, log: Log) -> Any:
    """A builder or runtime; making one is what first touches CUDA."""
    try:
        return kind(log.sink)
    except TypeError as error:  # what pybind11 makes of a null pointer, among others
        if "nullptr" not in str(error):
            raise
        reason = log.words() or f"no reason given; {GPU_ADVICE}"
        raise EngineBuildError(f"TensorRT cannot start on this machine: {reason}") from error


def _parse(trt: ModuleType, log: Log, network: Any, model: str) -> None:
    trt.init_libnvinfer_plugins(log.sink, "")
    parser = trt.OnnxParser(network, log.sink)
    if not parser.parse_from_file(model):
        found = [_parser_words(parser.get_error(i)) for i in range(parser.num_errors)]
        words = "; ".join(dict.fromkeys(found)) or log.words()
        raise EngineBuildError(f"TensorRT's ONNX parser refused {Path(model).name}: {words}")
    # Bytes that are no ONNX at all can parse, as a network of nothing.
    if network.num_outputs == 0:
        raise EngineBuildError(
            f"{Path(model).name} holds no network; it is empty or no ONNX model, export it again"
        )


def _load_plugins(registry: Any, log: Log, plugins: list[str]) -> None:
    for plugin in plugins:
        handle = registry.load_library(plugin)
        if handle is None or log.errors:
            raise EngineBuildError(
                f"the plugin library {plugin} cannot be loaded: "
                f"{log.words() or 'no reason given'}; build it for this TensorRT and this machine"
            )


def _load_back(trt: ModuleType, log: Log, wanted: BuildRequest, engine: Any) -> None:
    """Load the engine as whoever uses it will, before anyone can."""
    runtime = _made(trt.Runtime, log)
    runtime.engine_host_code_allowed = False
    _load_plugins(runtime.get_plugin_registry(), log, wanted.plugins)
    if wanted.builder.get("default_device_type") == "dla":
        runtime.DLA_core = 0
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None or log.errors:
        told = "; ".join(filter(None, (log.words(), *log.warnings))) or "no reason given"
        raise EngineBuildError(
            f"the engine was built and cannot be loaded: {told}; nothing was published"
        )


def _parser_words(error: Any) -> str:
    operator = error.node_operator()
    where = f"operator {operator}" + (f" (node {error.node_name()!r})" if error.node_name() else "")
    prefix = f"{where}: " if operator else ""
    # In bindings up to 10.13 the name of an ErrorCode is a method that cannot be called.
    code = str(error.code()).rpartition(".")[2]
    return prefix + one_line(f"{code}: {error.desc()}")


def _graph_inputs(network: Any) -> list[GraphInput]:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    return [GraphInput(t.name, t.dtype.name.lower(), tuple(t.shape)) for t in tensors]
