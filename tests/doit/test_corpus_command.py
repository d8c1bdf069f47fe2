"""`doit corpus`, with the real doit in real folders."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import onnx_models
import pyte
import pytest
from conftest import ON_ORIN, Project, flip_bit
from keys import make_pair

from enginery.digest import sha256_file
from enginery.provenance import path_for as provenance_of

HEAVY = ("tensorrt", "tensorrt_rtx", "onnx", "numpy", "rich")
SUMMARY = re.compile(r"3 engines: 3 fresh; \d\.\d MB; \d\.\d s of building")


def on_terminal(project: Project, columns: int, *arguments: str, **variables: str) -> bytes:
    """All that doit writes on a terminal of that many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "doit", *arguments],
        cwd=project.path,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm-256color", **variables},
        start_new_session=True,
    )
    os.close(slave)
    written = b""
    while chunk := _read(master):
        written += chunk
    os.close(master)
    assert process.wait(60) == 0, written
    return written


def _read(master: int) -> bytes:
    try:
        return os.read(master, 1 << 16)
    except OSError:  # Linux says so that the other side is closed
        return b""


def screen(written: bytes, columns: int) -> list[str]:
    shown = pyte.Screen(columns, 50)
    pyte.ByteStream(shown).feed(written)
    return [text.rstrip() for text in shown.display if text.strip()]


def document(project: Project, *arguments: str) -> dict[str, Any]:
    run = project.doit("corpus", "--json", *arguments)
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def rows(project: Project, *arguments: str) -> dict[str, str]:
    """Task to its line."""
    run = project.doit("corpus", *arguments)
    assert run.returncode == 0, run.said
    assert run.stderr == ""
    head, *lines, _ = run.stdout.splitlines()
    assert head.split()[:4] == ["task", "target", "precision", "state"]
    return {text.split()[0]: text for text in lines}


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(file): (file.stat().st_mtime_ns, file.stat().st_size)
        for file in sorted(folder.rglob("*"))
        if "__pycache__" not in file.parts
    }


def test_fresh(project: Project) -> None:
    run = project.doit("corpus")
    assert (run.returncode, run.stderr) == (0, "")
    *_, last = run.stdout.splitlines()
    assert SUMMARY.fullmatch(last)
    assert run.stdout.count(" fresh ") == 3


def test_every_state_with_its_reason(project: Project) -> None:
    project.engine("plain").unlink()
    flip_bit(project.engine("external"))
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    found = rows(project)
    assert re.search(r" missing +- .* it is not there$", found["plain"])
    assert re.search(r" damaged .*external_sm\S+ is damaged: its bytes are ", found["external"])
    assert re.search(r" stale .*workspace_mb: 64 -> 65$", found["half"])
    *_, last = project.doit("corpus").stdout.splitlines()
    assert last.startswith("3 engines: 1 stale, 1 missing, 1 damaged; ")


def test_a_missing_sidecar_and_a_malformed_provenance(project: Project) -> None:
    Path(f"{project.engine('plain')}.sha256").unlink()
    provenance_of(project.engine("half")).write_bytes(b"\x1b[31m{")
    found = rows(project)
    assert "damaged" in found["plain"]
    assert "the sidecar of" in found["plain"]
    assert "damaged" in found["half"]
    assert "malformed" in found["half"]


def test_a_missing_onnx(project: Project) -> None:
    (project.path / "plain.onnx").unlink()
    assert re.search(
        r"stale .*plain\.onnx is not there; put the model there", rows(project)["plain"]
    )


def test_unsigned(project: Project) -> None:
    make_pair(project.path)
    project.edit(
        "corpus.toml",
        "[corpus]",
        '[trust]\nkeys = ["team.pub.pem"]\nrequire = "all"\n[corpus]',
    )
    assert "unsigned" in rows(project, "plain")["plain"]
    assert project.doit("sign", "--key", "team.pem", "plain").returncode == 0
    assert " valid" in rows(project, "plain")["plain"]
    assert document(project, "plain")["engines"][0]["signature"] == "valid"


def test_elsewhere_and_left_out(project: Project) -> None:
    project.edit("corpus.toml", "[backbones.plain]\n", ON_ORIN.format("fail"))
    assert "elsewhere" in rows(project)["plain:orin-fp32"]
    assert project.doit("corpus", "--check", "external", "half").returncode == 0
    run = project.doit("corpus", "--check")
    assert run.returncode == 1
    assert "plain:orin-fp32: elsewhere: it is not there; " in run.stdout

    project.edit("corpus.toml", '"fail"', '"skip"')
    assert " left out " in rows(project)["plain:orin-fp32"]
    assert project.doit("corpus", "--check").returncode == 0
    (orin,) = (one for one in document(project)["engines"] if one["target"] == "orin")
    assert (orin["left_out"], orin["built_here"], orin["condition"]) == (True, False, "elsewhere")


def test_what_is_said_of_an_engine_that_went_and_one_of_tomorrow(project: Project) -> None:
    whole = document(project)["counts"]
    project.engine("plain").unlink()
    half = provenance_of(project.engine("half"))
    half.write_bytes(re.sub(rb'("finishedOn": ")2', rb"\g<1>3", half.read_bytes()))
    shown = rows(project)
    assert shown["plain"].split()[4:8] == ["-", "-", "-", "-"]
    assert re.search(r"B +in the future +\d+ d", shown["half"])
    found = document(project)
    (plain,) = (one for one in found["engines"] if one["task"] == "plain")
    for field in ("size", "sha256", "fingerprint", "inputs", "built_on", "build_s"):
        assert plain[field] is None, field
    assert found["counts"]["size"] == sum(one["size"] or 0 for one in found["engines"])
    assert found["counts"]["size"] < whole["size"]
    seconds = sum(one["build_s"] or 0 for one in found["engines"])
    assert found["counts"]["build_s"] == pytest.approx(seconds)


def test_check(project: Project) -> None:
    run = project.doit("corpus", "--check")
    assert run.returncode == 0
    assert SUMMARY.fullmatch(run.stdout.strip())
    onnx_models.write_small(project.path / "plain.onnx", seed=9)
    before = project.snapshot()
    run = project.doit("corpus", "--check")
    assert run.returncode == 1
    first, last = run.stdout.splitlines()
    assert first.startswith("plain: stale: the ONNX changed (")
    assert last.startswith("3 engines: 2 fresh, 1 stale; ")
    assert project.snapshot() == before
    assert project.doit("corpus", "--check", "half").returncode == 0
    run = project.doit("corpus", "--check", "--json")
    assert run.returncode == 1
    shown = json.loads(run.stdout)
    assert [one["task"] for one in shown["engines"]] == ["plain"]
    assert shown["counts"]["fresh"] == 2


def test_json(project: Project) -> None:
    found = document(project)
    assert found["version"] == 1
    assert found["aliases"] == {}
    assert [one["task"] for one in found["engines"]] == ["plain", "external", "half"]
    plain = found["engines"][0]
    engine = project.engine("plain")
    assert set(plain) == {
        "corpus", "task", "backbone", "target", "precision", "runtime", "hardware", "path",
        "condition", "reason", "built_here", "elsewhere", "left_out", "size", "sha256",
        "fingerprint", "fingerprint_now", "inputs", "built_on", "build_s", "built_by",
        "signature",
    }  # fmt: skip
    assert project.path / plain["path"] == engine
    assert plain["sha256"] == sha256_file(engine)
    assert plain["inputs"] == {"onnx": sha256_file(project.path / "plain.onnx")}
    assert plain["fingerprint"] == plain["fingerprint_now"]
    assert (plain["size"], plain["condition"]) == (engine.stat().st_size, "fresh")
    assert plain["hardware"]["sm"] == [86, 89]
    assert sum(one["size"] for one in found["engines"]) == found["counts"]["size"]
    project.edit("corpus.toml", "workspace_mb = 64", "workspace_mb = 65")
    plain = document(project)["engines"][0]
    assert plain["fingerprint"] != plain["fingerprint_now"]


def test_names(project: Project) -> None:
    assert list(rows(project, "half", "plain")) == ["plain", "half"]
    for wrong, said in (
        ("hal", "did you mean 'half'?"),
        ("zzz", "known are plain, external, half"),
    ):
        run = project.doit("corpus", wrong)
        assert run.returncode == 1
        assert run.stderr == f"ERROR: there is no engine {wrong!r}; {said}\n"
        assert run.stdout == ""


def test_an_engine_that_is_another(project: Project) -> None:
    """The target `host` is the target `cpu` where this machine is one of those."""
    project.edit(
        "corpus.toml",
        "[backbones.plain]\n",
        '[targets.host]\nruntime = "onnxruntime"\n[targets.cpu]\nruntime = "onnxruntime"\n'
        '[backbones.plain]\ntargets = ["host", "cpu"]\n',
    )
    found = rows(project, "plain:host-fp32")
    assert set(found) == {"plain:cpu-fp32", "plain:host-fp32"}
    assert found["plain:host-fp32"].endswith("the same engine as plain:cpu-fp32")
    assert document(project)["aliases"] == {"plain:host-fp32": "plain:cpu-fp32"}


def test_two_corpora(project: Project) -> None:
    text = (project.path / "corpus.toml").read_text()
    (project.path / "other.toml").write_text(
        text.replace("backbones.", "backbones.other_").replace('"engines"', '"others"')
    )
    with (project.path / "dodo.py").open("a") as dodo:
        dodo.write('def task_others():\n    yield from engine_tasks("other.toml")\n')
    found = rows(project)
    assert len(found) == 6
    assert "missing" in found["other_plain"]
    assert {one["corpus"] for one in document(project)["engines"]} == {"corpus.toml", "other.toml"}


def test_no_corpus(new_project: Project) -> None:
    (new_project.path / "dodo.py").write_text(
        "def task_mine():\n    return {'actions': ['true']}\n"
    )
    run = new_project.doit("corpus")
    assert run.returncode == 1
    assert run.stderr == ("ERROR: this dodo.py has no corpus; see enginery.doit.engine_tasks\n")


def test_wrong_usage(project: Project) -> None:
    run = project.doit("corpus", "--bogus")
    assert run.returncode == 3
    assert "option --bogus not recognized" in run.stderr
    assert "Traceback" not in run.stderr


def test_nothing_heavy_is_imported_and_nothing_changes(project: Project) -> None:
    before = everything(project.path)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "doit", "corpus"],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {text.rpartition("|")[2].strip() for text in done.stderr.splitlines()}
    assert "enginery.status" in imported
    assert not imported & set(HEAVY)
    assert everything(project.path) == before


def test_nothing_changes_where_the_memory_of_inputs_is_lost(project: Project) -> None:
    shutil.rmtree(project.path / ".enginery")
    before = everything(project.path)
    assert project.doit("corpus").returncode == 0
    assert everything(project.path) == before


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare")
def test_a_folder_that_is_read_only(project: Project) -> None:
    """Permissions do not bind root, a read-only mount does."""
    script = f'mount --bind -o ro . . && cd "$PWD" && exec "{sys.executable}" -m doit corpus'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=project.path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if "Operation not permitted" in done.stderr or "permission denied" in done.stderr.lower():
        pytest.skip("no mounts here")
    assert done.returncode == 0, done.stderr
    assert SUMMARY.search(done.stdout)


def test_a_reader_that_has_enough(project: Project) -> None:
    for command in ("corpus | head -1", "corpus --json | head -1", "why plain | true"):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m doit {command}"],
            cwd=project.path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), command


def test_output_that_cannot_be_written(project: Project) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m doit corpus > /dev/full"],
        cwd=project.path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "ERROR: standard output: No space left on device\n"


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_on_a_terminal(project: Project, columns: int) -> None:
    project.edit("corpus.toml", "[backbones.plain]\n", ON_ORIN.format("fail"))
    onnx_models.write_small(project.path / "half.onnx", seed=9)
    written = on_terminal(project, columns, "corpus")
    shown = screen(written, columns)
    assert all(len(text) <= columns for text in shown)
    assert {"plain", "external", "half"} < set(shown)
    (half,) = (index for index, text in enumerate(shown) if text == "half")
    assert re.fullmatch(r"  rtx +fp16 +stale .*", shown[half + 1])
    below = " ".join(text.strip() for text in shown[half + 2 :])
    assert re.match(r"the ONNX changed \(\w{12} -> \w{12}\)", below)
    assert "orin cannot be built here: it needs a host with SM 8.7" in below
    assert "4 engines:" in below
    assert ("built in" in shown[0]) == (columns >= 80)
    assert b"\x1b[" in written


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours(project: Project, variable: dict[str, str]) -> None:
    project.engine("plain").unlink()
    assert b"\x1b" not in on_terminal(project, 80, "corpus", **variable)


def test_no_control_characters_in_a_pipe(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    engine = project.engine("plain")
    Path(f"{engine}.sha256").write_text(f"{sha256_file(engine)}  \x1b[2J{engine.name}\n")
    for arguments in (["corpus"], ["corpus", "--check"], ["why"]):
        said = project.doit(*arguments).stdout
        assert "for another file" in said
        assert all(c.isprintable() or c == "\n" for c in said), arguments


def test_other_commands_guess_too(project: Project) -> None:
    run = project.doit("sign", "plan")
    assert run.returncode == 1
    assert run.stderr == "ERROR: there is no engine 'plan'; did you mean 'plain'?\n"


def test_other_commands_say_what_hardware_is_not_known(project: Project) -> None:
    project.edit(
        "corpus.toml",
        "[backbones.plain]\n",
        '[targets.host]\nruntime = "tensorrt"\n[backbones.plain]\ntargets = ["rtx", "host"]\n',
    )
    if rows(project)["plain:host-fp32"].split()[3] != "elsewhere":
        pytest.skip("this host has TensorRT and a GPU")
    run = project.doit("push", "plain:host-fp32")
    assert run.returncode == 1
    assert run.stderr.startswith("ERROR: plain:host-fp32: ")


def test_an_option_after_a_name(project: Project) -> None:
    run = project.doit("corpus", "plain", "--json")
    assert (run.returncode, run.stderr) == (
        1,
        "ERROR: '--json' is no engine; options stand before names\n",
    )
