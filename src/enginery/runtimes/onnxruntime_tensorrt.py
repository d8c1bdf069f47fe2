"""ONNX Runtime's TensorRT execution provider: what it is asked for, and whether it did it.

The engine is ONNX Runtime's context model: an ONNX file in which one node, EPContext, holds the
engine of TensorRT for the whole model. It is asked for in the two ways that ONNX Runtime has: by
the settings of a session, "Session Options Related to EP Context" on onnxruntime.ai's page "EP
Context Design", and by the provider's own options, listed in the README of
github.com/onnxruntime/onnxruntime-ep-tensorrt, "Provider Options"; they say the same, so that it
does not matter which the version at hand reads (pull request 19154 of microsoft/onnxruntime).
onnxruntime's `ModelCompiler` is not used: it takes what the provider hands over, which the
providers before that interface do not.

Nothing here has been run: ONNX Runtime with this provider, TensorRT and a GPU were not to be had
together. The networks that the provider builds are not strongly typed before TensorRT 11, so it
is allowed those types, besides fp32, that the model itself has.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto

from ..errors import EngineBuildError
from .profiles import ProfileRange

PROVIDER = "TensorrtExecutionProvider"

_MIB = 1 << 20
_QUANTIZING = ("QuantizeLinear", "DequantizeLinear")


def check_provider(available: list[str]) -> None:
    """Raise EngineBuildError unless this ONNX Runtime has the provider."""
    if PROVIDER not in available:
        raise EngineBuildError(
            f"this ONNX Runtime has no {PROVIDER}, it has {', '.join(available)}; install "
            "onnxruntime-gpu in its place, and TensorRT, or leave sm out: that is for the CPU"
        )


def check_used(used: list[str]) -> None:
    """Raise EngineBuildError unless a session uses the provider; it only logs why it does not."""
    if PROVIDER not in used:
        raise EngineBuildError(
            f"{PROVIDER} could not be loaded, {', '.join(used)} was taken; install the TensorRT "
            "and CUDA that this version of onnxruntime-gpu is made for, or show it where they are"
        )


def providers(options: dict[str, Any] | None = None) -> list[Any]:
    """What a session is given, to build with the options or to load what was built."""
    return [(PROVIDER, options or {"device_id": 0})]


def session_settings(output: Path) -> dict[str, str]:
    """Settings of the session that builds: one file, and all of the model in TensorRT."""
    return {
        "ep.context_enable": "1",
        "ep.context_embed_mode": "1",
        "ep.context_file_path": str(output),
        "session.disable_cpu_ep_fallback": "1",
    }


def provider_options(
    model: ModelProto,
    output: Path,
    ranges: list[ProfileRange],
    workspace_mb: int,
    builder: dict[str, Any],
) -> dict[str, Any]:
    """Options of the provider for one build.

    Args:
        model: The model; its types are allowed.
        output: Where the context model is to be.
        ranges: Shapes; several profiles are several ranges of one input.
        workspace_mb: Workspace memory pool in MiB.
        builder: Builder options by name.
    """
    types = _types(model)
    quantized = any(node.op_type in _QUANTIZING for node in model.graph.node)
    ordered = sorted(ranges, key=lambda entry: entry.index)
    return {
        "device_id": 0,
        "trt_max_workspace_size": workspace_mb * _MIB,
        "trt_builder_optimization_level": builder["builder_optimization_level"],
        "trt_auxiliary_streams": builder["max_aux_streams"],
        "trt_sparsity_enable": builder["sparse_weights"],
        "trt_fp16_enable": TensorProto.FLOAT16 in types,
        "trt_bf16_enable": TensorProto.BFLOAT16 in types,
        "trt_int8_enable": quantized,
        "trt_engine_cache_enable": False,
        "trt_timing_cache_enable": False,
        "trt_dump_ep_context_model": True,
        "trt_ep_context_embed_mode": 1,
        "trt_ep_context_file_path": str(output),
        "trt_profile_min_shapes": _shapes((one.input_name, one.min) for one in ordered),
        "trt_profile_opt_shapes": _shapes((one.input_name, one.opt) for one in ordered),
        "trt_profile_max_shapes": _shapes((one.input_name, one.max) for one in ordered),
    }


def has_context(model: ModelProto) -> bool:
    """Whether a model is a context model."""
    return any(node.op_type == "EPContext" for node in model.graph.node)


def check_context(model: ModelProto, capabilities: list[int]) -> None:
    """Raise EngineBuildError unless all of a model is TensorRT's, for the GPU that was asked for.

    The provider notes the GPU's compute capability in `hardware_architecture`.
    """
    others = sorted({node.op_type for node in model.graph.node if node.op_type != "EPContext"})
    if others or not has_context(model):
        raise EngineBuildError(
            f"TensorRT left {', '.join(others) or 'everything'} to others, so the engine is not "
            "whole; change the model, or build it with TensorRT itself, which says why"
        )
    for node in model.graph.node:
        for attribute in node.attribute:
            made_for = re.fullmatch(rb"(?:sm_?)?(\d+)\.?(\d)", attribute.s)
            if attribute.name != "hardware_architecture" or made_for is None:
                continue
            if int(made_for[1] + made_for[2]) not in capabilities:
                raise EngineBuildError(
                    f"the engine came out for SM {attribute.s.decode()}, asked for was "
                    f"{', '.join(map(str, capabilities))}; make that GPU the first with "
                    "CUDA_VISIBLE_DEVICES"
                )


def _types(model: ModelProto) -> set[int]:
    found = {tensor.data_type for tensor in model.graph.initializer}
    found.update(value.type.tensor_type.elem_type for value in model.graph.input)
    for node in model.graph.node:
        found.update(one.i for one in node.attribute if node.op_type == "Cast" and one.name == "to")
    return found


def _shapes(ranges: Any) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in ranges)
