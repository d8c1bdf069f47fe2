"""`doit why`, with the real doit in real folders."""

from __future__ import annotations

import json
import pstats
import re
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from conftest import ON_ORIN, Project, flip_bit
from keys import make_pair
from msgspec import structs

from enginery.corpus import read_corpus
from enginery.digest import sha256_file, short
from enginery.engine_job import EngineJob
from enginery.inputs import InputDigests
from enginery.jobs import corpus_jobs
from enginery.provenance import path_for as provenance_of
from enginery.provenance import write_statement
from enginery.store.layout import LocalStore

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


def test_a_clock_that_was_wrong(project: Project) -> None:
    document_path = provenance_of(project.engine("plain"))
    later = re.sub(rb'("finishedOn": ")2', rb"\g<1>3", document_path.read_bytes())
    document_path.write_bytes(later)
    assert re.search(r"built 3\d{3}-.* \(in the future\) in \d+ d", why(project, "plain"))


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


def test_users_of_users(project: Project) -> None:
    with (project.path / "dodo.py").open("a") as dodo:
        dodo.write(
            "def task_ship():\n"
            "    return {'actions': ['true'], 'task_dep': ['publish']}\n"
            "def task_publish():\n"
            "    return {'actions': ['true'], 'task_dep': ['both']}\n"
            "def task_both():\n"
            "    return {'actions': None, 'task_dep': ['plain', 'half']}\n"
        )
    project.engine("half").unlink()
    assert the_engine(project, "half")["used_by"] == ["publish", "ship"]


def test_a_declared_check_of_the_model(project: Project) -> None:
    """`doit half` does not run it; plain `doit` does."""
    project.edit("corpus.toml", '["fp16"]', '["fp16"]\ncheck = { samples = 2 }')
    assert project.doit().returncode == 0
    onnx_models.write_small(project.path / "half.onnx", seed=9)
    half = the_engine(project, "half")
    assert (half["next"], half["used_by"]) == (["lower:half-fp16", "half"], ["check:half"])
    run = project.doit()
    ran = re.findall(r"^\.  (\S+)$", run.stdout, re.MULTILINE)
    assert sorted(ran) == sorted([*half["next"], *half["used_by"]])
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    assert the_engine(project, "half")["used_by"] == []


MADE = """
def task_export():
    return {
        "actions": ["mkdir -p models && cp source.onnx models/made.onnx"],
        "file_dep": ["source.onnx"],
        "targets": ["models/made.onnx"],
    }
"""


@pytest.fixture
def made(project: Project) -> Project:
    """A project in which a task of the user's makes a model, and all is fresh."""
    (project.path / "plain.onnx").rename(project.path / "source.onnx")
    project.edit("corpus.toml", 'onnx = "plain.onnx"', 'onnx = "models/made.onnx"')
    with (project.path / "dodo.py").open("a") as dodo:
        dodo.write(MADE)
    assert project.doit().returncode == 0
    return project


@pytest.mark.parametrize("engine_too", [False, True])
def test_a_model_that_a_task_makes(made: Project, engine_too: bool) -> None:
    (made.path / "models/made.onnx").unlink()
    if engine_too:
        made.engine("plain").unlink()
    said = why(made, "plain")
    assert "the ONNX, models/made.onnx: not there" in said
    assert "put the " not in said
    engine = the_engine(made, "plain")
    assert (engine["next"], engine["remedy"]) == (["export", "plain"], "doit plain")
    run = made.doit("plain")
    assert run.returncode == 0, run.said
    ran = re.findall(r"^\.  (\S+)$", run.stdout, re.MULTILINE)
    assert ran in (["export"], ["export", "plain"])
    assert why(made, "plain").startswith("plain: fresh")


def test_the_source_of_a_model_that_a_task_makes(made: Project) -> None:
    """The engine is what its model is; that the model is made anew shows with the next change."""
    onnx_models.write_small(made.path / "source.onnx", seed=9)
    assert why(made, "plain").startswith("plain: fresh")
    made.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    assert the_engine(made, "plain")["next"] == ["export", "plain"]
    assert the_engine(made, "external")["next"] == ["external"]


def test_external_data_that_a_task_makes(project: Project) -> None:
    """doit knows nothing of external data, so the task has to be named."""
    (project.path / "weights.bin").rename(project.path / "weights.src")
    with (project.path / "dodo.py").open("a") as dodo:
        dodo.write(
            "def task_weights():\n"
            "    return {'actions': ['cp weights.src weights.bin'], 'targets': ['./weights.bin']}\n"
        )
    engine = the_engine(project, "external")
    assert engine["remedy"] == "doit weights external"
    assert project.doit(*engine["remedy"].split()[1:]).returncode == 0
    assert why(project, "external").startswith("external: fresh")


def test_a_missing_onnx_and_no_engine(project: Project) -> None:
    (project.path / "external.onnx").unlink()
    project.engine("external").unlink()
    assert "to do: put the file there or correct the path in corpus.toml" in why(project)


def test_a_long_chain_of_tasks(project: Project) -> None:
    """Longer than Python's stack is deep, before the engine and after it."""
    with (project.path / "dodo.py").open("a") as dodo:
        dodo.write(
            "def task_export():\n"
            "    return {'actions': ['true'], 'task_dep': ['before'], 'targets': ['plain.onnx']}\n"
            "def task_before():\n"
            "    return {'actions': ['true'], 'task_dep': ['b1499']}\n"
            "def task_chains():\n"
            "    for n in range(1500):\n"
            "        yield {'basename': f'b{n}', 'actions': ['true'],\n"
            "               'task_dep': [f'b{n - 1}'] if n else []}\n"
            "        yield {'basename': f'a{n}', 'actions': ['true'],\n"
            "               'task_dep': [f'a{n - 1}'] if n else ['plain']}\n"
        )
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    engine = the_engine(project, "plain")
    assert engine["next"] == [*(f"b{n}" for n in range(1500)), "before", "export", "plain"]
    assert engine["used_by"] == [f"a{n}" for n in range(1500)]


def test_many_changed_models_are_each_read_a_few_times(project: Project) -> None:
    names = [f"m{n}" for n in range(12)]
    table = '[backbones.{0}]\nonnx = "{0}.onnx"\nexpected_input_shape = [1, 3, 16, 16]\n'
    with (project.path / "corpus.toml").open("a") as corpus:
        corpus.write("".join(map(table.format, names)))
    for name in names:
        onnx_models.write_small(project.path / f"{name}.onnx", seed=7)
        for end in ("", ".provenance.json", ".sha256"):
            plain = Path(f"{project.engine('plain')}{end}")
            text = plain.read_bytes().replace(b"plain_sm", f"{name}_sm".encode())
            (project.engines / plain.name.replace("plain", name)).write_bytes(
                text if end else plain.read_bytes()
            )
    done = subprocess.run(
        [sys.executable, "-m", "cProfile", "-o", "profile", "-m", "doit", "why", "--json"],
        cwd=project.path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)["engines"]
    assert [one["condition"] for one in found] == ["stale"] * len(names)
    calls = {
        function: count
        for (file, _, function), (_, count, *_) in pstats.Stats(
            str(project.path / "profile")
        ).stats.items()  # type: ignore[attr-defined]
        if file.endswith("external_data.py")
    }
    assert len(names) <= calls["external_data_locations"] <= 4 * len(names)


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


def test_unsigned_and_signed_in_the_store(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINERY_STORE", str(project.path / "store"))
    make_pair(project.path)
    trust = '[trust]\nkeys = ["team.pub.pem"]\nrequire = "all"\nsign_with = "team.pem"\n[corpus]'
    project.edit("corpus.toml", "[corpus]", trust)
    project.engine("plain").unlink()
    assert project.doit("plain").built == ["plain"]
    Path(f"{project.engine('plain')}.dsse.json").unlink()
    said = why(project, "plain")
    assert said.startswith("plain: unsigned\n")
    assert "restored, not built\n" in said
    assert said.endswith("  to do: doit plain\n")
    assert "anew" not in said
    assert project.doit("plain").built == []
    assert why(project, "plain").startswith("plain: fresh")


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
    project.edit("corpus.toml", "[backbones.plain]\n", ON_ORIN.format("fail"))
    said = why(project)
    assert said.startswith("plain:orin-fp32: elsewhere\n")
    assert "it needs a host with SM 8.7" in said
    assert "engines/plain_sm87_jp6.2_trt10.3.0.30_fp32.engine" in said
    assert 'elsewhere = "skip" under [targets.orin] of corpus.toml' in said
    assert "next" not in said
    project.edit("corpus.toml", '"fail"', '"skip"')
    assert why(project).startswith("nothing to explain")
    assert "to do: nothing" in why(project, "plain:orin-fp32")


def left_out(project: Project) -> EngineJob:
    """The engine of `plain` for the Orin, which the corpus leaves out here."""
    project.edit("corpus.toml", "[backbones.plain]\n", ON_ORIN.format("skip"))
    jobs = corpus_jobs(read_corpus(project.path / "corpus.toml"))
    (job,) = (one for one in jobs.engines if one.target == "orin")
    return job


def documented(job: EngineJob, path: Path, **build: int) -> bytes:
    """The provenance of an engine as an Orin would make it, with other options where they differ."""
    recipe = job.plan.recipe(InputDigests())
    return write_statement(
        job.plan.path, sha256_file(path), structs.replace(recipe, build={**recipe.build, **build}),
        dependencies={}, versions={}, started=datetime.now(timezone.utc),
    )  # fmt: skip


def keep_in_store(project: Project, job: EngineJob) -> None:
    """Put the engine of a job into the local store."""
    engine = project.path / "made elsewhere"
    engine.write_bytes(b"as if from an Orin")
    LocalStore(project.path / "store").add(
        engine, sha256_hex=sha256_file(engine), document=documented(job, engine),
        name=job.plan.path.name, annotations={},
    )  # fmt: skip


def test_what_is_left_out_is_not_restored_by_doit(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINERY_STORE", str(project.path / "store"))
    keep_in_store(project, job := left_out(project))
    said = why(project, "plain:orin-fp32")
    assert f"the engine of now is in the local store, {project.path}/store\n" in said
    assert "restored" not in said
    assert "next" not in said
    assert "to do: doit pull plain:orin-fp32\n" in said
    assert project.doit("plain:orin-fp32").returncode == 0
    assert not job.plan.path.exists()
    assert project.doit("pull", "plain:orin-fp32").returncode == 0
    assert job.plan.path.read_bytes() == b"as if from an Orin"
    assert why(project, "plain:orin-fp32").startswith("plain:orin-fp32: fresh")


def test_what_cannot_be_built_here_is_restored(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINERY_STORE", str(project.path / "store"))
    job = left_out(project)
    project.edit("corpus.toml", '"skip"', '"fail"')
    keep_in_store(project, job)
    engine = the_engine(project, "plain:orin-fp32")
    assert (engine["next"], engine["remedy"]) == (["plain:orin-fp32"], "doit plain:orin-fp32")
    assert project.doit("plain:orin-fp32").returncode == 0
    assert why(project, "plain:orin-fp32").startswith("plain:orin-fp32: fresh")


@pytest.mark.parametrize("state", ["damaged", "stale"])
def test_what_is_left_out_is_there_and_not_fresh(
    project: Project, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = left_out(project)
    job.plan.path.write_bytes(b"of another day")
    if state == "stale":
        provenance_of(job.plan.path).write_bytes(documented(job, job.plan.path, workspace_mb=65))
        Path(f"{job.plan.path}.sha256").write_text(
            f"{sha256_file(job.plan.path)}  {job.plan.path.name}\n"
        )
    assert project.doit("corpus", "--check").returncode == 1
    said = why(project)
    assert said.startswith("plain:orin-fp32: elsewhere\n")
    assert ("workspace_mb: 65 -> 64" in said) == (state == "stale")
    cure = "doit clean plain:orin-fp32, which removes what is there; or build it on such a host"
    assert f"to do: {cure} and copy it here\n" in said
    monkeypatch.setenv("ENGINERY_STORE", str(project.path / "store"))
    keep_in_store(project, job)
    assert "to do: doit pull plain:orin-fp32\n" in why(project)
    monkeypatch.setenv("ENGINERY_STORE", "off")
    project.edit("corpus.toml", '"skip"', '"fail"')
    assert "or doit clean plain:orin-fp32 and write elsewhere" in why(project)
    project.edit("corpus.toml", '"fail"', '"skip"')
    assert project.doit("clean", "plain:orin-fp32").returncode == 0
    assert project.doit("corpus", "--check").returncode == 0


def test_what_is_left_out_is_not_known_without_its_model(project: Project) -> None:
    job = left_out(project)
    job.plan.path.write_bytes(b"of another day")
    (project.path / "plain.onnx").unlink()
    said = why(project, "plain:orin-fp32")
    assert "to do: put the file there or correct the path in corpus.toml" in said


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
    for wrong, said in (
        ("externl", "did you mean 'external'?"),
        ("lower", "known are plain, "),
        ("lower:hlaf-fp16", "did you mean 'lower:half-fp16'?"),
    ):
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
