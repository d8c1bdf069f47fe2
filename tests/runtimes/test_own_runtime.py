"""The smallest runtime of docs/runtimes.md, taken from the page and used as it stands there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import onnx_models
import pytest
from conftest import Project

PAGE = Path(__file__).parents[2] / "docs" / "runtimes.md"
SOURCE = Path(__file__).parents[2] / "src" / "enginery"

CORPUS = """\
schema = 1
[corpus]
targets = ["as_is"]
precision = ["fp32", "fp16"]
[targets.as_is]
runtime = "verbatim"
sm = 86
[backbones.plain]
onnx = "plain.onnx"
expected_input_shape = [1, 3, 16, 16]
"""


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return found


@pytest.fixture
def registered(new_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project where the page's package is installed."""
    site = tmp_path / "site"
    metadata = site / "verbatim-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "verbatim.py").write_text(block("python"))
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: verbatim\nVersion: 1.0\n")
    header, line = block("toml").splitlines()
    assert header == '[project.entry-points."enginery.runtimes"]'
    (metadata / "entry_points.txt").write_text(
        f"[enginery.runtimes]\n{line.replace(chr(34), '')}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    (new_project.path / "corpus.toml").write_text(CORPUS)
    onnx_models.write_small(new_project.path / "plain.onnx", seed=1)
    return new_project


def test_it_builds_once_and_again_after_a_change(registered: Project) -> None:
    run = registered.doit()
    assert run.returncode == 0, run.said
    assert run.built == ["plain", "plain"]
    engine = registered.engines / "plain_sm86_nojp_trt1.0_fp32.engine"
    assert engine.read_bytes() == (registered.path / "plain.onnx").read_bytes()
    half = registered.engines / "plain_sm86_nojp_trt1.0_fp16.engine"
    assert 0 < half.stat().st_size < engine.stat().st_size
    statement = json.loads((engine.parent / f"{engine.name}.provenance.json").read_text())
    recipe = statement["predicate"]["buildDefinition"]["externalParameters"]["recipe"]
    assert recipe["toolchain"] == {"runtime": "verbatim", "version": "1.0"}

    assert registered.doit().built == []
    onnx_models.write_small(registered.path / "plain.onnx", seed=2)
    assert registered.doit().built == ["plain", "plain"]


def test_what_it_refuses_is_said_in_its_words(registered: Project) -> None:
    with (registered.path / "corpus.toml").open("a") as corpus:
        corpus.write('builder = { plugins = ["lib.so"] }\n')
    run = registered.doit("list")
    assert run.returncode == 3
    assert run.stderr == (
        "ERROR: corpus.toml: backbones.plain.builder: plugins: a model as it is loads none; "
        "remove it\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('return "1.0"', 'raise KeyError("odd")'),
        ("def check_target(self, target):\n        pass", "def check_target(self, target):\n        1 / 0"),
        ("    def precisions", "    def resolve(self, *given):\n        return None\n\n    def precisions"),
        ("class Verbatim(Runtime):", "class Verbatim(Runtime):\n    def __init__(self):\n        raise OSError('odd')\n"),
    ],
)  # fmt: skip
def test_a_runtime_that_fails_in_its_own_code(
    registered: Project, before: str, after: str, tmp_path: Path
) -> None:
    module = tmp_path / "site" / "verbatim.py"
    source = module.read_text()
    assert before in source
    module.write_text(source.replace(before, after))
    run = registered.doit("list")
    assert run.returncode == 3
    assert run.stderr.startswith(
        "ERROR: corpus.toml: targets.as_is.runtime: the runtime 'verbatim' "
    )
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["tensorrt_rtx", "TensorRT-RTX", "onnxruntime_build"])
def test_no_runtime_is_named_outside_its_own_module(name: str) -> None:
    """The registry is pyproject.toml; everything else asks it. `start` writes what a user would."""
    naming = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if name in _code(path) and path.parent.name not in ("runtimes", "start")
    }
    assert naming == set()


def _code(path: Path) -> str:
    """A module's text without docstrings and comments, in which a reader may be told more."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                value.value = ""
    return ast.unparse(tree)
