"""The state of a corpus, engine by engine."""

from __future__ import annotations

from conftest import Project, flip_bit

from enginery.corpus import read_corpus
from enginery.engine_job import EngineJob
from enginery.jobs import corpus_jobs
from enginery.status import Condition, EngineStatus, survey


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
