"""Samples: made up the same way everywhere, read strictly."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import GraphProto, TensorProto, helper, numpy_helper

from enginery.accuracy.samples import ModelInput, Sample, generate, model_inputs, read
from enginery.errors import BackboneSpecError, EngineBuildError

IMAGE = ModelInput("image", np.dtype(np.float32), (1, 2))
IDS = ModelInput("ids", np.dtype(np.int64), (3,), limit=50)
GOLDEN_IDS = [9, 42, 35]
GOLDEN = "dc4f39fdba3683dd5f0dbf4400c8ab84d3606e3b8a41f4f04678f23da503ebc1"


def graph(*inputs: tuple[str, int, list[Any] | None], nodes: Any = (), weights: Any = ()) -> GraphProto:  # fmt: skip
    values = [helper.make_tensor_value_info(*one) for one in inputs]
    return helper.make_graph(list(nodes), "test", values, [], list(weights))


def test_made_up_from_name_seed_and_number_alone() -> None:
    both = generate([IMAGE, IDS], count=2, seed=7)
    alone = generate([IDS], count=1, seed=7)
    assert (both[0].arrays["ids"] == alone[0].arrays["ids"]).all()
    assert both[0].sha256_hex != both[1].sha256_hex
    assert generate([IDS], count=1, seed=8)[0].sha256_hex != alone[0].sha256_hex


def test_the_same_samples_for_ever() -> None:
    (sample,) = generate([IMAGE, IDS], count=1, seed=0)
    assert sample.arrays["ids"].tolist() == GOLDEN_IDS
    assert sample.sha256_hex == GOLDEN


@pytest.mark.parametrize(
    ("dtype", "limit"),
    [(np.int8, 2), (np.int64, 50), (np.uint8, 1), (np.bool_, 2)],
)
def test_integers_and_truth_values_stay_in_range(dtype: Any, limit: int) -> None:
    one = ModelInput("x", np.dtype(dtype), (1000,), limit)
    array = generate([one], count=1, seed=0)[0].arrays["x"]
    assert array.dtype == dtype
    assert set(array.tolist()) == set(range(limit))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_floats_are_standard_normal(dtype: Any) -> None:
    one = ModelInput("x", np.dtype(dtype), (100, 100))
    array = generate([one], count=1, seed=0)[0].arrays["x"]
    assert array.dtype == dtype
    assert abs(float(array.astype(np.float64).mean())) < 0.05
    assert abs(float(array.astype(np.float64).std()) - 1) < 0.05
    assert (
        generate([ModelInput("x", np.dtype(dtype), ())], count=1, seed=0)[0].arrays["x"].ndim == 0
    )


def test_the_digest_covers_name_type_shape_and_values() -> None:
    samples = [
        Sample({"x": np.zeros((2, 3), np.float32)}),
        Sample({"y": np.zeros((2, 3), np.float32)}),
        Sample({"x": np.zeros((3, 2), np.float32)}),
        Sample({"x": np.zeros((2, 3), np.int32)}),
        Sample({"x": np.ones((2, 3), np.float32)}),
        Sample({"x": np.zeros((2, 3), np.float32), "y": np.zeros(0, np.float32)}),
    ]
    assert len({sample.sha256_hex for sample in samples}) == len(samples)
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert Sample({"x": turned}).sha256_hex == Sample({"x": turned.copy()}).sha256_hex


def test_shapes_come_from_the_graph_the_request_and_names_of_dimensions() -> None:
    weight = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    found = model_inputs(
        graph(
            ("a", TensorProto.FLOAT, ["batch", 3, "n"]),
            ("b", TensorProto.BFLOAT16, ["batch", 7]),
            ("c", TensorProto.INT32, [2]),
            ("w", TensorProto.FLOAT, [3]),
            weights=[weight],
        ),
        {"a": [4, 3, 5]},
    )
    assert [(one.name, one.shape) for one in found] == [
        ("a", (4, 3, 5)),
        ("b", (4, 7)),
        ("c", (2,)),
    ]
    assert found[1].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({}, r"'a' is \['n', 3\] in the model; add it to a profile"),
        ({"a": [2, 4]}, r"'a' is \['n', 3\] in the model, which the shape \[2, 4\] does not fit"),
        ({"a": [2]}, r"which the shape \[2\] does not fit"),
        ({"x": [2]}, r"no input 'x'; its inputs are a"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, list[int]], words: str) -> None:
    with pytest.raises(BackboneSpecError, match=words) as raised:
        model_inputs(graph(("a", TensorProto.FLOAT, ["n", 3])), shapes)
    assert raised.value.field == "expected_input_shape"


def test_an_input_of_no_shape_at_all() -> None:
    shapeless = graph(("a", TensorProto.FLOAT, None))
    with pytest.raises(BackboneSpecError, match="'a' is unknown in the model; add it to a profile"):
        model_inputs(shapeless, {})
    assert model_inputs(shapeless, {"a": [2, 2]})[0].shape == (2, 2)


def test_text_cannot_be_made_up() -> None:
    with pytest.raises(BackboneSpecError, match="'a' is no tensor of numbers"):
        model_inputs(graph(("a", TensorProto.STRING, [1])), {})


def test_an_index_is_below_the_size_of_what_it_picks_from() -> None:
    nodes = [
        helper.make_node("Cast", ["ids"], ["long"], to=TensorProto.INT64),
        helper.make_node("Gather", ["words", "long"], ["embedded"]),
        helper.make_node("Gather", ["kinds", "long"], ["kind"], axis=1),
    ]
    weights = [
        numpy_helper.from_array(np.zeros((100, 4), np.float32), "words"),
        numpy_helper.from_array(np.zeros((4, 30), np.float32), "kinds"),
    ]
    found = model_inputs(
        graph(
            ("ids", TensorProto.INT32, [8]),
            ("mask", TensorProto.INT64, [8]),
            nodes=nodes,
            weights=weights,
        ),
        {},
    )
    assert [one.limit for one in found] == [30, 2]


def test_read_from_npz_and_npy(tmp_path: Path) -> None:
    image, ids = np.array([[1.5, 2]], np.float64), np.array([1, 2, 3], np.uint8)
    np.savez(tmp_path / "both.npz", image=image, ids=ids)
    np.save(tmp_path / "one.npy", image)
    (both,) = read([tmp_path / "both.npz"], [IMAGE, IDS])
    assert both.arrays["image"].dtype == np.float32
    assert both.arrays["ids"].dtype == np.int64
    (one,) = read([tmp_path / "one.npy"], [IMAGE])
    assert one.arrays["image"].tolist() == image.tolist()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": np.zeros((1, 2))}, "no array 'ids' for that input; it has image"),
        ({}, "no array 'image' for that input; it has nothing"),
        ({"x": np.zeros(1)}, "array 'x' is for no input; the model's are image, ids"),
        ({"image": np.zeros((2, 2))}, r"array 'image' has the shape \[2, 2\], .* \[1, 2\]"),
        ({"image": np.zeros((1, 2), np.uint8)}, "array 'image' is uint8, the model takes float32"),
        ({"ids": np.array([1, 2, 2**63], np.uint64)}, "array 'ids' does not fit in int64"),
        ({"ids": np.array(["a", "b", "c"])}, "array 'ids' is <U1, the model takes int64"),
    ],
)
def test_files_that_do_not_hold_what_the_model_takes(
    tmp_path: Path, arrays: dict[str, Any], words: str
) -> None:
    good = {"image": np.zeros((1, 2)), "ids": np.zeros(3, np.int64)}
    whole = {**good, **arrays} if words.startswith("array") else arrays
    np.savez(tmp_path / "s.npz", **whole)
    with pytest.raises(EngineBuildError, match=rf"s\.npz: (there is )?{words}"):
        read([tmp_path / "s.npz"], [IMAGE, IDS])


def test_files_that_are_no_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((1, 2)))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1]))
    (tmp_path / "image.png").write_bytes(b"")
    for name, inputs, words in [
        ("one.npy", [IMAGE, IDS], "inputs image, ids; give an .npz"),
        ("text.npy", [IMAGE], "cannot be read"),
        ("cut.npz", [IMAGE], "cannot be read"),
        ("empty.npy", [IMAGE], "cannot be read"),
        ("pickle.npy", [IMAGE], "cannot be read"),
        ("image.png", [IMAGE], "is no sample"),
        ("gone.npy", [IMAGE], "no such file"),
    ]:
        with pytest.raises(EngineBuildError, match=f"{name}: .*{words}"):
            read([tmp_path / name], inputs)
