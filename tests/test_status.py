"""The state of a corpus, engine by engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from artifacts import replace_by
from conftest import Project, flip_bit
from keys import make_pair

from enginery.corpus import read_corpus
from enginery.engine_job import EngineJob
from enginery.inputs import InputDigests
from enginery.jobs import corpus_jobs
from enginery.provenance import path_for as provenance_of
from enginery.status import Condition, EngineStatus, Signature, survey
from enginery.status_document import counts, engine_document


def states(project: Project) -> dict[str, EngineStatus]:
    jobs = corpus_jobs(read_corpus(project.path / "corpus.toml"))
    return {one.job.task: one for one in survey((*jobs.engines, *jobs.unknown))}


def test_fresh(project: Project) -> None:
    found = states(project)
    assert {one.condition for one in found.values()} == {Condition.FRESH}
    plain = found["plain"]
    assert plain.size == project.engine("plain").stat().st_size
    assert plain.build_s is not None
    assert 0 < plain.build_s < 300
    assert plain.signature == "none"


def test_stale_missing_and_damaged(project: Project) -> None:
    project.engine("plain").unlink()
    flip_bit(project.engine("external"))
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    found = states(project)
    assert found["plain"].condition is Condition.MISSING
    assert found["plain"].size is None
    assert found["external"].condition is Condition.DAMAGED
    assert found["external"].statement is not None
    assert found["half"].condition is Condition.STALE
    assert "workspace_mb: 64 -> 65" in found["half"].reason


def test_what_cannot_be_built_here(project: Project) -> None:
    project.edit(
        "corpus.toml",
        "[backbones.plain]",
        '[targets.orin]\nruntime = "tensorrt"\nsm = 87\njetpack = "6.2"\ntrt = "10.3.0.30"\n'
        '[targets.host]\nruntime = "tensorrt"\n[backbones.plain]\ntargets = ["orin", "host"]',
    )
    found = states(project)
    assert found["plain:orin-fp32"].condition is Condition.ELSEWHERE
    assert found["plain:orin-fp32"].reason.startswith("it is not there")
    assert found["plain:host-fp32"].condition is Condition.ELSEWHERE
    assert found["plain:host-fp32"].verdict is None


def test_what_is_left_out(project: Project) -> None:
    project.edit(
        "corpus.toml",
        "[backbones.plain]",
        '[targets.orin]\nruntime = "tensorrt"\nsm = 87\njetpack = "6.2"\ntrt = "10.3.0.30"\nelsewhere = "skip"\n'
        '[targets.host]\nruntime = "tensorrt"\nelsewhere = "skip"\n'
        '[backbones.plain]\ntargets = ["rtx", "orin", "host"]',
    )
    found = states(project)
    left_out = {task for task, one in found.items() if one.left_out}
    assert left_out == {"plain:orin-fp32", "plain:host-fp32"}
    assert {one.precision for task, one in found.items() if task in left_out} == {"fp32"}
    job = found["plain:orin-fp32"].job
    assert isinstance(job, EngineJob)
    job.plan.path.write_bytes(b"something else")
    assert not states(project)["plain:orin-fp32"].left_out


def _flip(engine: Path) -> None:
    flip_bit(engine)


def _lose_the_sidecar(engine: Path) -> None:
    Path(f"{engine}.sha256").unlink()


def _garble_the_provenance(engine: Path) -> None:
    provenance_of(engine).write_text("[]")


def _lose_the_model(engine: Path) -> None:
    (engine.parents[1] / "plain.onnx").unlink()


def signed(project: Project) -> Path:
    make_pair(project.path)
    project.edit("corpus.toml", "[corpus]", '[trust]\nkeys = ["team.pub.pem"]\n[corpus]')
    assert project.doit("sign", "--key", "team.pem").returncode == 0
    assert states(project)["plain"].signature is Signature.VALID
    return project.engine("plain")


@pytest.mark.parametrize(
    "damage", [_flip, _lose_the_sidecar, _garble_the_provenance, _lose_the_model]
)
def test_no_signature_is_valid_for_bytes_that_nobody_knows(project: Project, damage: Any) -> None:
    engine = signed(project)
    damage(engine)
    assert states(project)["plain"].signature is Signature.UNCHECKED
    Path(f"{engine}.dsse.json").unlink()
    assert states(project)["plain"].signature is Signature.NONE


def test_an_engine_that_is_not_there_has_no_signature(project: Project) -> None:
    signed(project).unlink()
    assert states(project)["plain"].signature is Signature.NONE


def test_a_signature_of_a_stale_engine(project: Project) -> None:
    signed(project)
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    plain = states(project)["plain"]
    assert (plain.condition, plain.signature) == (Condition.STALE, Signature.VALID)


def test_nothing_is_said_of_a_file_that_is_not_there(project: Project) -> None:
    whole = counts(states(project).values())
    seconds = states(project)["plain"].build_s
    size = project.engine("plain").stat().st_size
    project.engine("plain").unlink()
    found = states(project)
    plain = found["plain"]
    assert plain.statement is not None
    assert (plain.size, plain.built_on, plain.build_s) == (None, None, None)
    document = engine_document(plain, InputDigests())
    assert (document.sha256, document.fingerprint, document.inputs) == (None, None, None)
    assert (document.built_on, document.build_s) == (None, None)
    assert document.fingerprint_now is not None
    left = counts(found.values())
    assert left.size == whole.size - size
    assert left.build_s == pytest.approx(whole.build_s - (seconds or 0), abs=2e-3)
    assert left.build_s < whole.build_s


@pytest.mark.parametrize("kind", ["directory", "symlink", "dangling symlink", "FIFO"])
def test_what_is_no_file_has_no_size(project: Project, kind: str) -> None:
    replace_by(kind, project.engine("plain"))
    found = states(project)
    plain = found["plain"]
    assert (plain.condition, plain.size, plain.build_s) == (Condition.DAMAGED, None, None)
    assert counts(found.values()).size == sum(one.size or 0 for one in found.values())
