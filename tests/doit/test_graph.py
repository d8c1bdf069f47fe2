"""`doit graph`: the tasks with their states."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import Project, flip_bit

from enginery.errors import EngineryError
from enginery.report.task_graph import Graph, Node, drawn, reduced


def texts(svg: Path) -> dict[str, str]:
    """Label to state of every node of a picture."""
    found = {}
    for group in ET.parse(svg).getroot().iter("{http://www.w3.org/2000/svg}g"):  # noqa: S314
        if group.get("class") == "node":
            lines = [text.text or "" for text in group.iter("{http://www.w3.org/2000/svg}text")]
            found[lines[0] if lines else ""] = lines[1] if len(lines) > 1 else ""
    return found


def edges(dot: Path) -> set[tuple[str, str]]:
    """What comes before what, by label."""
    text = dot.read_text()
    labels = dict(re.findall(r'(n\d+) \[label="?((?:[^"\\ ]|\\.)*)', text))
    names = {key: label.split("\\n")[0] for key, label in labels.items()}
    return {(names[one], names[two]) for one, two in re.findall(r"(n\d+) -> (n\d+)", text)}


def test_states_of_engines_in_words(project: Project) -> None:
    flip_bit(project.engine("external"))
    project.engine("plain").unlink()
    run = project.doit("graph")
    assert run.returncode == 0, run.said
    found = texts(project.path / "graph.svg")
    assert found["plain"] == "missing"
    assert found["external"] == "damaged"
    assert found["half"] == "fresh"
    assert found["plain.onnx"] == ""
    assert run.stdout == f"graph.svg: {sum('.onnx' not in name for name in found)} tasks\n"


MAKER = '''

def task_models():
    """Copies a model, as an exporter would make it."""
    yield {
        "name": "made",
        "actions": ["cp plain.onnx made.onnx"],
        "file_dep": ["plain.onnx"],
        "targets": ["made.onnx"],
    }
'''

MADE = """\
[backbones.made]
onnx = "made.onnx"
expected_input_shape = [1, 3, 16, 16]
precision = ["fp32", "fp16"]
check = {}
"""


def test_a_users_task_the_steps_and_what_comes_first(project: Project) -> None:
    with (project.path / "dodo.py").open("a") as dodo:
        dodo.write(MAKER)
    with (project.path / "corpus.toml").open("a") as corpus:
        corpus.write(MADE)
    assert project.doit("graph", "-o", "g.dot", "made").returncode == 0
    assert edges(project.path / "g.dot") == {
        ("plain.onnx", "models:made"),
        ("models:made", "made.onnx"),
        ("made.onnx", "made:rtx-fp32"),
        ("made.onnx", "lower:made-fp16"),
        ("lower:made-fp16", "made:rtx-fp16"),
        ("lower:made-fp16", "check:made"),
    }
    assert project.doit("graph", "made").returncode == 0
    before = texts(project.path / "graph.svg")
    assert before["models:made"] == "missing"
    assert before["lower:made-fp16"] == "missing"
    assert "half" not in before
    assert project.doit("made", "check:made").returncode == 0
    assert project.doit("graph", "made").returncode == 0
    after = texts(project.path / "graph.svg")
    assert {after[name] for name in after if ".onnx" not in name} == {"fresh"}
    (project.path / "plain.onnx").unlink()
    assert project.doit("graph", "made").returncode == 0
    without = texts(project.path / "graph.svg")
    assert without["plain.onnx"] == "missing"
    assert without["models:made"] == "cannot run"


def test_a_lowered_model_that_nobody_waits_for_is_not_missed(project: Project) -> None:
    project.edit("corpus.toml", 'onnx = "plain.onnx"', 'onnx = "plain.onnx"\nprecision = ["fp16"]')
    assert project.doit("plain").returncode == 0
    for file in (project.path / ".enginery/lowered").glob("plain*"):
        file.unlink()
    assert project.doit("graph", "plain").returncode == 0
    found = texts(project.path / "graph.svg")
    assert found["lower:plain-fp16"] == "not needed"
    for engine in project.engines.glob("plain_*_fp16.engine"):
        engine.unlink()
    assert project.doit("graph", "plain").returncode == 0
    assert texts(project.path / "graph.svg")["lower:plain-fp16"] == "missing"


@pytest.mark.parametrize(("name", "begin"), [("g.png", b"\x89PNG"), ("g.pdf", b"%PDF"), ("g.gv", b"digraph")])  # fmt: skip
def test_the_suffix_says_what_it_is(project: Project, name: str, begin: bytes) -> None:
    run = project.doit("graph", "-o", name)
    assert run.returncode == 0, run.said
    assert (project.path / name).read_bytes().lstrip().startswith(begin)


def test_an_unknown_suffix(project: Project) -> None:
    run = project.doit("graph", "-o", "g.jpeg")
    assert run.returncode == 1
    assert run.stderr == "ERROR: g.jpeg: nothing is written under this suffix; use one of .dot, .gv, .pdf, .png, .svg\n"  # fmt: skip


def test_without_graphviz_the_text_is_still_to_be_had(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(project.path))
    run = project.doit("graph")
    assert run.returncode == 1
    assert "install Graphviz" in run.stderr
    assert "-o graph.dot" in run.stderr
    assert not (project.path / "graph.svg").exists()
    assert project.doit("graph", "-o", "graph.dot").returncode == 0


def test_what_dot_says_is_told_and_not_how_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dot = tmp_path / "dot"
    dot.write_text("#!/bin/sh\ncat > /dev/null\necho 'no such\nfont' >&2\nexit 4\n")
    dot.chmod(dot.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    said = "Graphviz's program dot failed: no such font; write the text alone with -o graph.dot to try it"
    with pytest.raises(EngineryError) as caught:
        drawn(Graph((Node("a", "a"),), ()), ".svg")
    assert str(caught.value) == said
    dot.write_text("#!/bin/sh\ncat > /dev/null\nexit 4\n")
    with pytest.raises(EngineryError, match="dot failed: its exit code is 4"):
        drawn(Graph((Node("a", "a"),), ()), ".svg")


def test_a_model_is_not_replaced_whatever_it_is_called(project: Project) -> None:
    (project.path / "plain.onnx").rename(project.path / "plain.svg")
    project.edit("corpus.toml", '"plain.onnx"', '"plain.svg"')
    before = (project.path / "plain.svg").read_bytes()
    run = project.doit("graph", "-o", "plain.svg")
    assert run.returncode == 1
    assert run.stderr == "ERROR: plain.svg is a file of the corpus; name another with -o\n"
    assert (project.path / "plain.svg").read_bytes() == before


ODD = [
    'a"b',
    "back\\slash\\N\\n",
    "<b>html</b>",
    "<",
    "port:n:x",
    "ünïcode →",
    "",
    "line\nfeed",
    "]; x [",
]


def test_odd_names_are_text(tmp_path: Path) -> None:
    nodes = tuple(Node(name, name, "fresh") for name in ODD)
    edges = tuple((ODD[0], name) for name in ODD[1:])
    (tmp_path / "g.svg").write_bytes(drawn(Graph(nodes, edges), ".svg"))
    found = texts(tmp_path / "g.svg")
    expected = {name.replace("\n", "\ufffd") for name in ODD if name}
    assert expected <= found.keys()
    files = tuple(Node(name, name, file=True) for name in ODD)
    (tmp_path / "files.svg").write_bytes(drawn(Graph(files, ()), ".svg"))
    assert expected <= texts(tmp_path / "files.svg").keys()
    (tmp_path / "g.dot").write_bytes(drawn(Graph(nodes, ()), ".dot"))
    subprocess.run(["dot", "-Tsvg", tmp_path / "g.dot"], check=True, capture_output=True)


def test_edges_that_a_longer_way_says_are_left_out() -> None:
    assert reduced([("a", "c"), ("a", "b"), ("b", "c"), ("a", "c")]) == (("a", "b"), ("b", "c"))
    assert reduced([("a", "b"), ("a", "c")]) == (("a", "b"), ("a", "c"))
    chain = [(str(n), str(n + 1)) for n in range(3000)]
    assert reduced([*chain, ("0", "400")]) == tuple(chain)
    circle = (("a", "b"), ("b", "a"))
    assert reduced(circle) == circle
