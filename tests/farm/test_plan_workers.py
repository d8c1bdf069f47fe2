"""`doit plan` with a real scheduler and workers that offer declared tags."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from farms import Authority, Farm, farm, tls_farm  # noqa: F401

from enginery.errors import FarmError
from enginery.farm.connected import connected
from enginery.farm.tags import resource_of
from enginery.farm_spec import FarmSpec
from enginery.hardware import HostCapabilities
from enginery.runtimes import load_runtime

ORIN = resource_of(load_runtime("tensorrt"), HostCapabilities(87, "6.2", "10.3.0.30"))
DODO = """\
from enginery.doit import doit_config, engine_tasks
DOIT_CONFIG = doit_config()
def task_engines():
    yield from engine_tasks("corpus.toml")
"""
CORPUS = """\
schema = 1
[corpus]
targets = ["orin", "thor"]
[farm]
scheduler = "{}"
[targets.orin]
runtime = "tensorrt"
sm = 87
jetpack = "6.2"
trt = "10.3.0.30"
[targets.thor]
runtime = "tensorrt"
sm = 110
jetpack = "7.0"
trt = "10.13.3.9"
elsewhere = "skip"
[backbones.a]
onnx = "a.onnx"
expected_input_shape = [1, 3, 16, 16]
[backbones.b]
onnx = "b.onnx"
expected_input_shape = [1, 3, 16, 16]
targets = ["orin"]
"""


def project(folder: Path, scheduler: str) -> Path:
    folder.mkdir()
    (folder / "dodo.py").write_text(DODO)
    (folder / "corpus.toml").write_text(CORPUS.format(scheduler))
    for seed, name in enumerate("ab"):
        onnx_models.write_small(folder / f"{name}.onnx", seed=seed)
    return folder


def plan(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "doit", "plan", *arguments],
        cwd=folder, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plan(folder, "--json").stdout)
    return found


def test_by_which_worker(farm: Farm, tmp_path: Path) -> None:  # noqa: F811
    folder = project(tmp_path / "project", farm.scheduler)
    empty = plan(folder)
    assert re.search(
        rf"^b +nobody .*; the scheduler {farm.scheduler} has no worker$", empty.stdout, re.M
    )
    farm.start_worker("orin-1", tags=[ORIN])
    farm.start_worker("orin-2", tags=[ORIN])
    text = plan(folder).stdout
    found = re.findall(r"^(a:orin-fp32|b) +farm +(orin-[12]) +\? +it is not there$", text, re.M)
    assert sorted(found) == [("a:orin-fp32", "orin-1"), ("b", "orin-2")]
    # It need not be there, so that nobody who builds it is no fault.
    assert re.search(r"^a:thor-fp32 +left out .*no connected worker offers \S+:sm110:", text, re.M)
    shown = document(folder)
    assert shown["courses"]["farm"] == 2
    assert [one["engines"] for one in shown["workers"]] == [0, 1, 1]
    assert {tuple(one["tags"]) for one in shown["workers"]} == {(), (ORIN,)}
    # Alike, so that the time for one is the time for both.
    assert [one["kind"] for one in shown["workers"]] == ["this host", "orin-1", "orin-1"]
    farm.kill("orin-1")
    assert {one["worker"] for one in document(folder)["engines"]} == {None, "orin-2"}


def test_over_tls(tls_farm: Farm, tmp_path: Path) -> None:  # noqa: F811
    tls_farm.start_worker("orin-1", tags=[ORIN])
    assert tls_farm.authority is not None
    mine = tls_farm.authority.issue("me")
    spec = FarmSpec(tls_farm.scheduler, ca=tls_farm.authority.ca, cert=mine.cert, key=mine.key)
    (worker,) = connected(spec)
    assert (worker.name, dict(worker.resources), worker.slots) == ("orin-1", {ORIN: 1.0}, 1)
    stranger = Authority(tmp_path / "other", "other").issue("stranger")
    with pytest.raises(FarmError, match=r"the scheduler tls://\S+ cannot be asked: .*\?$"):
        connected(FarmSpec(spec.scheduler, ca=spec.ca, cert=stranger.cert, key=stranger.key))
    gone = FarmSpec(spec.scheduler, ca=spec.ca, cert=mine.cert, key=tmp_path / "gone.pem")
    with pytest.raises(FarmError, match=r"the farm.s key, .*gone.pem, is not there"):
        connected(gone)
