"""Small ONNX models for tests, and one that takes seconds to build."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_small(path: Path, *, seed: int, weights: str | None = None, batch: int | str = 1) -> None:
    """A convolution and a matrix product; `weights` names a file for external data."""
    random = np.random.RandomState(seed)
    kernel = numpy_helper.from_array(random.randn(8, 3, 3, 3).astype(np.float32), "kernel")
    matrix = numpy_helper.from_array(random.randn(8, 10).astype(np.float32), "matrix")
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["features"], name="conv"),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "matrix"], ["output"], name="head"),
    ]
    _save(path, nodes, [kernel, matrix], weights=weights, batch=batch)


def write_single(path: Path, operator: str, **attributes: object) -> None:
    """One operator between input and output."""
    node = helper.make_node(operator, ["input"], ["output"], name="only", **attributes)
    _save(path, [node], [])


def write_slow(path: Path) -> None:
    """DenseNet-121 with constant weights, as the onnx package ships it: seconds to build."""
    shutil.copy(Path(onnx.__file__).parent / "backend/test/data/light/light_densenet121.onnx", path)


SLOW_INPUT = "data_0"


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
    weights: str | None = None,
    batch: int | str = 1,
) -> None:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, 16, 16])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if weights is None:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=weights, size_threshold=0)
