"""A ViT-S/14 with a batch of 1, 4 or 16: three profiles, and they are in the engine."""

from __future__ import annotations

import runpy
import struct
from pathlib import Path

import onnx
import pytest
from conftest import Project

MODELS = Path(__file__).parents[2] / "models"
BATCHES = (1, 4, 16)

CORPUS = """\
schema = 1
[corpus]
targets = ["rtx"]
precision = ["fp16"]
[targets.rtx]
runtime = "tensorrt_rtx"
sm = 89
[backbones.vit]
onnx = "vit.onnx"
"""
PROFILE = "[[backbones.vit.profiles]]\n" + "".join(
    f"{name} = {{{{ input = [{{batch}}, 3, 224, 224] }}}}\n" for name in ("min", "opt", "max")
)


@pytest.fixture
def vit(new_project: Project) -> Project:
    make = runpy.run_path(str(MODELS / "make_onnx.py"))
    model = make["VisionTransformer"]("N").model()
    onnx.save(model, new_project.path / "vit.onnx", save_as_external_data=True, location="vit.data")
    return new_project


def test_three_profiles_are_in_the_engine(vit: Project) -> None:
    """TensorRT-RTX deserializes nothing without a GPU, so the shapes are looked for in the bytes.

    They are there as 64-bit integers, observed with TensorRT-RTX 1.7; a batch that no profile has
    is the control.
    """
    profiles = "".join(PROFILE.format(batch=batch) for batch in BATCHES)
    (vit.path / "corpus.toml").write_text(CORPUS + profiles)
    run = vit.doit()
    assert run.returncode == 0, run.said
    engine = vit.engine("vit").read_bytes()
    for batch in BATCHES:
        assert struct.pack("<4q", batch, 3, 224, 224) in engine
    assert struct.pack("<4q", 7, 3, 224, 224) not in engine


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("expected_input_shape = [1, 3, 224, 223]\n", "backbones.vit.expected_input_shape: [1, 3, 224, 223] does not fit input 'input'; the graph's inputs are: input float [?, 3, 224, 224]"),
        (PROFILE.format(batch=4).replace("max = { input = [4", "max = { input = [2"), "backbones.vit.profiles: min [4, 3, 224, 224], opt [4, 3, 224, 224], max [2, 3, 224, 224] of input 'input' are not in order"),
        (PROFILE.format(batch=4).replace("input", "image"), "backbones.vit.profiles: the graph has no input 'image'; the graph's inputs are: input float [?, 3, 224, 224]"),
        (PROFILE.format(batch=4).replace(", 224]", "]"), "backbones.vit.profiles: [4, 3, 224] does not fit input 'input'"),
        ("expected_input_shape = [1]\ninput_name = 'mask'\n", "backbones.vit.input_name: the graph has no input 'mask'"),
    ],
    ids=["static dimension", "order", "name", "rank", "unbound"],
)  # fmt: skip
def test_profiles_that_do_not_fit(vit: Project, lines: str, words: str) -> None:
    (vit.path / "corpus.toml").write_text(CORPUS.replace("fp16", "fp32") + lines)
    run = vit.doit()
    assert run.returncode == 2, run.said
    assert f"\ncorpus.toml: {words}" in run.stdout
    assert not list(vit.engines.glob("*"))
