"""Calibration caches computed from data: values, repeatability, memory, and faults."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginery import CalibrationCacheError, EngineBuildError, worker
from enginery.calibration import compute as compute_module
from enginery.calibration.cache import read_cache
from enginery.calibration.compute import compute
from enginery.lowering import int8

DATA = np.random.RandomState(0).randn(12, 3, 16, 16).astype(np.float32)


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield
    assert not list(temporary.iterdir())


@pytest.fixture
def small(tmp_path: Path) -> Path:
    onnx_models.write_small(tmp_path / "small.onnx", seed=0)
    return tmp_path / "small.onnx"


def calibrate(model: Path, data: Any, name: str = "cache", **more: Any) -> dict[str, float]:
    folder = model.parent
    files = [folder / f"{name}.{i}.npy" for i in range(len(data))]
    for path, array in zip(files, data, strict=True):
        np.save(path, array)
    output = folder / name
    output.unlink(missing_ok=True)
    seen: list[tuple[int, int | None]] = []
    reply = compute(
        {"model": str(model), "output": str(output), "data": [str(p) for p in files], **more},
        lambda done, total: seen.append((done, total)),
    )
    samples = sum(len(array) for array in data)
    # Where there is nothing but zeros, one pass is enough.
    passes = 1 if more.get("method") == "minmax" or not any(map(np.any, data)) else 2
    assert seen == [(i + 1, samples) for i in range(samples)] * passes
    assert reply["samples"] == samples
    assert reply["versions"].keys() == {"onnx", "onnxruntime", "numpy"}
    return dict(read_cache(output).scales)


def test_minmax_is_the_largest_magnitude(small: Path) -> None:
    scales = calibrate(small, [DATA], method="minmax")
    assert list(scales) == ["input", "flat"]
    assert scales["input"] == float(np.float32(np.abs(DATA).max() / 127))
    assert read_cache(small.parent / "cache").header == "TRT-100300-MinMaxCalibration"


def test_percentile_leaves_out_what_is_beyond_it(small: Path) -> None:
    wide = calibrate(small, [DATA], method="percentile", percentile="100")
    assert wide == pytest.approx(calibrate(small, [DATA], method="minmax"))
    narrow = calibrate(small, [DATA], method="percentile", percentile="95")
    assert narrow["input"] * 127 == pytest.approx(np.quantile(np.abs(DATA), 0.95), rel=0.01)
    assert read_cache(small.parent / "cache").header == "TRT-100300-MinMaxCalibration"


def test_entropy_leaves_out_what_is_rare(small: Path) -> None:
    data = DATA.copy()
    data[0, 0, 0, 0] = 100
    entropy = calibrate(small, [data], method="entropy")
    minmax = calibrate(small, [data], method="minmax")
    assert entropy["input"] < minmax["input"] / 4
    assert calibrate(small, [data]) == entropy
    assert read_cache(small.parent / "cache").header == "TRT-100300-EntropyCalibration2"


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_order_and_files_do_not_matter(small: Path, method: str) -> None:
    # A first sample that is nearly black makes millions of bins in a naive histogram.
    data = np.concatenate([DATA[:1] * np.float32(1e-6), DATA])
    first = calibrate(small, [data], method=method)
    assert calibrate(small, [data[::-1]], method=method) == first
    assert calibrate(small, [data[:5], data[5:6], data[6:]], method=method) == first


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_the_same_bytes_in_every_process(small: Path, method: str) -> None:
    calibrate(small, [DATA], method=method)
    expected = (small.parent / "cache").read_bytes()
    for seed in "12":
        request = {
            "model": str(small),
            "output": str(small.parent / f"again{seed}"),
            "data": [str(small.parent / "cache.0.npy")],
            "method": method,
        }
        entry = "enginery.calibration.compute:compute"
        worker.run(entry, request, environment={"PYTHONHASHSEED": seed})
        assert (small.parent / f"again{seed}").read_bytes() == expected


@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_the_number_of_threads_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    random = np.random.RandomState(1)
    weights = {"k": random.randn(64, 3, 3, 3), "l": random.randn(64, 64, 3, 3) / 24}
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], "a"),
        helper.make_node("Conv", ["a", "l"], ["b"], "b"),
        helper.make_node("Conv", ["b", "l"], ["y"], "y"),
    ]
    model = graph(tmp_path / "model.onnx", nodes, [1, 3, 32, 32], **weights)
    data = [random.randn(4, 3, 32, 32).astype(np.float32)]
    found = []
    options = onnxruntime.SessionOptions
    for threads in (1, 2, 3):

        def with_threads(threads: int = threads) -> Any:
            made = options()
            made.intra_op_num_threads = threads
            return made

        monkeypatch.setattr(onnxruntime, "SessionOptions", with_threads)
        found.append(calibrate(model, data, method=method))
    assert found[0] == found[1] == found[2]


def graph(path: Path, nodes: list[onnx.NodeProto], shape: list[Any], **stored: Any) -> Path:
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.asarray(array, np.float32), name)
            for name, array in stored.items()
        ],
    )
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path
    )
    return path


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_a_tensor_that_is_always_zero_gets_a_scale(tmp_path: Path, method: str) -> None:
    nodes = [
        helper.make_node("Sub", ["x", "x"], ["nothing"], "nothing"),
        helper.make_node("MatMul", ["nothing", "m"], ["a"], "a"),
        helper.make_node("MatMul", ["x", "m"], ["b"], "b"),
        helper.make_node("Add", ["a", "b"], ["y"], "y"),
    ]
    model = graph(tmp_path / "model.onnx", nodes, [1, 4], m=np.eye(4))
    scales = calibrate(model, [np.ones((3, 4), np.float32)], method=method)
    assert scales["nothing"] == 2.0**-14
    # 1.0 is in the last bin but not its end.
    assert scales["x"] == pytest.approx(1 / 127, rel=0.01)
    scales = calibrate(model, [np.zeros((3, 4), np.float32)], method=method)
    assert set(scales.values()) == {2.0**-14}


def test_just_the_tensors_that_int8_quantizes(small: Path) -> None:
    folder = small.parent
    scales = calibrate(small, [DATA], method="minmax")
    request = {
        "model": str(small),
        "output": str(folder / "int8.onnx"),
        "artifact": "int8.onnx",
        "calibration": str(folder / "cache"),
        "options": {"uncovered_percent": 0},
    }
    int8.lower(request)
    lowered = onnx.load(folder / "int8.onnx")
    count = sum(each.op_type == "QuantizeLinear" for each in lowered.graph.node)
    assert count == len(scales) == 2


def test_kept_nodes_need_no_scale(small: Path) -> None:
    scales = calibrate(small, [DATA], method="minmax", options={"keep_nodes": ["head"]})
    assert scales.keys() == {"input"}


def test_a_function_as_data(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = "import numpy as np\ndef feeds():\n  r = np.random.RandomState(0)\n"
    text += "  for _ in range(12): yield {'input': r.randn(1, 3, 16, 16).astype(np.float32)}\n"
    (small.parent / "user_feeds.py").write_text(text)
    output = small.parent / "cache"
    data = {"callable": "user_feeds:feeds", "folder": str(small.parent)}
    request = {"model": str(small), "output": str(output), "data": data, "method": "percentile"}
    assert compute(request)["samples"] == 12
    printed = capfd.readouterr()
    assert not printed.out
    assert "calibrating small.onnx: 12 of 12 samples" in printed.err
    assert read_cache(output).scales == calibrate(small, [DATA], "again", method="percentile")


def test_npz_for_a_model_with_two_inputs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "z"], ["s"], "s"),
        helper.make_node("MatMul", ["s", "m"], ["y"], "y"),
    ]
    model = graph(tmp_path / "model.onnx", nodes, ["batch", 4], m=np.eye(4))
    loaded = onnx.load(model)
    loaded.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 4]))
    onnx.save(loaded, model)
    np.savez(tmp_path / "d.npz", x=np.ones((5, 4), np.float32), z=np.full((5, 4), 2, np.float32))
    request = {
        "model": str(model),
        "output": str(tmp_path / "cache"),
        "data": [str(tmp_path / "d.npz")],
        "method": "minmax",
    }
    assert compute(request)["samples"] == 5
    assert dict(read_cache(tmp_path / "cache").scales) == {"s": float(np.float32(3 / 127))}


@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_a_model_over_the_limit_of_one_message(
    small: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    expected = calibrate(small, [DATA], method=method)
    monkeypatch.setattr(compute_module, "_ONE_MESSAGE", 100)
    assert calibrate(small, [DATA], method=method) == expected


@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_external_data(tmp_path: Path, method: str) -> None:
    onnx_models.write_small(tmp_path / "e.onnx", seed=0, weights="e.data")
    onnx_models.write_small(tmp_path / "small.onnx", seed=0)
    found = [calibrate(tmp_path / f"{n}.onnx", [DATA], method=method) for n in ("e", "small")]
    assert found[0] == found[1]
    assert not list(tmp_path.glob("*inferred*"))


def resident() -> int:
    """Bytes of this process in memory that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_memory_does_not_grow_with_the_samples(tmp_path: Path, method: str) -> None:
    nodes = [helper.make_node("MatMul", ["x", "m"], ["y"], "y")]
    rows, samples = 1 << 18, 40
    model = graph(tmp_path / "model.onnx", nodes, [1, rows, 4], m=np.eye(4))
    data = np.lib.format.open_memmap(tmp_path / "d.npy", "w+", np.float32, (samples, rows, 4))
    data[:] = np.random.RandomState(0).randn(rows, 4)
    request = {
        "model": str(model),
        "output": str(tmp_path / "cache"),
        "data": [str(tmp_path / "d.npy")],
        "method": method,
    }
    seen: list[int] = []
    compute(request, lambda _done, _total: seen.append(resident()))
    assert len(seen) == samples * (1 if method == "minmax" else 2)
    assert max(seen[-samples:]) - seen[-samples + 5] < 8 * data[0].nbytes


def test_numbers_that_overflow_are_refused(small: Path) -> None:
    with pytest.raises(CalibrationCacheError, match=r"'flat' of small\.onnx is not finite"):
        calibrate(small, [DATA[:1] * np.float32(1e38)], method="minmax")


@pytest.mark.parametrize("text", ["0", "-1", "100.1", "nan", "inf", "", "many"])
def test_percentiles_that_are_none(small: Path, text: str) -> None:
    with pytest.raises(CalibrationCacheError, match="percentile"):
        calibrate(small, [DATA], method="percentile", percentile=text)


def test_data_is_checked_before_the_work(small: Path) -> None:
    bad = DATA.copy()
    bad[-1, 0, 0, 0] = np.nan
    with pytest.raises(CalibrationCacheError, match=r"cache\.1\.npy: array 'input' .* sample 12"):
        calibrate(small, [DATA, bad])
    with pytest.raises(CalibrationCacheError, match="no input 'picture'"):
        calibrate(small, [DATA], input_name="picture")
    with pytest.raises(CalibrationCacheError, match="no calibration sample"):
        calibrate(small, [])


def test_models_that_cannot_be_calibrated(tmp_path: Path) -> None:
    onnx_models.write_single(tmp_path / "relu.onnx", "Relu")
    with pytest.raises(EngineBuildError, match="nothing to quantize"):
        calibrate(tmp_path / "relu.onnx", [DATA])
    nodes = [helper.make_node("MatMul", ["x", "m"], ["y"], "y")]
    model = graph(tmp_path / "model.onnx", nodes, [1, 5], m=np.eye(4))
    with pytest.raises(EngineBuildError, match=r"model\.onnx"):
        calibrate(model, [np.ones((1, 5), np.float32)])
