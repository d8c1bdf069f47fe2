"""Builds and loads through Polygraphy alone, as entries of `scenarios`."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import tensorrt as trt
from polygraphy.backend.trt import (
    CreateConfig,
    Profile,
    engine_bytes_from_network,
    engine_from_bytes,
    network_from_onnx_path,
)
from polygraphy.logger import G_LOGGER


class Monitor(trt.IProgressMonitor):
    """Lets every build go on."""

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...

    def step_complete(self, phase_name: str, step: int) -> bool:
        return True

    def phase_finish(self, phase_name: str) -> None: ...


def build(request: dict[str, Any]) -> str:
    """Build the request's `model` with its `shapes` and `options`; gives what came out.

    Members of enums are given by name, "DeviceType.GPU"; `pools` are memory pools by name.
    """
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    options = {name: _value(value) for name, value in request.get("options", {}).items()}
    if "pools" in request:
        options["memory_pool_limits"] = {
            trt.MemoryPoolType.__members__[name]: size for name, size in request["pools"].items()
        }
    if request.get("monitored"):
        options["progress_monitor"] = Monitor()
    profiles = [Profile().add("input", *shapes) for shapes in request["shapes"]]
    builder, network, parser = network_from_onnx_path(request["model"], strongly_typed=True)
    config = CreateConfig(profiles=profiles, **options)
    saved = request.get("saved_cache")
    engine = engine_bytes_from_network((builder, network, parser), config, save_timing_cache=saved)
    return bytes(engine).decode()


def load(request: dict[str, Any]) -> str:
    """Load the request's `engine`, as Polygraphy's runner does."""
    return str(engine_from_bytes(request["engine"].encode()))


def load_without_host_code(request: dict[str, Any]) -> str:
    """Load the request's `engine`, as our runner does."""
    from enginery.runtimes import tensorrt_runner

    return str(tensorrt_runner._loaded(request["engine"].encode()))


def _value(value: Any) -> Any:
    if isinstance(value, str) and "." in value and "/" not in value:
        return attrgetter(value)(trt)
    return [_value(one) for one in value] if isinstance(value, list) else value
