"""Digests of inputs: remembered where that is safe, worked out where it is not."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from artifacts import IRREGULAR, replace_by, within
from onnx import TensorProto, helper

from enginery import (
    BackboneSpecError,
    CalibrationCacheError,
    EngineBuildError,
    EngineryError,
)
from enginery.inputs import InputDigests

LIE = "f" * 64
# Older than the coarsest clock of a file system, as the module under test demands.
SETTLED_S = 2.1
# Linux allows such names.
NOT_UTF_8 = os.fsdecode(b"stra\xdfe")


def write_model(folder: Path, *locations: str) -> Path:
    """A model whose weights lie in these files, and the files."""
    tensors = []
    for location in locations:
        tensor = TensorProto(name=location, data_type=TensorProto.FLOAT, dims=[2])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        tensors.append(tensor)
        (folder / location).parent.mkdir(parents=True, exist_ok=True)
        (folder / location).write_bytes(location.encode())
    model = helper.make_model(helper.make_graph([], "light", [], [], tensors))
    path = folder / "light.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders with a model, its weights and a calibration cache, last changed long enough ago."""
    root = tmp_path_factory.mktemp("settled")
    for number in range(16):
        folder = root / f"{number:02}"
        folder.mkdir()
        write_model(folder, "weights.bin")
        (folder / "light.calib").write_text("TRT-100300-EntropyCalibration2\n")
        (folder / NOT_UTF_8).mkdir()
        (folder / NOT_UTF_8 / "light.calib").write_text("TRT-100300-EntropyCalibration2\n")
    time.sleep(SETTLED_S)
    unused = iter(sorted(root.iterdir()))
    taken: dict[str, Path] = {}
    return lambda test: taken.setdefault(test, next(unused))


@pytest.fixture
def folder(settled: Callable[[str], Path], request: pytest.FixtureRequest) -> Path:
    """One of the settled folders, for this test alone."""
    return settled(request.node.name)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "inputs.json"


def remember(folder: Path, memory: Path) -> dict[str, str]:
    digests = InputDigests(memory)
    found = digests.of_model(folder / "light.onnx")
    found["calibration"] = digests.of_calibration(folder / "light.calib")
    digests.save()
    return found


def lie(memory: Path, digest: str) -> None:
    """Change a remembered digest: whoever gives the changed one out did not read the file."""
    text = memory.read_text()
    assert digest in text
    memory.write_text(text.replace(digest, LIE))


def test_every_file_that_the_model_names_counts(tmp_path: Path) -> None:
    model = write_model(tmp_path, "b.bin", "parts/a.bin")
    assert InputDigests().of_model(model) == {
        "onnx": sha256(model),
        "external_data/b.bin": sha256(tmp_path / "b.bin"),
        "external_data/parts/a.bin": sha256(tmp_path / "parts/a.bin"),
    }


def test_a_model_without_external_data(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    assert InputDigests().of_model(model) == {"onnx": sha256(model)}


def test_a_linked_model_is_followed(tmp_path: Path) -> None:
    model = write_model(tmp_path, "weights.bin")
    link = tmp_path / "link.onnx"
    link.symlink_to(model)
    assert InputDigests().of_model(link) == InputDigests().of_model(model)


def test_what_was_remembered_is_not_read_again(folder: Path, memory: Path) -> None:
    found = remember(folder, memory)
    for digest in found.values():
        lie(memory, digest)
    again = InputDigests(memory)
    assert again.of_model(folder / "light.onnx") == {
        "onnx": LIE,
        "external_data/weights.bin": LIE,
    }
    assert again.of_calibration(folder / "light.calib") == LIE


def test_a_file_asked_for_as_calibration_first_is_still_scanned(folder: Path, memory: Path) -> None:
    digests = InputDigests(memory)
    digests.of_calibration(folder / "light.onnx")
    assert "external_data/weights.bin" in digests.of_model(folder / "light.onnx")
    digests.save()
    assert "external_data/weights.bin" in InputDigests(memory).of_model(folder / "light.onnx")


@pytest.mark.parametrize("name", ["light.onnx", "weights.bin", "light.calib"])
def test_other_bytes_of_the_same_size_and_mtime_are_noticed(
    folder: Path, memory: Path, name: str
) -> None:
    before = remember(folder, memory)
    changed = folder / name
    info = changed.stat()
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    os.utime(changed, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert changed.stat().st_mtime_ns == info.st_mtime_ns
    assert changed.stat().st_size == info.st_size
    after = remember(folder, memory)
    role = {"light.onnx": "onnx", "weights.bin": "external_data/weights.bin"}.get(
        name, "calibration"
    )
    assert [key for key in before if before[key] != after[key]] == [role]
    assert after[role] == sha256(changed)


def test_another_file_under_the_same_name_is_noticed(folder: Path, memory: Path) -> None:
    before = remember(folder, memory)
    other = folder / "other.calib"
    other.write_text("TRT-100300-EntropyCalibration3\n")
    os.utime(other, ns=(0, (folder / "light.calib").stat().st_mtime_ns))
    other.replace(folder / "light.calib")
    assert remember(folder, memory)["calibration"] == sha256(folder / "light.calib")
    assert before["calibration"] != sha256(folder / "light.calib")


def test_a_file_just_written_is_not_remembered(tmp_path: Path, memory: Path) -> None:
    model = write_model(tmp_path, "weights.bin")
    digests = InputDigests(memory)
    found = digests.of_model(model)
    digests.save()
    remembered = memory.read_text() if memory.exists() else ""
    assert not [digest for digest in found.values() if digest in remembered]


def test_an_old_mtime_does_not_make_a_new_file_settled(tmp_path: Path, memory: Path) -> None:
    model = write_model(tmp_path)
    os.utime(model, ns=(0, 0))
    digests = InputDigests(memory)
    found = digests.of_model(model)
    digests.save()
    assert not memory.exists() or found["onnx"] not in memory.read_text()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"{}",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"format":1,"files":{"a":[1,2,3]}}',
        b'{"format":1,"files":{},"more":1}',
    ],
    ids=lambda content: repr(content[:30]),
)
def test_a_damaged_memory_is_an_empty_one(tmp_path: Path, memory: Path, content: bytes) -> None:
    model = write_model(tmp_path, "weights.bin")
    memory.parent.mkdir()
    memory.write_bytes(content)
    digests = InputDigests(memory)
    assert digests.of_model(model) == InputDigests().of_model(model)
    digests.save()


def test_a_memory_of_another_version_is_an_empty_one(folder: Path, memory: Path) -> None:
    found = remember(folder, memory)
    lie(memory, found["onnx"])
    text = memory.read_text()
    assert '"format":1' in text
    memory.write_text(text.replace('"format":1', '"format":2'))
    assert InputDigests(memory).of_model(folder / "light.onnx")["onnx"] == found["onnx"]


@pytest.mark.parametrize("kind", IRREGULAR)
def test_a_memory_that_is_no_regular_file_is_an_empty_one(
    tmp_path: Path, memory: Path, kind: str
) -> None:
    model = write_model(tmp_path)
    memory.parent.mkdir()
    replace_by(kind, memory)
    with within(10):
        digests = InputDigests(memory)
        assert digests.of_model(model) == {"onnx": sha256(model)}
        digests.save()


def test_a_memory_that_cannot_be_written_is_done_without(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    found = remember(folder, tmp_path / "file" / "inputs.json")
    assert found["onnx"] == sha256(folder / "light.onnx")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_whose_name_is_not_utf_8(folder: Path, memory: Path) -> None:
    path = folder / NOT_UTF_8 / "light.calib"
    digests = InputDigests(memory)
    assert digests.of_calibration(path) == sha256(path)
    digests.save()
    assert InputDigests(memory).of_calibration(path) == sha256(path)


@pytest.mark.parametrize("trouble", ["missing", *IRREGULAR[:2], IRREGULAR[3]])
def test_an_onnx_that_cannot_be_read(tmp_path: Path, trouble: str) -> None:
    model = tmp_path / "light.onnx"
    if trouble != "missing":
        replace_by(trouble, model)
    with (
        within(10),
        pytest.raises(BackboneSpecError, match=r"light\.onnx .*correct the path") as raised,
    ):
        InputDigests().of_model(model)
    assert raised.value.field == "onnx"


@pytest.mark.parametrize("trouble", ["missing", *IRREGULAR[:2], IRREGULAR[3]])
def test_external_data_that_cannot_be_read(tmp_path: Path, trouble: str) -> None:
    model = write_model(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").unlink()
    if trouble != "missing":
        replace_by(trouble, tmp_path / "weights.bin")
    words = r"weights\.bin of light\.onnx .*put it beside the ONNX, or export the model again"
    with within(10), pytest.raises(EngineBuildError, match=words):
        InputDigests().of_model(model)


@pytest.mark.parametrize("trouble", ["missing", *IRREGULAR[:2], IRREGULAR[3]])
def test_a_calibration_cache_that_cannot_be_read(tmp_path: Path, trouble: str) -> None:
    path = tmp_path / "light.calib"
    if trouble != "missing":
        replace_by(trouble, path)
    words = r"light\.calib .*put it there or correct the path"
    with within(10), pytest.raises(CalibrationCacheError, match=words):
        InputDigests().of_calibration(path)


@pytest.mark.parametrize("name", ["a\0b", "n" * 300, "model.onnx/below"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    write_model(tmp_path).rename(tmp_path / "model.onnx")
    with pytest.raises(BackboneSpecError, match="correct the path"):
        InputDigests().of_model(tmp_path / name)
    with pytest.raises(CalibrationCacheError, match="correct the path"):
        InputDigests().of_calibration(tmp_path / name)


@pytest.mark.parametrize("location", ["a\0b", "n" * 300, ".", "/nowhere/weights.bin"])
def test_locations_that_no_file_can_have(tmp_path: Path, location: str) -> None:
    model = write_model(tmp_path)
    tensor = TensorProto(name="w", data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    graph = helper.make_graph([], "light", [], [], [tensor])
    model.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(EngineryError, match="put it beside the ONNX"):
        InputDigests().of_model(model)
