"""compare(): a model against its lowered form, in a worker process as it is used."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery import worker
from enginery.accuracy import DEFAULTS
from enginery.accuracy import compare as module
from enginery.accuracy.compare import compare
from enginery.errors import BackboneSpecError, EngineBuildError


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and its fp16 form, made by the lowering itself."""
    folder = tmp_path_factory.mktemp("pair")
    original, lowered = folder / "model.onnx", folder / "lowered.onnx"
    onnx_models.write_small(original, seed=1)
    worker.run(
        "enginery.lowering.fp16:lower",
        {"model": str(original), "output": str(lowered)},
        environment={},
    )
    return original, lowered


def ask(original: Path, lowered: Path, **more: Any) -> dict[str, Any]:
    return {"original": str(original), "lowered": str(lowered), "precision": "fp16", **more}


def test_a_lowered_model_passes(pair: tuple[Path, Path]) -> None:
    found = worker.run("enginery.accuracy.compare:compare", ask(*pair, samples=3), environment={})
    assert found["passed"] is True
    assert found["missed"] == []
    assert found["samples"] == len(set(found["sample_sha256"])) == 3
    assert found["tolerances"] == DEFAULTS["fp16"].as_dict()
    (metrics,) = found["outputs"].values()
    assert 40 < metrics["snr_db"] < 90
    assert metrics["elements"] == 30
    assert found["how"]["original"].endswith("as it is")
    assert found["how"]["lowered"].endswith("every fp16 tensor rounded explicitly")
    assert found["versions"].keys() == {"numpy", "onnx", "onnxruntime"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_same_again(pair: tuple[Path, Path]) -> None:
    assert compare(ask(*pair)) == compare(ask(*pair))
    other = compare(ask(*pair, seed=1))
    assert other["sample_sha256"] != compare(ask(*pair))["sample_sha256"]


def test_a_model_is_like_itself(pair: tuple[Path, Path]) -> None:
    original, lowered = pair
    found = compare(ask(original, original, tolerances={"max_abs": 0.0}))
    assert found["passed"]
    assert found["outputs"]["output"]["snr_db"] is None
    again = compare(ask(lowered, lowered, precision="fp32"))
    assert again["passed"]
    assert again["outputs"]["output"]["equal"] == 1


def damaged(pair: tuple[Path, Path], path: Path, value: float) -> Path:
    """The lowered model with one of its weights replaced."""
    proto = onnx.load(pair[1])
    for tensor in proto.graph.initializer:
        if tensor.name == "kernel":
            array = numpy_helper.to_array(tensor).copy()
            array[0] = value
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, path)
    return path


def test_a_damaged_weight_is_found(pair: tuple[Path, Path], tmp_path: Path) -> None:
    found = compare(ask(pair[0], damaged(pair, tmp_path / "bad.onnx", 2.0)))
    assert not found["passed"]
    assert any("output 'output': signal-to-noise ratio" in words for words in found["missed"])


def test_an_overflow_is_found(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """60000 is a number in fp16, a sum of two of them is not, though it is one in fp32."""
    found = compare(ask(pair[0], damaged(pair, tmp_path / "bad.onnx", 60000)))
    assert found["outputs"]["output"]["nonfinite"] > 0
    assert any("NaN or infinite" in words for words in found["missed"])


def test_tolerances_of_ones_own(pair: tuple[Path, Path]) -> None:
    found = compare(ask(*pair, tolerances={"min_snr_db": 200}))
    assert found["tolerances"]["min_snr_db"] == 200
    assert len(found["missed"]) == 1
    with pytest.raises(BackboneSpecError, match="known are max_abs, max_rel"):
        compare(ask(*pair, tolerances={"min_snr": 1}))
    with pytest.raises(BackboneSpecError, match="fp8 has no default tolerances"):
        compare(ask(*pair, precision="fp8"))


def test_given_data(pair: tuple[Path, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((1, 3, 16, 16), np.float32))
    np.savez(tmp_path / "b.npz", input=np.zeros((1, 3, 16, 16), np.float32))
    found = compare(ask(*pair, data=[str(tmp_path / "a.npy"), str(tmp_path / "b.npz")], samples=9))
    assert found["samples"] == 2
    with pytest.raises(EngineBuildError, match=r"c\.npy: there is no such file"):
        compare(ask(*pair, data=[str(tmp_path / "c.npy")]))
    with pytest.raises(EngineBuildError, match="nothing to compare on"):
        compare(ask(*pair, samples=0))


def test_open_dimensions_need_a_shape(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx_models.write_small(path, seed=1, batch="n")
    with pytest.raises(BackboneSpecError, match=r"'input' is \['n', 3, 16, 16\]"):
        compare(ask(path, path))
    found = compare(ask(path, path, shapes={"input": [5, 3, 16, 16]}, samples=1))
    assert found["outputs"]["output"]["elements"] == 50


def test_external_data(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx_models.write_small(path, seed=1, weights="weights.bin")
    assert compare(ask(path, path))["passed"]
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(EngineBuildError, match=r"m\.onnx cannot be run by onnxruntime"):
        compare(ask(path, path))


def test_a_model_over_the_limit_goes_through_a_file(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    proto = onnx.load(pair[1])
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(1000, np.float32), "large"))
    source = module._source(proto, tmp_path, largest=100)
    assert isinstance(source, str)
    assert (tmp_path / "model.data").stat().st_size > 100
    sample = module.samples.Sample({"input": np.ones((1, 3, 16, 16), np.float32)})
    assert module._run(pair[1], source, [sample])[0]["output"].shape == (1, 10)
    assert isinstance(module._source(onnx.load(pair[1]), tmp_path), bytes)


def test_outputs_that_were_renamed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    proto = onnx.load(pair[0])
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = "renamed"
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(EngineBuildError, match=r"m\.onnx has other outputs .*missing output, new renamed"):  # fmt: skip
        compare(ask(pair[0], tmp_path / "m.onnx"))


def test_files_that_are_no_models(pair: tuple[Path, Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model at all")
    with pytest.raises(EngineBuildError, match=r"bad\.onnx is no ONNX model"):
        compare(ask(pair[0], bad))
    with pytest.raises(EngineBuildError, match=r"gone\.onnx cannot be loaded"):
        compare(ask(pair[0], tmp_path / "gone.onnx"))
    onnx_models.write_single(bad, "NoSuchOperator")
    with pytest.raises(EngineBuildError, match=r"bad\.onnx cannot be run by onnxruntime"):
        compare(ask(pair[0], bad))


def write_labels(path: Path, shift: float) -> None:
    """Where the largest element is, and every place that is above a bound."""
    bound = numpy_helper.from_array(np.array(shift, np.float32), "bound")
    nodes = [
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        helper.make_node("Greater", ["x", "bound"], ["above"]),
        helper.make_node("NonZero", ["above"], ["places"]),
    ]
    outputs = [("label", TensorProto.INT64), ("above", TensorProto.BOOL), ("places", TensorProto.INT64)]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "labels",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 10])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
        [bound],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )


def test_integer_outputs_and_shapes_that_depend_on_the_data(tmp_path: Path) -> None:
    original, lowered = tmp_path / "a.onnx", tmp_path / "b.onnx"
    write_labels(original, 0.0)
    write_labels(lowered, 1.0)
    found = compare(ask(original, lowered))
    assert found["outputs"]["label"]["equal"] == 1
    assert math.isclose(found["outputs"]["above"]["equal"], 0.65, abs_tol=0.2)
    assert [words.split(":")[0] for words in found["missed"]] == [
        "output 'above'",
        "output 'places'",
    ]
    assert "the shape is [2, " in found["missed"][1]
