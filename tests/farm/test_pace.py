"""How long builds are going to take, by the hardware and the host of those before."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.corpus import read_corpus
from enginery.engine_job import EngineJob
from enginery.farm.pace import Paces, Past
from enginery.history import PastBuild
from enginery.jobs import engine_jobs

ORIN, THOR = ((87,), "6.2", None), ((110,), "7.0", None)


@pytest.fixture
def jobs(tmp_path: Path) -> dict[str, EngineJob]:
    (tmp_path / "corpus.toml").write_text(
        "schema = 1\n"
        '[targets.orin]\nruntime = "tensorrt"\nsm = 87\njetpack = "6.2"\ntrt = "10.3.0.30"\n'
        '[targets.rtx]\nruntime = "tensorrt_rtx"\nsm = 89\ntrt = "1.7.1.116"\n'
        '[backbones.a]\nonnx = "a.onnx"\nexpected_input_shape = [1]\ntargets = ["orin"]\n'
        '[backbones.b]\nonnx = "b.onnx"\nexpected_input_shape = [1]\ntargets = ["orin"]\n'
        '[backbones.r]\nonnx = "b.onnx"\nexpected_input_shape = [1]\ntargets = ["rtx"]\n'
    )
    return {job.name: job for job in engine_jobs(read_corpus(tmp_path / "corpus.toml"))}


def past(
    model: str, seconds: float, hardware: tuple[object, ...] = ORIN, host: str | None = None,
    runtime: str = "tensorrt",
) -> Past:  # fmt: skip
    return Past(PastBuild(model, runtime, "fp32", seconds), hardware, host)


def sizes(_: EngineJob) -> dict[str, int]:
    return {"a": 100, "b": 150, "r": 1000}


def test_of_its_own_host_first_then_of_its_hardware(jobs: dict[str, EngineJob]) -> None:
    paces = Paces([past("a", 10, host="fast"), past("a", 30, host="slow"), past("a", 50)], sizes)
    assert paces.expected(jobs["a"], "fast") == 10
    assert paces.expected(jobs["a"], "slow") == 30
    assert paces.expected(jobs["a"], "new") == paces.expected(jobs["a"]) == 30
    assert paces.hosts == {"fast", "slow"}


def test_other_hardware_is_no_measure(jobs: dict[str, EngineJob]) -> None:
    paces = Paces([past("a", 10, THOR), past("a", 20, ORIN, runtime="onnxruntime")], sizes)
    assert paces.expected(jobs["a"]) is None
    assert paces.median == 15


def test_hardware_makes_no_difference_to_a_build_that_can_be_done_anywhere(
    jobs: dict[str, EngineJob],
) -> None:
    paces = Paces([past("r", 10, ((86,), None, None), runtime="tensorrt_rtx")], sizes)
    assert paces.expected(jobs["r"]) == 10


def test_a_backbone_of_its_size(jobs: dict[str, EngineJob]) -> None:
    assert Paces([past("b", 10)], sizes).expected(jobs["a"]) == 10
    assert Paces([past("r", 10)], sizes).expected(jobs["a"]) is None


def test_nothing_known(jobs: dict[str, EngineJob]) -> None:
    paces = Paces([], sizes)
    assert paces.expected(jobs["a"]) is None
    assert paces.median is None
