"""`doit why`, with the real doit in real folders."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from conftest import Project, flip_bit
from keys import make_pair

from enginery.digest import sha256_file, short
from enginery.provenance import path_for as provenance_of

ORIN = """\
[targets.orin]
runtime = "tensorrt"
sm = 87
jetpack = "6.2"
trt = "10.3.0.30"
elsewhere = "{}"
[backbones.plain]
targets = ["rtx", "orin"]
"""
MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d \S+"


def why(project: Project, *names: str) -> str:
    run = project.doit("why", *names)
    assert (run.returncode, run.stderr) == (0, ""), run.said
    return run.stdout


def document(project: Project, *names: str) -> dict[str, Any]:
    run = project.doit("why", "--json", *names)
    assert (run.returncode, run.stderr) == (0, ""), run.said
    found: dict[str, Any] = json.loads(run.stdout)
    assert found["version"] == 1
    return found


def the_engine(project: Project, name: str) -> dict[str, Any]:
    (found,) = document(project, name)["engines"]
    return dict(found)


def test_everything_is_fresh(project: Project) -> None:
    assert re.fullmatch(r"nothing to explain: 3 engines: 3 fresh; .*\n", why(project))
    assert document(project)["engines"] == []


def test_a_fresh_engine(project: Project) -> None:
    said = why(project, "external")
    engine = project.engine("external")
    assert said.startswith(f"external: fresh\n  engines/{engine.name}\n")
    assert (
        re.search(rf"built {MOMENT} \(.* ago\) in \d\.\d s, SHA-256 ", said) or "just now" in said
    )
    assert f"SHA-256 {short(sha256_file(engine))}" in said
    for name in ("external.onnx", "weights.bin"):
        assert re.search(rf"{name}: {short(sha256_file(project.path / name))}, .* written", said)
    assert "next" not in said
    assert "to do" not in said


def test_a_changed_onnx(project: Project) -> None:
    project.edit("corpus.toml", 'onnx = "half.onnx"', 'onnx = "plain.onnx"')
    old = sha256_file(project.path / "plain.onnx")
    onnx_models.write_small(project.path / "plain.onnx", seed=9)
    new = sha256_file(project.path / "plain.onnx")
    said = why(project, "plain")
    assert "the ONNX, plain.onnx: changed\n" in said
    assert re.search(rf"was {short(old)} when it was built, {MOMENT}\n", said)
    assert re.search(rf"is  {short(new)}, \d\.\d kB, written {MOMENT}\n", said)
    assert "also an input of half\n" in said
    assert "  next: plain\n" in said
    assert "  to do: doit plain\n" in said

    engine = the_engine(project, "plain")
    assert engine["changes"] == [{"section": "inputs", "name": "onnx", "old": old, "new": new}]
    (file,) = engine["files"]
    assert (file["state"], file["old"], file["new"]) == ("changed", old, new)
    assert file["also_in"] == ["half"]
    assert file["size"] == (project.path / "plain.onnx").stat().st_size
    assert engine["next"] == ["plain"]
    assert engine["remedy"] == "doit plain"
    assert engine["fingerprint"] != engine["fingerprint_now"]


def test_external_data_alone(project: Project) -> None:
    flip_bit(project.path / "weights.bin", offset=0)
    said = why(project)
    assert said.startswith("external: stale\n")
    assert "external data weights.bin: changed" in said
    assert "external.onnx" not in said


def test_a_calibration_cache(project: Project) -> None:
    (project.path / "plain.calib").write_text("TRT-100300-EntropyCalibration2\ninput: 3c010a14\n")
    project.edit(
        "corpus.toml", 'onnx = "plain.onnx"', 'onnx = "plain.onnx"\ncalibration = "plain.calib"'
    )
    assert "the calibration cache, plain.calib: added" in why(project)


def test_an_option_and_what_doit_runs_for_it(project: Project) -> None:
    onnx_models.write_small(project.path / "half.onnx", seed=9)
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    said = why(project, "half")
    assert "  options\n    workspace_mb: 64 -> 65\n" in said
    assert "  next: lower:half-fp16, half\n" in said
    run = project.doit("half")
    ran = re.findall(r"^\.  (\S+)$", run.stdout, re.MULTILINE)
    assert ran == ["lower:half-fp16", "half"]
    assert why(project, "half").startswith("half: fresh")


def test_a_lowered_model_that_is_fresh_is_not_named(project: Project) -> None:
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    assert the_engine(project, "half")["next"] == ["half"]


def test_a_required_check(project: Project) -> None:
    project.edit("corpus.toml", '["fp16"]', '["fp16"]\nrequire_check = true')
    said = why(project, "half")
    assert "its lowered model has no passing check" in said
    assert "  next: check:half, half\n" in said
    run = project.doit("half")
    assert run.returncode == 0, run.said
    assert re.findall(r"^\.  (\S+)$", run.stdout, re.MULTILINE) == ["check:half", "half"]


def test_tasks_of_ones_own(project: Project) -> None:
    with (project.path / "dodo.py").open("a") as dodo:
        dodo.write(
            "def task_publish():\n"
            "    return {'actions': ['true'], 'task_dep': ['plain']}\n"
            "def task_hash():\n"
            f"    return {{'actions': ['true'], 'file_dep': ['engines/{project.engine('plain').name}']}}\n"
        )
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    assert the_engine(project, "plain")["used_by"] == ["publish", "hash"]
    assert the_engine(project, "half")["used_by"] == []
    assert "then, as they use it: publish, hash" in why(project, "plain")


def test_a_truncated_engine(project: Project) -> None:
    engine = project.engine("plain")
    before = sha256_file(engine)
    engine.write_bytes(engine.read_bytes()[:1000])
    said = why(project, "plain")
    assert said.startswith("plain: damaged\n")
    assert re.search(rf"its bytes are +{short(sha256_file(engine))}\n", said)
    assert re.search(rf"its sidecar says +{short(before)}\n", said)
    assert re.search(rf"its provenance says +{short(before)}\n", said)
    assert "to do: doit plain" in said
    digests = the_engine(project, "plain")["digests"]
    assert digests == {"file": sha256_file(engine), "sidecar": before, "provenance": before}


def test_a_missing_sidecar(project: Project) -> None:
    Path(f"{project.engine('plain')}.sha256").unlink()
    said = why(project)
    assert "the sidecar of plain_sm86" in said
    assert re.search(r"its sidecar says +nothing that can be used\n", said)


def test_a_malformed_provenance(project: Project) -> None:
    provenance_of(project.engine("plain")).write_text("[]")
    said = why(project)
    assert "malformed" in said
    assert re.search(r"its provenance says +nothing that can be used\n", said)
    assert "changed" not in said


def test_a_missing_engine_and_its_neighbour(project: Project) -> None:
    engine = project.engine("plain")
    engine.rename(engine.with_name(engine.name.replace("sm86-89", "sm120")))
    said = why(project)
    assert said.startswith(
        f"plain: missing\n  engines/{engine.name}\n  it is not there; plain_sm120"
    )
    assert "sm: 120 -> (86, 89)" in said
    assert "to do: doit plain" in said


def test_a_missing_onnx(project: Project) -> None:
    (project.path / "external.onnx").unlink()
    said = why(project)
    assert "the ONNX, external.onnx: not there" in said
    assert (
        "to do: put the file there or correct the path in corpus.toml; then: doit external" in said
    )
    engine = the_engine(project, "external")
    assert engine["fingerprint_now"] is None
    assert engine["files"][0]["new"] is None
    assert "new" not in engine["changes"][0]


def test_unsigned(project: Project) -> None:
    make_pair(project.path)
    trust = '[trust]\nkeys = ["team.pub.pem"]\nrequire = "all"\n[corpus]'
    project.edit("corpus.toml", "[corpus]", trust)
    said = why(project, "plain")
    assert said.startswith("plain: unsigned\n")
    assert "is not signed" in said
    assert "to do: doit sign plain, if you believe it" in said


def test_a_key_that_is_not_there(project: Project) -> None:
    trust = '[trust]\nkeys = ["team.pub.pem"]\n[corpus]'
    project.edit("corpus.toml", "[corpus]", trust)
    Path(f"{project.engine('plain')}.dsse.json").write_text("{}")
    run = project.doit("why", "plain")
    assert run.returncode == 1
    assert run.stderr.startswith("ERROR: ")
    assert "team.pub.pem" in run.stderr
    assert run.stderr.count("\n") == 1


def test_elsewhere(project: Project) -> None:
    project.edit("corpus.toml", "[backbones.plain]\n", ORIN.format("fail"))
    said = why(project)
    assert said.startswith("plain:orin-fp32: elsewhere\n")
    assert "it needs a host with SM 8.7" in said
    assert "engines/plain_sm87_jp6.2_trt10.3.0.30_fp32.engine" in said
    assert 'elsewhere = "skip" under [targets.orin] of corpus.toml' in said
    assert "next" not in said
    project.edit("corpus.toml", '"fail"', '"skip"')
    assert why(project).startswith("nothing to explain")
    assert "to do: nothing" in why(project, "plain:orin-fp32")


def test_a_store_that_has_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINERY_STORE", str(project.path / "store"))
    project.engine("plain").unlink()
    said = why(project, "plain")
    assert f"the engine of now is not in the local store, {project.path}/store\n" in said
    assert project.doit("plain").built == ["plain"]
    project.engine("plain").unlink()
    said = why(project, "plain")
    assert (
        f"the engine of now is in the local store, {project.path}/store: restored, not built\n"
        in said
    )
    assert the_engine(project, "plain")["stores"]["has"] is True
    run = project.doit("plain")
    assert run.built == []
    assert "restored from the local store" in run.stdout


def test_a_remote_store_is_not_asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINERY_STORE", str(project.path / "store"))
    store = '[store]\nremote = "registry.invalid/team/engines"\n[corpus]'
    project.edit("corpus.toml", "[corpus]", store)
    project.engine("plain").unlink()
    assert "the remote store, registry.invalid/team/engines, was not asked\n" in why(project)


def test_several_names_and_those_that_are_not_fresh(project: Project) -> None:
    project.engine("plain").unlink()
    assert [one["task"] for one in document(project)["engines"]] == ["plain"]
    assert [one["task"] for one in document(project, "half", "plain")["engines"]] == [
        "plain",
        "half",
    ]
    assert re.findall(r"^(\S+): \w+$", why(project, "plain", "half"), re.M) == ["plain", "half"]


def test_a_step(project: Project) -> None:
    assert why(project, "lower:half-fp16").startswith("lower:half-fp16: fresh\n")
    onnx_models.write_small(project.path / "half.onnx", seed=9)
    said = why(project, "lower:half-fp16", "plain")
    assert said.startswith("lower:half-fp16: not fresh\n  .enginery/lowered/half_fp16.onnx\n")
    assert re.search(r"the ONNX changed \(\w{12} -> \w{12}\)\n  next: lower:half-fp16\n", said)
    assert "\nplain: fresh\n" in said
    found = document(project, "lower:half-fp16")
    assert found["engines"] == []
    (step,) = found["steps"]
    assert step["fresh"] is False
    assert [change["name"] for change in step["changes"]] == ["onnx"]
    said = why(project, "check:half")
    assert "it is not there" in said
    assert "next: lower:half-fp16, check:half" in said


def test_wrong_names(project: Project) -> None:
    for wrong, said in (("externl", "did you mean 'external'?"), ("lower", "known are plain, ")):
        run = project.doit("why", wrong)
        assert run.returncode == 1
        assert run.stdout == ""
        assert run.stderr.startswith(f"ERROR: there is no engine {wrong!r}; {said}")


def test_a_calibration_cache_that_doit_makes(project: Project) -> None:
    (project.path / "images").mkdir()
    project.edit(
        "corpus.toml",
        'precision = ["fp16"]',
        'precision = ["int8"]\n[backbones.half.calibrate]\ndata = "images/*.npy"',
    )
    engine = the_engine(project, "half")
    assert engine["next"] == ["calibrate:half", "lower:half-int8", "half"]
    assert engine["remedy"] == "doit half"
    said = why(project, "calibrate:half")
    assert said.startswith("calibrate:half: not fresh\n")


def test_no_engine_is_changed_and_nothing_heavy_is_imported(project: Project) -> None:
    shutil.rmtree(project.path / ".enginery")
    onnx_models.write_small(project.path / "half.onnx", seed=9)
    before = project.snapshot()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "doit", "why"],
        cwd=project.path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "next: lower:half-fp16, half" in done.stdout
    imported = {text.rpartition("|")[2].strip() for text in done.stderr.splitlines()}
    assert not imported & {"tensorrt", "tensorrt_rtx", "onnx", "numpy", "rich", "urllib3"}
    assert project.snapshot() == before
