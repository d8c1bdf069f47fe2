"""What an engine was built from, and what is there now."""

from __future__ import annotations

from datetime import datetime, timezone

import msgspec
import onnx_models
import pytest
from conftest import Project, flip_bit

from enginery import provenance
from enginery.corpus import read_corpus
from enginery.digest import sha256_file
from enginery.explanation import Explanation, InputState, explain, input_paths, users_of_inputs
from enginery.inputs import InputDigests
from enginery.jobs import corpus_jobs
from enginery.recipe import Change
from enginery.status import Condition, survey

PLAIN = '[backbones.plain]\nonnx = "plain.onnx"\n'


def explained(project: Project, task: str) -> Explanation:
    jobs = corpus_jobs(read_corpus(project.path / "corpus.toml"))
    known = InputDigests()
    for status in survey((*jobs.engines, *jobs.unknown), known):
        if status.job.task == task:
            return explain(status, known)
    raise AssertionError(task)


def states(found: Explanation) -> dict[str, InputState]:
    return {one.role: one.state for one in found.inputs}


def test_a_fresh_engine(project: Project) -> None:
    found = explained(project, "external")
    engine = project.engine("external")
    assert found.changes == ()
    assert found.store is None
    assert found.digests.file == found.digests.sidecar == sha256_file(engine)
    assert found.status.statement is not None
    assert found.fingerprint == found.status.statement.fingerprint
    assert set(states(found).values()) == {InputState.SAME}
    for one in found.inputs:
        info = one.path.stat()
        assert (one.size, one.old, one.new) == (info.st_size, sha256_file(one.path), one.old)
        assert one.modified is not None
        assert one.modified.timestamp() == pytest.approx(info.st_mtime, abs=1e-3)


def test_a_changed_onnx(project: Project) -> None:
    old = sha256_file(project.path / "plain.onnx")
    onnx_models.write_small(project.path / "plain.onnx", seed=9)
    new = sha256_file(project.path / "plain.onnx")
    found = explained(project, "plain")
    assert found.changes == (Change("inputs", "onnx", old, new),)
    (one,) = found.inputs
    assert (one.state, one.old, one.new) == (InputState.CHANGED, old, new)


def test_changed_external_data_alone(project: Project) -> None:
    flip_bit(project.path / "weights.bin", offset=0)
    assert states(explained(project, "external")) == {
        "onnx": InputState.SAME,
        "external_data/weights.bin": InputState.CHANGED,
    }


def test_external_data_that_is_no_input_any_more(project: Project) -> None:
    onnx_models.write_small(project.path / "external.onnx", seed=3)
    found = explained(project, "external")
    assert states(found) == {
        "onnx": InputState.CHANGED,
        "external_data/weights.bin": InputState.REMOVED,
    }
    (data,) = (one for one in found.inputs if one.state is InputState.REMOVED)
    assert data.path == project.path / "weights.bin"
    assert data.new is None


def test_a_calibration_cache_that_came_and_changed(project: Project) -> None:
    cache = project.path / "plain.calib"
    cache.write_text("TRT-100300-EntropyCalibration2\ninput: 3c010a14\n")
    project.edit("corpus.toml", PLAIN, PLAIN + 'calibration = "plain.calib"\n')
    assert states(explained(project, "plain"))["calibration"] is InputState.ADDED
    assert project.doit("plain").built == ["plain"]
    flip_bit(cache, offset=-2)
    assert states(explained(project, "plain"))["calibration"] is InputState.CHANGED
    project.edit("corpus.toml", 'calibration = "plain.calib"\n', "")
    assert states(explained(project, "plain"))["calibration"] is InputState.REMOVED


def test_a_missing_onnx(project: Project) -> None:
    """What it names is not known then, so nothing is said of its external data."""
    (project.path / "external.onnx").unlink()
    found = explained(project, "external")
    assert found.fingerprint is None
    assert found.store is None
    assert states(found)["onnx"] is InputState.UNREADABLE
    assert [change.name for change in found.changes] == ["onnx"]
    assert found.changes[0].new is msgspec.UNSET


def test_missing_external_data(project: Project) -> None:
    (project.path / "weights.bin").unlink()
    found = explained(project, "external")
    assert found.fingerprint is None
    assert states(found) == {
        "onnx": InputState.SAME,
        "external_data/weights.bin": InputState.UNREADABLE,
    }


def test_options_and_tools(project: Project) -> None:
    engine = project.engine("plain")
    statement = provenance.read(engine)
    recipe = msgspec.structs.replace(
        statement.recipe,
        build={**statement.recipe.build, "workspace_mb": 65},
        toolchain={**statement.recipe.toolchain, "tensorrt_rtx": "1.0.0.1"},
    )
    document = provenance.write_statement(
        engine, statement.sha256_hex, recipe, dependencies={"plain.onnx": recipe.inputs["onnx"]},
        versions={}, started=datetime.now(timezone.utc),
    )  # fmt: skip
    provenance.path_for(engine).write_bytes(document)
    found = explained(project, "plain")
    assert found.status.condition is Condition.STALE
    build, tool = found.changes
    assert build == Change("build", "workspace_mb", 65, 64)
    assert (tool.section, tool.name, tool.old) == ("toolchain", "tensorrt_rtx", "1.0.0.1")


def test_the_digests_of_a_damaged_engine(project: Project) -> None:
    engine = project.engine("plain")
    before = sha256_file(engine)
    engine.write_bytes(engine.read_bytes()[:-1])
    digests = explained(project, "plain").digests
    assert (digests.sidecar, digests.provenance) == (before, before)
    assert digests.file == sha256_file(engine) != before


def test_the_digests_of_an_engine_that_went(project: Project) -> None:
    engine = project.engine("plain")
    sidecar = sha256_file(engine)
    engine.unlink()
    digests = explained(project, "plain").digests
    assert (digests.file, digests.sidecar, digests.provenance) == (None, sidecar, sidecar)


def test_a_malformed_provenance_says_nothing_of_before(project: Project) -> None:
    provenance.path_for(project.engine("plain")).write_text("{")
    found = explained(project, "plain")
    assert found.status.condition is Condition.DAMAGED
    assert found.changes == ()
    assert found.digests.provenance is None
    assert states(found) == {"onnx": InputState.ADDED}
    assert found.inputs[0].old is None


def test_what_shares_a_file(project: Project) -> None:
    project.edit("corpus.toml", 'onnx = "half.onnx"', 'onnx = "plain.onnx"')
    jobs = corpus_jobs(read_corpus(project.path / "corpus.toml")).engines
    users = users_of_inputs(jobs, InputDigests())
    assert users[project.path / "plain.onnx"] == ["plain", "half"]
    assert users[project.path / "weights.bin"] == ["external"]
    (external,) = (job for job in jobs if job.task == "external")
    assert input_paths(external, InputDigests()) == {
        "onnx": project.path / "external.onnx",
        "external_data/weights.bin": project.path / "weights.bin",
    }


def test_a_store_that_has_it_and_one_that_was_told_not_to(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINERY_STORE", str(project.path / "store"))
    project.engine("plain").unlink()
    assert project.doit("plain").built == ["plain"]
    project.engine("plain").unlink()
    answer = explained(project, "plain").store
    assert answer is not None
    assert (answer.path, answer.has, answer.reason) == (project.path / "store", True, None)
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    answer = explained(project, "plain").store
    assert answer is not None
    assert not answer.has


def test_external_data_is_looked_for_once(project: Project) -> None:
    """Whoever has hashed an ONNX knows what it names, even where its data went."""
    known = InputDigests()
    onnx = project.path / "external.onnx"
    assert known.external_data(onnx) == ("weights.bin",)
    (project.path / "weights.bin").unlink()
    assert known.external_data(onnx) == ("weights.bin",)
    onnx_models.write_small(onnx, seed=3)
    assert known.external_data(onnx) == ()
