"""`enginery verify --rebuild`: whether an engine comes from its inputs, with real builds."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import onnx_models
import pytest
from artifacts import flip_bit, sidecar_of
from conftest import DODO, Project

from enginery.audit import audit
from enginery.errors import EngineIntegrityError, EngineryError
from enginery.provenance import path_for as provenance_of
from enginery.sidecar import Sha256Sidecar

CORPUS = """\
schema = 1
[corpus]
precision = ["fp32"]
targets = ["rtx"]
workspace_mb = 64
[targets.rtx]
runtime = "tensorrt_rtx"
sm = [86, 89]
[targets.cpu]
runtime = "onnxruntime"
[backbones.plain]
onnx = "plain.onnx"
expected_input_shape = [1, 3, 16, 16]
[backbones.half]
onnx = "half.onnx"
expected_input_shape = [1, 3, 16, 16]
precision = ["fp32", "fp16"]
[backbones.cpu]
onnx = "plain.onnx"
expected_input_shape = [1, 3, 16, 16]
targets = ["cpu"]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("audited"))
    (project.path / "dodo.py").write_text(DODO)
    (project.path / "corpus.toml").write_text(CORPUS)
    onnx_models.write_small(project.path / "plain.onnx", seed=1)
    onnx_models.write_small(project.path / "half.onnx", seed=2)
    run = project.doit()
    assert run.returncode == 0, run.said
    return project


@pytest.fixture
def project(built: Project, tmp_path: Path) -> Project:
    copy = Project(tmp_path / "project")
    shutil.copytree(built.path, copy.path)
    return copy


def found(project: Project, name: str, folder: Path | None = None) -> list[tuple[str, bool]]:
    results = audit(project.path / "corpus.toml", folder or project.engines, name)
    return [(words, same) for _, words, same in results]


def forge(engine: Path) -> None:
    """Another engine in its place, sidecar and provenance of which fit."""
    before = Sha256Sidecar.read(engine)
    flip_bit(engine, 8000)
    after = hashlib.sha256(engine.read_bytes()).hexdigest()
    for file in (sidecar_of(engine), provenance_of(engine)):
        file.write_text(file.read_text().replace(before, after))


def call(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "enginery", "verify", *arguments],
        cwd=project.path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_good_engine(project: Project) -> None:
    before = project.snapshot()
    ((words, same),) = found(project, "plain")
    assert same
    engine = project.engine("plain")
    assert words.startswith(f"rebuilt    {engine.name}: the same bytes, ")
    assert project.snapshot() == before


def test_every_engine_of_a_backbone(project: Project) -> None:
    results = found(project, "half")
    assert [same for _, same in results] == [True, True]
    assert len({words for words, _ in results}) == 2


def test_one_file(project: Project) -> None:
    (fp16,) = project.engines.glob("half_*_fp16.engine")
    ((words, same),) = found(project, fp16.name)
    assert same
    assert fp16.name in words


def test_a_forged_engine_with_right_sidecars(project: Project) -> None:
    engine = project.engine("plain")
    forge(engine)
    assert call(project, "engines").returncode == 0  # all of it fits
    ((words, same),) = found(project, "plain")
    assert not same
    assert words.startswith(f"different  {engine.name}: ")
    assert "does not come from these inputs" in words


def test_an_engine_of_other_inputs(project: Project) -> None:
    onnx_models.write_small(project.path / "plain.onnx", seed=9)
    ((_, same),) = found(project, "plain")
    assert not same


def test_a_store_is_not_asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forged engine in the store must not vouch for itself."""
    monkeypatch.setenv("ENGINERY_STORE", str(project.path / "store"))
    engine = project.engine("plain")
    forge(engine)
    from enginery.digest import sha256_file
    from enginery.store.layout import LocalStore

    LocalStore(project.path / "store").add(
        engine, sha256_hex=sha256_file(engine), document=provenance_of(engine).read_bytes(),
        name=engine.name, annotations={},
    )  # fmt: skip
    ((_, same),) = found(project, "plain")
    assert not same


def test_a_forged_lowered_model_does_not_vouch(project: Project) -> None:
    """The model is lowered anew, or the one that lies there is verified."""
    (lowered,) = (project.path / ".enginery" / "lowered").glob("*.onnx")
    flip_bit(lowered, 4000)
    (fp16,) = project.engines.glob("half_*_fp16.engine")
    ((_, same),) = found(project, fp16.name)
    assert same


def test_the_inputs_folder_is_left_as_it_was(project: Project) -> None:
    """An audit is no build: what it makes goes with it."""
    shutil.rmtree(project.path / ".enginery")
    before = set(project.path.rglob("*"))
    (fp16,) = project.engines.glob("half_*_fp16.engine")
    ((_, same),) = found(project, fp16.name)
    assert same
    assert set(project.path.rglob("*")) == before


def test_a_folder_elsewhere(project: Project, tmp_path: Path) -> None:
    shutil.copytree(project.engines, tmp_path / "device")
    forge(tmp_path / "device" / project.engine("plain").name)
    assert [same for _, same in found(project, "plain", tmp_path / "device")] == [False]
    assert [same for _, same in found(project, "plain")] == [True]


def test_a_runtime_that_does_not_repeat_its_bytes(project: Project) -> None:
    """ONNX Runtime's engines are compared too, and what that says is told."""
    (engine,) = project.engines.glob("cpu_*.engine")
    ((words, _),) = found(project, engine.name)
    assert words.startswith(("rebuilt ", "different "))


@pytest.mark.parametrize("name", ["nosuch", "plain_sm1_nojp_trt1_fp32.engine", ""])
def test_an_unknown_name(project: Project, name: str) -> None:
    with pytest.raises(EngineryError, match="has no engine of"):
        found(project, name)
    done = call(project, "engines", "--rebuild", name)
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR: ")
    assert done.stderr.count("\n") == 1


def test_a_misspelt_name(project: Project) -> None:
    done = call(project, "engines", "--rebuild", "plian")
    assert done.stderr == (
        "ERROR: corpus.toml has no engine of 'plian' that is in engines; did you mean 'plain'?\n"
    )


def test_a_damaged_engine(project: Project) -> None:
    flip_bit(project.engine("plain"), 8000)
    with pytest.raises(EngineIntegrityError, match="nothing to compare"):
        found(project, "plain")
    done = call(project, "engines", "--rebuild", "plain")
    assert done.returncode == 1
    assert "damaged" in done.stdout


@pytest.mark.parametrize("what", ["sidecar", "directory", "model", "corpus"])
def test_what_is_missing(project: Project, what: str) -> None:
    engine = project.engine("plain")
    if what == "sidecar":
        sidecar_of(engine).unlink()
    elif what == "directory":
        engine.unlink()
        engine.mkdir()
    elif what == "model":
        (project.path / "plain.onnx").unlink()
    else:
        (project.path / "corpus.toml").unlink()
    done = call(project, "engines", "--rebuild", "plain")
    assert done.returncode == (1 if what in ("sidecar", "directory") else 2), done
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ERROR: ")
    assert {"model": "plain.onnx", "corpus": "corpus.toml"}.get(what, engine.name) in last


def test_the_command(project: Project) -> None:
    done = call(project, "engines", "--rebuild", "plain", "--rebuild", "half")
    assert done.returncode == 0
    assert done.stdout.count("the same bytes") == 3
    assert done.stdout.splitlines()[-1] == "4 good, 0 wrong"
    forge(project.engine("plain"))
    done = call(project, "engines", "--rebuild", "plain", "--quiet")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["different", "3"]
    assert lines[-1] == "3 good, 1 wrong"
    elsewhere = call(project, "engines", "--corpus", "nowhere.toml", "--rebuild", "plain")
    assert elsewhere.returncode == 2
    assert "nowhere.toml" in elsewhere.stderr
