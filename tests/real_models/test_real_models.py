"""Real architectures from export to engine, in every precision, with the real doit.

Slow: exporting takes most of a minute, and so does building. Needs torch, transformers and
onnxscript; without them there is nothing to test here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import DODO, Project, Run

from enginery import worker
from enginery.accuracy.rounding import explicit_rounding

pytestmark = pytest.mark.slow

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
IMAGES = {
    "dinov2": [2, 3, 56, 56],
    "siglip_vision": [1, 3, 64, 64],
    "vitpose": [1, 3, 64, 48],
    "yolos": [1, 3, 64, 64],
    "rt_detr": [1, 3, 128, 128],
    "segformer": [1, 3, 64, 64],
    "superpoint": [1, 3, 64, 64],
}
TEXT = ("input_ids", "attention_mask", "token_type_ids")

# It sorts its queries by score: where two are nearly equal, rounding lets them change places.
SORTS = "rt_detr"
# It finds points whose number depends on the image, with NonZero, which TensorRT-RTX has not.
FINDS = "superpoint"
PLAIN = sorted({*IMAGES, "bert"} - {SORTS, FINDS})

HEAD = f"""\
schema = 1
[corpus]
targets = ["rtx"]
precision = {json.dumps(PRECISIONS)}
workspace_mb = 64
[targets.rtx]
runtime = "tensorrt_rtx"
sm = [86, 89]
"""


def export(folder: Path, *models: str) -> None:
    """In a process of its own: torch is heavy, and warns of much."""
    for package in ("torch", "transformers", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("export.py"), folder, *models],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def sample(name: str, seed: int) -> dict[str, Any]:
    random = np.random.RandomState(seed)
    if name in IMAGES:
        return {"pixel_values": random.randn(*IMAGES[name]).astype(np.float32)}
    ids = random.randint(0, 100, size=(2, 16))
    return dict(
        zip(TEXT, (ids, np.ones_like(ids), random.randint(0, 2, size=(2, 16))), strict=True)
    )


def backbone(name: str) -> str:
    """The tables of a backbone: its shapes, its calibration, and its check on the same data."""
    if name in IMAGES:
        shape = f'input_name = "pixel_values"\nexpected_input_shape = {IMAGES[name]}\n'
    else:
        sizes = ", ".join(f"{one} = [2, 16]" for one in TEXT)
        shape = f"[[backbones.{name}.profiles]]\n" + "".join(
            f"{end} = {{ {sizes} }}\n" for end in ("min", "opt", "max")
        )
    data = f'data = "data/{name}-*.npz"\n'
    return (
        f'[backbones.{name}]\nonnx = "{name}.onnx"\n{shape}'
        f'[backbones.{name}.calibrate]\nmethod = "minmax"\n{data}[backbones.{name}.check]\n{data}'
    )


@pytest.fixture(scope="session")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Run]:
    """A project of all models that doit has gone through once, as far as it goes."""
    project = Project(tmp_path_factory.mktemp("real"))
    export(project.path)
    (project.path / "data").mkdir()
    models = [*IMAGES, "bert"]
    for name in models:
        for seed in range(4):
            np.savez(project.path / "data" / f"{name}-{seed}.npz", **sample(name, seed))
    (project.path / "dodo.py").write_text(DODO)
    (project.path / "corpus.toml").write_text(HEAD + "".join(map(backbone, models)))
    return project, project.doit("--continue", timeout=600)


def report(project: Project, name: str, precision: str) -> dict[str, Any]:
    path = project.path / ".enginery" / "checks" / f"{name}_{precision}.check.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", [*PLAIN, SORTS])
def test_an_engine_is_built(outcome: tuple[Project, Run], name: str, precision: str) -> None:
    project, run = outcome
    assert list(project.engines.glob(f"{name}_sm*_{precision}.engine")), said_of(name, run)


@pytest.mark.parametrize("precision", PRECISIONS[1:])
@pytest.mark.parametrize("name", PLAIN)
def test_the_lowered_model_computes_the_same(
    outcome: tuple[Project, Run], name: str, precision: str
) -> None:
    found = report(outcome[0], name, precision)
    assert found["passed"], found["missed"]
    assert found["samples"] == 4
    for metrics in found["outputs"].values():
        # Lowered indeed: what computes exactly the same was not.
        assert metrics["snr_db"] is not None
        assert metrics["snr_db"] < 90


def run_on(proto: onnx.ModelProto, inputs: dict[str, Any]) -> np.ndarray[Any, Any]:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    logits, boxes = session.run(["logits", "pred_boxes"], inputs)
    return np.concatenate([logits, boxes], axis=-1)[0]


def test_a_detector_that_sorts_finds_the_same(outcome: tuple[Project, Run]) -> None:
    """Place by place its outputs differ; whatever it detects has its like, and only one."""
    folder, inputs = outcome[0].path, sample(SORTS, 0)
    lowered = onnx.load(folder / ".enginery" / "lowered" / f"{SORTS}_fp16.onnx")
    before = run_on(onnx.load(folder / f"{SORTS}.onnx"), inputs)
    after = run_on(explicit_rounding(lowered), inputs)
    distance = np.abs(before[:, None] - after[None]).max(axis=-1)
    assert sorted(distance.argmin(axis=1)) == list(range(len(before)))
    assert distance.min(axis=1).max() < 0.05


def test_an_operator_that_the_runtime_lacks_is_named(outcome: tuple[Project, Run]) -> None:
    project, run = outcome
    assert re.search(r"superpoint: .*operator NonZero \(node 'node_NonZero_44'\)", run.said)
    assert not list(project.engines.glob("superpoint*"))


def test_outputs_whose_number_depends_on_the_data(outcome: tuple[Project, Run]) -> None:
    """A point more or less is no failure of the comparison, and it is said."""
    missed = report(outcome[0], FINDS, "bf16")["missed"]
    assert any("the shape is [1, " in words for words in missed), missed


def test_nothing_is_built_again(outcome: tuple[Project, Run]) -> None:
    project, _ = outcome
    before = project.snapshot()
    run = project.doit("--continue", timeout=600)
    assert run.built == []
    assert project.snapshot() == before


def test_any_batch_of_a_model_with_an_open_one(outcome: tuple[Project, Run]) -> None:
    project, _ = outcome
    ask = {
        "original": str(project.path / "dinov2.onnx"),
        "lowered": str(project.path / ".enginery" / "lowered" / "dinov2_fp16.onnx"),
        "precision": "fp16",
    }
    for batch in (1, 5):
        found = worker.run(
            "enginery.accuracy.compare:compare",
            {**ask, "samples": 1, "shapes": {"pixel_values": [batch, 3, 56, 56]}},
            environment={},
        )
        assert found["passed"], found["missed"]
        assert found["outputs"]["pooler_output"]["elements"] == batch * 64


def test_an_export_repeats(outcome: tuple[Project, Run], tmp_path: Path) -> None:
    """Or every run of these tests would test another model."""
    export(tmp_path, "segformer")
    before, after = (onnx.load(folder / "segformer.onnx") for folder in (outcome[0].path, tmp_path))
    assert before.graph.SerializeToString(deterministic=True) == after.graph.SerializeToString(
        deterministic=True
    )


def said_of(name: str, run: Run) -> str:
    return "\n".join(line for line in run.said.splitlines() if name in line)
