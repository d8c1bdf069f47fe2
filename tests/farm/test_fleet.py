"""fleet.toml, and which engine serves which kind of device."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.corpus import read_corpus
from enginery.errors import CorpusError
from enginery.farm.fleet import Serving, read_fleet
from enginery.hardware import HostCapabilities
from enginery.jobs import engine_jobs

FLEET = """\
schema = 1
[devices.van]
runtime = "tensorrt"
sm = 87
jetpack = "6.2"
trt = "10.3.0"
count = 4200
[devices.desk]
runtime = "tensorrt_rtx"
sm = 89
trt = "1.7.1.116"
names = ["desk-1", "desk-2"]
[devices.edge]
runtime = "onnxruntime"
cpu = "x86-64-v3"
trt = "1.23.0"
"""
RTX = HostCapabilities((86, 89), None, "1.7.1.116")
ORIN = HostCapabilities(87, "6.2", "10.3.0.30")


def write(folder: Path, text: str) -> Path:
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


def test_a_fleet(tmp_path: Path) -> None:
    van, desk, edge = read_fleet(write(tmp_path, FLEET))
    assert (van.name, van.count, van.names, van.sm, van.jetpack) == ("van", 4200, (), 87, "6.2")
    assert (desk.count, desk.names) == (2, ("desk-1", "desk-2"))
    assert (edge.count, edge.cpu, edge.sm) == (1, "x86-64-v3", None)
    assert str(van) == "tensorrt for SM 8.7, JetPack 6.2, TensorRT 10.3.0"
    assert str(edge) == "onnxruntime for CPU x86-64-v3, version 1.23.0"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("count = 4200", "counts = 4200", r"devices\.van: unknown key 'counts'; did you mean 'count'\?"),
        ("count = 4200", "count = 0", r"devices\.van\.count: expected int >= 1"),
        ("count = 4200", "count = true", r"devices\.van\.count: expected int"),
        ('"tensorrt_rtx"', '"tensorrt_rtxx"', r"devices\.desk\.runtime: there is no runtime 'tensorrt_rtxx'.*did you mean 'tensorrt_rtx'\?"),
        ("sm = 87\n", "", r"devices\.van: an engine runs on a GPU or on a CPU; write one of sm = 87"),
        ("sm = 87", 'sm = 87\ncpu = "x86-64-v3"', r"devices\.van: an engine runs on a GPU or on a CPU"),
        ("sm = 89", 'cpu = "x86-64-v3"', r"devices\.desk\.cpu: tensorrt_rtx has no engine for a CPU"),
        ("sm = 87", "sm = 8", r"devices\.van\.sm: 8 is no compute capability"),
        ("sm = 87", "sm = [87]", r"devices\.van\.sm: .*write sm = 87"),
        ('trt = "10.3.0"\n', "", r"devices\.van: the key 'trt' is missing; add it, for example trt = "),
        ('jetpack = "6.2"', 'jetpack = "6_2"', r"devices\.van\.jetpack: jetpack '6_2' is no version"),
        ('"desk-2"]', '"desk-1"]', r"devices: 'desk-1' is there twice; remove one"),
        ('names = ["desk-1"', 'count = 3\nnames = ["desk-1"', r"devices\.desk\.count: 3 is not how many names there are, 2"),
        ("schema = 1", "schema = 2", r"schema: version 2 is unknown; write schema = 1"),
        ("[devices.van]", "[device.van]", r"unknown key 'device'; did you mean 'devices'\?"),
        ("schema = 1", "schema = ", r"is no TOML: .*; correct that line"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in FLEET
    path = write(tmp_path, FLEET.replace(before, after))
    with pytest.raises(CorpusError, match=said) as caught:
        read_fleet(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_no_file_and_no_device(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"there is no such file; write one, or correct the path"):
        read_fleet(tmp_path / "none.toml")
    with pytest.raises(CorpusError, match=r"devices: there is no kind of device; add one"):
        read_fleet(write(tmp_path, "schema = 1\n"))
    with pytest.raises(CorpusError, match=r"make it a UTF-8 text file"):
        read_fleet(tmp_path)


def test_an_engine_of_rtx_serves_several(tmp_path: Path) -> None:
    text = "schema = 1\n" + "".join(
        f'[devices.sm{sm}]\nruntime = "{runtime}"\nsm = {sm}\ntrt = "{trt}"\n'
        for sm, runtime, trt in (
            (86, "tensorrt_rtx", "1.7.1.116"),
            (89, "tensorrt_rtx", "1.7.1.116"),
            (120, "tensorrt_rtx", "1.7.1.116"),
            (75, "tensorrt_rtx", "1.6.0.1"),
            (80, "tensorrt", "10.3.0.30"),
        )
    )
    serving = Serving(read_fleet(write(tmp_path, text)))
    assert serving.of("tensorrt_rtx", RTX) == {"sm86", "sm89"}
    older = HostCapabilities((75, 86), None, "1.6.0.1")
    assert serving.of("tensorrt_rtx", older) == {"sm75"}  # an engine is tied to its version


def test_an_engine_of_tensorrt_serves_its_own_hardware(tmp_path: Path) -> None:
    serving = Serving(read_fleet(write(tmp_path, FLEET)))
    # A device may leave the build number out.
    assert serving.of("tensorrt", ORIN) == {"van"}
    for other in (
        HostCapabilities(87, "6.1", "10.3.0.30"),
        HostCapabilities(87, "6.2", "10.4.0.26"),
        HostCapabilities(110, "6.2", "10.3.0.30"),
    ):
        assert not serving.of("tensorrt", other)


def test_a_cpu(tmp_path: Path) -> None:
    serving = Serving(read_fleet(write(tmp_path, FLEET)))
    for cpu, version, served in (
        ("x86-64-v3", "1.23.0", {"edge"}),
        ("x86-64-v4", "1.23.0", set()),
        ("x86-64-v3", "1.26.0", set()),
    ):
        assert serving.of("onnxruntime", HostCapabilities((), None, version, cpu)) == served


def test_engines_by_kind_and_backbone(tmp_path: Path) -> None:
    (tmp_path / "corpus.toml").write_text(
        "schema = 1\n"
        '[targets.rtx]\nruntime = "tensorrt_rtx"\nsm = [86, 89]\ntrt = "1.7.1.116"\n'
        '[targets.orin]\nruntime = "tensorrt"\nsm = 87\njetpack = "6.2"\ntrt = "10.3.0.30"\n'
        '[backbones.both]\nonnx = "m.onnx"\nexpected_input_shape = [1]\ntargets = ["rtx", "orin"]\n'
        '[backbones.desk]\nonnx = "m.onnx"\nexpected_input_shape = [1]\ntargets = ["rtx"]\n'
    )
    serving = Serving(read_fleet(write(tmp_path, FLEET)))
    found = serving.engines(engine_jobs(read_corpus(tmp_path / "corpus.toml")))
    tasks = {
        kind: {name: [job.task for job in jobs] for name, jobs in by_name.items()}
        for kind, by_name in found.items()
    }
    assert tasks == {
        "van": {"both": ["both:orin-fp32"]},
        "desk": {"both": ["both:rtx-fp32"], "desk": ["desk"]},
        "edge": {},
    }
