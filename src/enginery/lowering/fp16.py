"""Lowering to fp16, in a process of its own: weights and arithmetic in half precision.

Inputs and outputs keep the types that the model declares; casts stand at the border.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnxconverter_common.float16 import convert_float_to_float16

from ..digest import write_hashed
from ..errors import EngineBuildError

# Largest finite value of IEEE 754 binary16, and its smallest subnormal.
_LARGEST = 65504.0
_SMALLEST = 5.96e-8

# protobuf's limit for one message; a larger model has to keep its weights beside it.
_PROTOBUF_LIMIT = 2**31 - 1


def lower(request: dict[str, str]) -> dict[str, Any]:
    """Write the request's model in fp16 to its output; returns digest and versions."""
    model = _load(Path(request["model"]))
    if not _is_lowered(model):
        model = _convert(model, request["model"])
    if model.ByteSize() > _PROTOBUF_LIMIT:
        raise EngineBuildError(f"{request['model']} is over 2 GB in fp16; build it in fp32")
    return {
        "sha256": write_hashed(
            Path(request["output"]), model.SerializeToString(deterministic=True)
        ),
        "versions": {name: version(name) for name in ("onnx", "onnxconverter-common", "numpy")},
    }


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
    except DecodeError as error:
        raise EngineBuildError(
            f"{path.name} is no ONNX model: {error}; it is damaged, export it again"
        ) from error
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise EngineBuildError(f"{path.name} cannot be loaded: {error}") from error
    if not model.graph.output:
        raise EngineBuildError(
            f"{path.name} holds no network; it is empty or no ONNX model, export it again"
        )
    return model


def _is_lowered(model: onnx.ModelProto) -> bool:
    return all(tensor.data_type != onnx.TensorProto.FLOAT for tensor in model.graph.initializer)


def _convert(model: onnx.ModelProto, path: str) -> onnx.ModelProto:
    with warnings.catch_warnings():
        # A warning per weight that is rounded to the smallest number; doit check measures it.
        warnings.simplefilter("ignore", UserWarning)
        try:
            converted: onnx.ModelProto = convert_float_to_float16(
                model,
                min_positive_val=_SMALLEST,
                max_finite_val=_LARGEST,
                keep_io_types=True,
                check_fp16_ready=False,
            )
        except (ValueError, onnx.shape_inference.InferenceError) as error:
            raise EngineBuildError(
                f"{Path(path).name} cannot be lowered to fp16: {error}"
            ) from error
    return converted
