"""Calibration data: files and functions, and every way in which they may not fit the model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginery import CalibrationCacheError
from enginery.calibration.feeds import Feed, GraphInput, call_feeds, read_feeds

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
IMAGE = GraphInput("image", F32, (2, 3, None))
OPEN = GraphInput("image", F32, (None, 3, 4))
MASK = GraphInput("mask", I64, (2,))


def values(*shape: int) -> Any:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def feeds(tmp_path: Path, *inputs: GraphInput, **arrays: Any) -> list[Feed]:
    np.savez(tmp_path / "data.npz", **arrays)
    return list(read_feeds([tmp_path / "data.npz"], inputs, inputs[0].name))


def test_an_array_is_cut_into_the_batches_of_the_model(tmp_path: Path) -> None:
    image = values(6, 3, 5)
    found = feeds(tmp_path, IMAGE, image=image)
    assert [feed["image"].shape for feed in found] == [(2, 3, 5)] * 3
    assert np.array_equal(np.concatenate([feed["image"] for feed in found]), image)


def test_an_open_batch_is_cut_into_samples(tmp_path: Path) -> None:
    assert [f["image"].shape for f in feeds(tmp_path, OPEN, image=values(3, 3, 4))] == [
        (1, 3, 4)
    ] * 3


def test_an_input_that_all_samples_share_comes_once(tmp_path: Path) -> None:
    found = feeds(tmp_path, IMAGE, MASK, image=values(4, 3, 5), mask=np.array([7, 8]))
    assert [feed["mask"].tolist() for feed in found] == [[7, 8], [7, 8]]


def test_scalars_and_inputs_of_unknown_rank(tmp_path: Path) -> None:
    scalar, any_rank = GraphInput("s", F32, ()), GraphInput("a", F32, None)
    (found,) = feeds(tmp_path, scalar, any_rank, s=np.float32(2), a=values(2, 2))
    assert (found["s"].shape, found["a"].shape) == ((), (2, 2))


def test_files_come_in_their_order_and_npy_is_for_the_default_input(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", values(2, 3, 4))
    np.savez(tmp_path / "a.npz", image=values(1, 3, 4) + 100)
    found = list(read_feeds([tmp_path / "b.npy", tmp_path / "a.npz"], [OPEN], "image"))
    assert [float(feed["image"].flat[0]) for feed in found] == [0, 12, 100]
    assert all(type(feed["image"]) is np.ndarray for feed in found)


def test_byte_order_and_layout_do_not_matter(tmp_path: Path) -> None:
    image = values(1, 3, 4)
    (found,) = feeds(tmp_path, OPEN, image=np.asfortranarray(image.astype(">f4")))
    assert found["image"].dtype.isnative
    assert found["image"].flags.c_contiguous
    assert np.array_equal(found["image"], image)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"picture": values(2, 3, 4)}, "no input 'picture'; its inputs are image, mask"),
        ({"image": values(2, 3, 4)}, r"no array for input 'mask'; add int64 of shape \[2\]"),
        (
            {"image": values(2, 3, 4).astype(np.float64)},
            r"float64 .* float32 of shape \[2, 3, \?\]",
        ),
        ({"image": values(2, 4, 4)}, r"'image' is float32 of shape \[2, 4, 4\]"),
        ({"image": values(3, 3, 4)}, r"of shape \[3, 3, 4\]"),
        ({"image": values(2, 3)}, r"of shape \[2, 3\]"),
        ({"image": np.float32(1)}, r"of shape \[\]"),
        ({"image": values(4, 3, 4), "mask": np.arange(6)}, "different numbers of samples"),
        ({"image": values(0, 3, 4), "mask": np.arange(2)}, "no calibration sample"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(CalibrationCacheError, match=words):
        feeds(tmp_path, IMAGE, MASK, **arrays)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    image = values(2, 3, 4)
    image[1, 0, 0] = bad
    with pytest.raises(CalibrationCacheError, match=r"data\.npz: array 'image' .* sample 2"):
        feeds(tmp_path, OPEN, image=image)


def test_no_files_are_no_samples() -> None:
    with pytest.raises(CalibrationCacheError, match="no calibration sample"):
        list(read_feeds([], [IMAGE], "image"))


@pytest.mark.parametrize("name", ["data.npy", "data.npz", "data.txt", "absent.npy", "folder.npy"])
def test_a_file_that_is_no_data_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if "folder" in name:
        path.mkdir()
    elif "absent" not in name:
        path.write_bytes(b"nothing of the kind")
    with pytest.raises(CalibrationCacheError, match=name):
        list(read_feeds([path], [IMAGE], "image"))


@pytest.mark.parametrize("name", ["data.npy", "data.npz"])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    np.save(path, values(2, 3, 4)) if name.endswith("y") else np.savez(path, image=values(2, 3, 4))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CalibrationCacheError, match=name):
        list(read_feeds([path], [IMAGE], "image"))
    path.write_bytes(b"")
    with pytest.raises(CalibrationCacheError, match=name):
        list(read_feeds([path], [IMAGE], "image"))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_file_under_the_name_of_the_other_kind_is_refused(tmp_path: Path, suffix: str) -> None:
    np.save(tmp_path / "a.npy", values(2, 3, 4))
    np.savez(tmp_path / "a.npz", image=values(2, 3, 4))
    other = {".npy": ".npz", ".npz": ".npy"}[suffix]
    path = (tmp_path / f"a{suffix}").rename(tmp_path / f"b{other}")
    with pytest.raises(CalibrationCacheError, match=path.name):
        list(read_feeds([path], [IMAGE], "image"))


class Trap:
    def __reduce__(self) -> Any:
        return sys.exit, ("a pickle was loaded",)


@pytest.mark.parametrize("name", ["data.npy", "data.npz"])
def test_pickles_are_never_loaded(tmp_path: Path, name: str) -> None:
    path, objects = tmp_path / name, np.array([Trap()], dtype=object)
    np.save(path, objects) if name.endswith("y") else np.savez(path, image=objects)
    with pytest.raises(CalibrationCacheError, match="cannot be read"):
        list(read_feeds([path], [IMAGE], "image"))


FUNCTIONS = """\
import numpy as np
def good():
    for i in range(3):
        yield {"image": np.full((1, 3, 4), i, np.float32)}
def none(): return []
def strangers(): yield np.zeros(3)
def misfits(): yield {"image": np.zeros((1, 3, 4))}
number = 3
"""


def test_a_function_gives_samples_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "feeds_of_a_user.py").write_text(FUNCTIONS)
    before = list(sys.path)
    found = list(call_feeds("feeds_of_a_user:good", tmp_path, [OPEN]))
    assert [float(feed["image"].max()) for feed in found] == [0, 1, 2]
    assert sys.path == before
    assert [path.name for path in tmp_path.iterdir()] == ["feeds_of_a_user.py"]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("feeds_of_a_user:none", "gives no calibration sample"),
        ("feeds_of_a_user:strangers", "sample 1 is a ndarray"),
        ("feeds_of_a_user:misfits", "sample 1: array 'image' is float64"),
        ("feeds_of_a_user:number", "is no function"),
        ("feeds_of_a_user:absent", "cannot be imported"),
        ("no_such_module_anywhere:f", "cannot be imported"),
        ("", "cannot be imported"),
    ],
)
def test_a_function_that_gives_no_data_is_named(tmp_path: Path, reference: str, words: str) -> None:
    (tmp_path / "feeds_of_a_user.py").write_text(FUNCTIONS)
    with pytest.raises(CalibrationCacheError, match=words):
        list(call_feeds(reference, tmp_path, [OPEN]))
