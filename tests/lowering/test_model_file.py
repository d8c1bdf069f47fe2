"""Models read from files and written to one file, or to two where the weights need their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from enginery import EngineBuildError, PrecisionMode
from enginery.config import LoweringOptions
from enginery.digest import sha256_bytes, sha256_file
from enginery.external_data import external_data_locations
from enginery.lowering import model_file
from enginery.lowering.floats import convert
from enginery.lowering.model_file import load, save

ARTIFACT = "model_fp16.onnx"
LIMIT = 4096
SIZE = 40


def model() -> ModelProto:
    """Three weights of 6400 bytes, one of them inside a branch and one in an attribute."""
    random = np.random.RandomState(0)
    first, second, third = (random.randn(SIZE, SIZE).astype(np.float32) / 6 for _ in range(3))
    shape = [1, SIZE]
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("MatMul", ["b", name], [f"{name}_out"], name=name)],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(second, name)],
        )
        for name in ("then", "else")
    }
    nodes = [
        helper.make_node("Constant", [], ["c"], name="c", value=numpy_helper.from_array(third)),
        helper.make_node("MatMul", ["x", "w"], ["a"], name="a"),
        helper.make_node("MatMul", ["a", "c"], ["b"], name="b"),
        helper.make_node("If", ["yes"], ["y"], name="y", **branches),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(first, "w"), numpy_helper.from_array(np.array(True), "yes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(of: ModelProto | Path) -> np.ndarray:
    source = str(of) if isinstance(of, Path) else of.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.ones((1, SIZE), np.float32)})
    return found


def saved(folder: Path, source: ModelProto, limit: int = LIMIT) -> tuple[Path, model_file.Saved]:
    """Save and publish under the final name, as the caller of `save` does."""
    temporary = folder / f".{ARTIFACT}.00000000.tmp"
    written = save(source, temporary, ARTIFACT, limit=limit)
    assert written.sha256 == sha256_file(temporary)
    return temporary.rename(folder / ARTIFACT), written


def loaded(path: Path) -> ModelProto:
    """What `load` gives, less its note that weights came from elsewhere."""
    found = load(path)
    for tensor in model_file.tensors(found.graph):
        tensor.ClearField("data_location")
    return found


def test_a_small_model_is_one_file(tmp_path: Path) -> None:
    path, written = saved(tmp_path, model(), model_file.PROTOBUF_LIMIT)
    assert written.data == ()
    assert [file.name for file in tmp_path.iterdir()] == [ARTIFACT]
    assert loaded(path) == model()


def test_a_large_model_keeps_its_weights_in_a_file_named_after_their_digest(tmp_path: Path) -> None:
    wanted = run(model())
    path, written = saved(tmp_path, model())
    (name,) = written.data
    data = (tmp_path / name).read_bytes()
    assert name == f"model_fp16.{sha256_bytes(data)}.data"
    assert external_data_locations(path) == (name,)
    assert {file.name for file in tmp_path.iterdir()} == {ARTIFACT, name}
    assert path.stat().st_size < LIMIT
    assert loaded(path) == model()
    np.testing.assert_array_equal(run(path), wanted)


def test_weights_are_aligned_to_pages(tmp_path: Path) -> None:
    path, written = saved(tmp_path, model())
    offsets = [
        int(entry.value)
        for tensor in model_file.tensors(onnx.load(path, load_external_data=False).graph)
        for entry in tensor.external_data
        if entry.key == "offset"
    ]
    assert offsets == [0, 8192, 16384, 24576]
    assert (tmp_path / written.data[0]).stat().st_size == 24576 + 6400


@pytest.mark.parametrize("precision", [PrecisionMode.FP16, PrecisionMode.BF16])
def test_a_lowered_model_is_saved_the_same_way(tmp_path: Path, precision: PrecisionMode) -> None:
    lowered = convert(model(), precision, LoweringOptions(), name="model.onnx")
    path, written = saved(tmp_path, lowered)
    assert external_data_locations(path) == written.data != ()
    assert loaded(path) == convert(model(), precision, LoweringOptions(), name="model.onnx")
    if precision is PrecisionMode.FP16:
        np.testing.assert_allclose(run(path), run(model()), rtol=1e-2, atol=1e-2)


def test_shape_inference_never_sees_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model over protobuf's limit cannot be handed to it."""
    infer, seen = onnx.shape_inference.infer_shapes, []

    def watch(part: ModelProto, **options: bool) -> ModelProto:
        seen.append(len(part.SerializeToString()))
        return infer(part, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", watch)
    convert(model(), PrecisionMode.FP16, LoweringOptions(), name="model.onnx")
    assert len(seen) == 3
    assert max(seen) < 2048


def test_the_same_model_gives_the_same_files(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_model_file as t, pathlib;"
        "t.saved(pathlib.Path(sys.argv[2]), t.model())"
    )
    listings = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        here = str(Path(__file__).parent)
        paths = f"{here}:{Path(onnx_models.__file__).parent}"
        subprocess.run(
            [sys.executable, "-c", code, here, str(folder)],
            check=True, env={"PYTHONPATH": paths},
        )  # fmt: skip
        listings.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert listings[0] == listings[1]


def test_what_was_there_before_stays_until_someone_removes_it(tmp_path: Path) -> None:
    _, first = saved(tmp_path, model())
    other = model()
    changed = numpy_helper.from_array(np.ones((SIZE, SIZE), np.float32), "w")
    other.graph.initializer[0].CopyFrom(changed)
    _, second = saved(tmp_path, other)
    assert first.data != second.data
    assert {file.name for file in tmp_path.iterdir()} == {ARTIFACT, *first.data, *second.data}


def test_a_model_that_is_too_large_without_its_weights(tmp_path: Path) -> None:
    with pytest.raises(
        EngineBuildError, match=f"^{ARTIFACT} is over 100 bytes without its weights"
    ):
        saved(tmp_path, model(), limit=100)
    assert not (tmp_path / ARTIFACT).exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff" * 100, r"^bad.onnx is no ONNX model: .*; it is damaged, export it again$"),
        (b"", r"^bad.onnx holds no network; it is empty or no ONNX model, export it again$"),
    ],
)
def test_a_file_that_holds_no_model(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(EngineBuildError, match=message):
        load(tmp_path / "bad.onnx")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match=r"^gone.onnx cannot be loaded: .*gone.onnx"):
        load(tmp_path / "gone.onnx")


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_external_data_that_is_not_whole(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.onnx"
    onnx_models.write_small(path, seed=1, weights="weights.bin")
    weights = tmp_path / "weights.bin"
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(EngineBuildError) as caught:
        convert(load(path), PrecisionMode.FP16, LoweringOptions(), name=path.name)
    assert re.match(r"model.onnx cannot be l(oad|ower)ed", str(caught.value))
    assert "\n" not in str(caught.value)


def test_external_data_with_a_key_that_onnx_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx_models.write_small(path, seed=1, weights="weights.bin")
    bare = onnx.load(path, load_external_data=False)
    bare.graph.initializer[0].external_data.add(key="own", value="1")
    path.write_bytes(bare.SerializeToString())
    assert load(path).graph.initializer[0].raw_data
