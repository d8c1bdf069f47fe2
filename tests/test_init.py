"""`enginery init`: the corpus of a folder of models, as a newcomer has them."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import onnx
import onnx_models
import pytest
from conftest import Project
from onnx import TensorProto, helper

from enginery.corpus import read_corpus
from enginery.corpus_schema import shipped
from enginery.filename import check_model_name
from enginery.start.discover import FOLDERS, MODELS, discover
from enginery.start.guess import guess
from enginery.start.models import Dimension, ModelInput
from enginery.start.names import COMMANDS, backbone_names
from enginery.start.target import Chosen
from enginery.start.texts import corpus_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WRITTEN = ["corpus.schema.json", "corpus.toml", "dodo.py"]


def init(
    folder: Path, *arguments: str, before: Callable[[], None] | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "enginery", "init", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        preexec_fn=before, env={**os.environ, **environ},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def refused(folder: Path, *arguments: str, before: Callable[[], None] | None = None) -> str:
    """What is said where nothing can be written: one line; the folder is as it was."""
    was = sorted(str(path) for path in folder.rglob("*"))
    done = init(folder, *arguments, before=before)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ERROR: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert sorted(str(path) for path in folder.rglob("*")) == was
    return done.stderr.removeprefix("ERROR: ").removeprefix(f"{folder}: ").rstrip("\n")


def write_sum(path: Path, *shapes: list[int | str | None], kind: int = TensorProto.FLOAT) -> None:
    """A model that adds up its inputs."""
    names = [f"in{number}" for number in range(len(shapes))]
    inputs = [helper.make_tensor_value_info(n, kind, s) for n, s in zip(names, shapes, strict=True)]
    _write(path, [helper.make_node("Sum", names, ["out"])], inputs)


def _write(path: Path, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto]) -> None:
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "test", inputs, [output])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )


# --- the whole of it


def test_what_it_writes_is_built_at_once_and_then_fresh(tmp_path: Path) -> None:
    onnx_models.write_small(tmp_path / "plain.onnx", seed=1)
    onnx_models.write_small(tmp_path / "dynamic.onnx", seed=2, batch="batch")
    (tmp_path / "sub").mkdir()
    onnx_models.write_small(tmp_path / "sub" / "external.onnx", seed=3, weights="weights.bin")
    write_sum(tmp_path / "two.onnx", [1, 4], [1, 4])
    write_sum(tmp_path / "two dynamic.onnx", ["batch", "tokens"], ["batch", "tokens"])
    write_sum(tmp_path / "list.onnx", [2])
    (tmp_path / "broken.onnx").write_bytes(b"garbage")
    done = init(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".onnx") == [
        *WRITTEN[:2], "dodo.py", "sub",
    ]  # fmt: skip
    assert done.stdout.splitlines() == [
        f"corpus.toml, dodo.py, corpus.schema.json written in {tmp_path}",
        "  dynamic  dynamic.onnx  input: float32 [batch, 3, 16, 16]",
        "    guessed, see corpus.toml: batch 1 to 8",
        "  list-model  list.onnx  in0: float32 [2]",
        "  plain  plain.onnx  input: float32 [1, 3, 16, 16]",
        f"  two-dynamic  two dynamic.onnx  {'; '.join(f'in{n}: float32 [batch, tokens]' for n in (0, 1))}",
        "    guessed, see corpus.toml: batch 1 to 8, tokens 1 to 512",
        "  two  two.onnx  in0: float32 [1, 4]; in1: float32 [1, 4]",
        "  external  sub/external.onnx  input: float32 [1, 3, 16, 16]",
        "  left out: broken.onnx: it is no ONNX, or was cut short; export or copy it again",
        done.stdout.splitlines()[-2],
        "next: doit (builds the engines), doit corpus (shows them)",
    ]
    assert re.fullmatch(
        r"target rtx: TensorRT-RTX [\d.]+, SM 86, 89, 120, fp32", done.stdout.splitlines()[-2]
    )
    names = ["dynamic", "list-model", "plain", "two-dynamic", "two", "external"]
    project = Project(tmp_path)
    run = project.doit()
    assert run.returncode == 0, run.said
    assert run.built == names
    run = project.doit()
    assert (run.returncode, run.built) == (0, [])


def test_the_files_are_good(tmp_path: Path) -> None:
    onnx_models.write_small(tmp_path / "plain.onnx", seed=1, batch="n")
    assert init(tmp_path).returncode == 0
    text = (tmp_path / "corpus.toml").read_text()
    assert text.splitlines()[0] == "#:schema ./corpus.schema.json"
    assert (tmp_path / "corpus.schema.json").read_bytes() == shipped()
    jsonschema.validate(tomllib.loads(text), tomllib_schema(tmp_path))
    assert max(map(len, text.splitlines())) <= 100
    (backbone,) = read_corpus(tmp_path / "corpus.toml").backbones
    (profile,) = backbone.spec.profiles
    assert (profile.min_shape[0], profile.opt_shape[0], profile.max_shape[0]) == (1, 1, 8)
    compile((tmp_path / "dodo.py").read_text(), "dodo.py", "exec")


def tomllib_schema(folder: Path) -> dict[str, object]:
    import json

    found: dict[str, object] = json.loads((folder / "corpus.schema.json").read_text())
    return found


@pytest.mark.parametrize("name", ["rtx", "host", "cpu"])
def test_the_examples_in_the_comments_are_targets_too(tmp_path: Path, name: str) -> None:
    """Whichever target was chosen, all four can be had by removing the comment signs."""
    chosen = Chosen(name, (86, 89, 120) if name == "rtx" else (), "1.0", {}, None)
    text = re.sub(r"^# ?(\[targets|\w+ = )", r"\1", corpus_text((), {}, chosen), flags=re.M)
    (tmp_path / "corpus.toml").write_text(text)
    assert set(read_corpus(tmp_path / "corpus.toml").targets) == {"rtx", "host", "orin", "cpu"}
    (tmp_path / "corpus.toml").write_text(corpus_text((), {}, chosen))
    assert list(read_corpus(tmp_path / "corpus.toml").targets) == [name]


def test_another_folder(tmp_path: Path) -> None:
    (tmp_path / "my models").mkdir()
    write_sum(tmp_path / "my models" / "a.onnx", [2])
    done = init(tmp_path, "my models")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("next: cd 'my models' && doit")
    assert [path.name for path in tmp_path.iterdir()] == ["my models"]


# --- it never overwrites


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("what", ["file", "folder", "dangling link"])
def test_what_is_there_stays(tmp_path: Path, name: str, what: str) -> None:
    write_sum(tmp_path / "a.onnx", [2])
    if what == "file":
        (tmp_path / name).write_text("mine")
    elif what == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).symlink_to("nowhere")
    assert refused(tmp_path) == (
        f"{name} is there already, and nothing is overwritten; move it away, or name another folder"
    )
    if what == "file":
        assert (tmp_path / name).read_text() == "mine"


def test_twice(tmp_path: Path) -> None:
    write_sum(tmp_path / "a.onnx", [2])
    assert init(tmp_path).returncode == 0
    assert "corpus.toml, dodo.py are there already" in refused(tmp_path)


def test_the_same_schema_is_not_in_the_way(tmp_path: Path) -> None:
    """As it is where somebody took corpus.toml away to begin anew."""
    write_sum(tmp_path / "a.onnx", [2])
    (tmp_path / "corpus.schema.json").write_bytes(shipped())
    done = init(tmp_path)
    assert done.stdout.startswith("corpus.toml, dodo.py written in ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", *WRITTEN]


def _no_space_for_corpus() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))


def _no_space_for_schema() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))


def _no_privilege() -> None:
    """Have permissions count for root too: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)


@pytest.mark.parametrize("limit", [_no_space_for_corpus, _no_space_for_schema])
def test_all_or_nothing(tmp_path: Path, limit: Callable[[], None]) -> None:
    """The first of the files is larger than what can be written, or the last."""
    write_sum(tmp_path / "a.onnx", [2])
    said = refused(tmp_path, before=limit)
    assert said.startswith("cannot be written (File too large); nothing was: ")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write_sum(tmp_path / "a.onnx", [2])
    tmp_path.chmod(0o555)
    try:
        said = refused(tmp_path, before=_no_privilege)
    finally:
        tmp_path.chmod(0o755)
    assert said.startswith("cannot be written (Permission denied); nothing was: ")


def test_two_at_once_do_not_overwrite_each_other(tmp_path: Path) -> None:
    write_sum(tmp_path / "a.onnx", [2])
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "enginery", "init", str(tmp_path)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    said = [process.communicate(timeout=60)[1] for process in started]
    assert sorted(process.returncode for process in started) == [0, 2, 2], said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", *WRITTEN]


# --- what cannot be used


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("nowhere", "nowhere: there is no such folder; make it, or correct the path"),
        ("a.onnx", "a.onnx: is no folder; name the one that has the models"),
        (
            "empty",
            "empty: no ONNX model is below it; put one there, or name the folder that has them",
        ),
    ],
)
def test_no_folder(tmp_path: Path, argument: str, said: str) -> None:
    write_sum(tmp_path / "a.onnx", [2])
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path, argument) == said


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _lost(path: Path) -> None:
    onnx_models.write_small(path, seed=1, weights="lost.bin")
    path.with_name("lost.bin").unlink()


def _secret(path: Path) -> None:
    write_sum(path, [2])
    path.chmod(0)


def _sequence(path: Path) -> None:
    one = helper.make_tensor_sequence_value_info("seq", TensorProto.FLOAT, [2])
    _write(path, [helper.make_node("ConcatFromSequence", ["seq"], ["out"], axis=0)], [one])


def _no_rank(path: Path) -> None:
    one = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    _write(path, [helper.make_node("Relu", ["x"], ["out"])], [one])


def _no_input(path: Path) -> None:
    _write(path, [helper.make_node("Constant", [], ["out"], value_float=1.0)], [])


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (
        lambda path: path.write_bytes(b"garbage" * 9),
        "it is no ONNX, or was cut short; export or copy it again",
    ),
    "nothing": (
        lambda path: path.write_bytes(b""),
        "it has no graph, so it is no ONNX model; export it again",
    ),
    "a pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "it is a pointer of Git LFS, not the model; run: git lfs pull",
    ),
    "a fifo": (_fifo, "it is a FIFO, not a regular file; export the model to a file"),
    "a link": (
        lambda path: path.symlink_to("gone.onnx"),
        "it is a link to what is not there; mend the link",
    ),
    "a loop": (
        lambda path: path.symlink_to(path),
        "it is a link to what is not there; mend the link",
    ),
    "no weights": (_lost, "its weights, 'lost.bin', are not beside it; copy them there"),
    "no permission": (_secret, "it cannot be read (Permission denied)"),
    "no input": (
        _no_input,
        "it has no input with dimensions, so there is no shape to build it for; export it with one",
    ),
    "a scalar": (
        lambda path: write_sum(path, []),
        "it has no input with dimensions, so there is no shape to build it for; export it with one",
    ),
    "a sequence": (
        _sequence,
        "its input 'seq' is no tensor but a sequence; export it with tensors",
    ),
    "no rank": (_no_rank, "its input 'x' has no shape; export it with one, dynamic or not"),
    "no size": (
        lambda path: write_sum(path, [0, 2]),
        "its input 'in0' has a dimension of 0; export it with another",
    ),
    "strings": (
        lambda path: write_sum(path, [2], kind=TensorProto.STRING),
        "its input 'in0' is string, which the runtime does not take; export it with another type",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_model_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    """It is said and left out; alone it is the reason why nothing is written."""
    make, reason = UNUSABLE[name]
    make(tmp_path / "it.onnx")
    said = refused(tmp_path, before=_no_privilege)
    assert said == f"no ONNX model below it can be used: it.onnx: {reason}"
    write_sum(tmp_path / "good.onnx", [2])
    done = init(tmp_path, before=_no_privilege)
    assert done.returncode == 0
    assert f"  left out: it.onnx: {reason}\n" in done.stdout
    assert f"#   it.onnx: {reason}\n" in (tmp_path / "corpus.toml").read_text()
    (backbone,) = read_corpus(tmp_path / "corpus.toml").backbones
    assert backbone.spec.model_name == "good"


@pytest.mark.parametrize("name", ["a\nb.onnx", "a\x1b[31mb.onnx", os.fsdecode(b"\xff.onnx")])
def test_a_name_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    write_sum(tmp_path / "good.onnx", [2])
    shutil.copy(tmp_path / "good.onnx", tmp_path / name)
    done = init(tmp_path)
    assert done.returncode == 0
    assert "its name has characters that cannot be shown; rename it" in done.stdout
    assert done.stdout.isprintable() or "\x1b" not in done.stdout
    assert len(read_corpus(tmp_path / "corpus.toml").backbones) == 1


def test_names_in_a_graph_stay_in_their_place(tmp_path: Path) -> None:
    """What a model calls its inputs can be anything; it must not get out of its line."""
    evil = 'a"\n[targets.evil]\x7f'
    value = helper.make_tensor_value_info(evil, TensorProto.FLOAT, ["b\n[x]", 2])
    _write(tmp_path / "evil.onnx", [helper.make_node("Relu", [evil], ["out"])], [value])
    assert init(tmp_path).returncode == 0
    corpus = read_corpus(tmp_path / "corpus.toml")
    assert list(corpus.targets) == ["rtx"]
    assert corpus.backbones[0].spec.profiles[0].input_name == evil


def test_without_onnx(tmp_path: Path) -> None:
    write_sum(tmp_path / "a.onnx", [2])
    (tmp_path / "blocked" / "onnx").mkdir(parents=True)
    (tmp_path / "blocked" / "onnx" / "__init__.py").write_text("raise ImportError('not there')\n")
    done = init(tmp_path, PYTHONPATH=str(tmp_path / "blocked"))
    assert done.returncode == 2
    assert done.stderr == (
        "ERROR: onnx, which reads the models, is not installed; install it with: "
        "pip install 'enginery[build]'\n"
    )


def test_weights_that_are_among_the_inputs(tmp_path: Path) -> None:
    """As every model had them before version 4 of ONNX's IR."""
    onnx_models.write_small(tmp_path / "old.onnx", seed=1)
    model = onnx.load(tmp_path / "old.onnx")
    model.ir_version = 3
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.insert(0, value)
    onnx.save(model, tmp_path / "old.onnx")
    assert "  old  old.onnx  input: float32 [1, 3, 16, 16]\n" in init(tmp_path).stdout


def test_a_scalar_beside_another_input(tmp_path: Path) -> None:
    write_sum(tmp_path / "a.onnx", [], [2])
    assert init(tmp_path).returncode == 0
    (backbone,) = read_corpus(tmp_path / "corpus.toml").backbones
    assert (backbone.spec.input_name, backbone.spec.expected_input_shape) == ("in1", (2,))


# --- looking for models


def test_what_is_looked_at(tmp_path: Path) -> None:
    for name in (
        "b.onnx", "B.ONNX", "a/c.onnx", "a/z/d.onnx", "model.onnx/model.onnx", "links/e.onnx",
        ".hidden/x.onnx", ".enginery/lowered/x.onnx", "venv/lib/x.onnx", "conda/x.onnx",
        "node_modules/x.onnx", "engines/x.onnx", ".hidden.onnx", "x.onnx.data", "x.txt",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    (tmp_path / "conda" / "conda-meta").mkdir()
    (tmp_path / "engines" / "x_sm86.engine.sha256").touch()
    (tmp_path / "a" / "loop").symlink_to("..")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "z").symlink_to("links")
    assert discover(tmp_path).models == (
        "B.ONNX", "b.onnx", "a/c.onnx", "a/z/d.onnx", "links/e.onnx", "model.onnx/model.onnx",
    )  # fmt: skip
    assert discover(tmp_path / "engines").models == ("x.onnx",), "who names it, means it"


def test_a_folder_without_permission_is_said(tmp_path: Path) -> None:
    write_sum(tmp_path / "a.onnx", [2])
    (tmp_path / "secret").mkdir(mode=0)
    done = init(tmp_path, before=_no_privilege)
    assert done.returncode == 0
    assert "  secret/ cannot be read (Permission denied)\n" in done.stdout


def test_a_bound_is_said(tmp_path: Path) -> None:
    for number in range(MODELS + 5):
        (tmp_path / f"{number:03}.onnx").touch()
    found = discover(tmp_path)
    assert found.models == tuple(f"{number:03}.onnx" for number in range(MODELS))
    assert found.remarks == (f"there are more than {MODELS} models; only the first were taken",)
    (tmp_path / f"{MODELS:03}.onnx").unlink()
    assert FOLDERS >= 1000


# --- names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a.onnx", "x/b.onnx"], ["a", "b"]),
        (["a b.c+d.onnx", "--x.onnx", "__y.onnx", "ü.onnx", "模型.onnx"], ["a-b-c-d", "x", "y", "u", "model"]),
        (["vit/model.onnx", "resnet/model.onnx"], ["vit-model", "resnet-model"]),
        (["model.onnx", "resnet/model.onnx"], ["model", "resnet-model"]),
        (["a/x/m.onnx", "b/x/m.onnx"], ["x-m", "x-m-2"]),
        (["A.onnx", "a.onnx"], ["A", "a-2"]),
        (["a-2.onnx", "A.onnx", "a.onnx"], ["a-2", "A", "a-3"]),
        (["list.onnx", "check.onnx", "corpus.onnx"], ["list-model", "check-model", "corpus-model"]),
        (["list.onnx", "list-model.onnx"], ["list-model", "list-model-2"]),
        (["x" * 250 + ".onnx", "x" * 251 + ".onnx"], ["x" * 96, "x" * 96 + "-2"]),
        (["X" * 250 + ".onnx"], ["X" * 48]),
    ],
)  # fmt: skip
def test_names(paths: list[str], names: list[str]) -> None:
    assert backbone_names(paths) == names
    for name in names:
        check_model_name(name)


def test_no_backbone_is_called_like_a_command() -> None:
    from enginery.doit.tasks import _NAMES_TAKEN

    assert _NAMES_TAKEN <= COMMANDS


# --- guesses


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (("batch", 3, 224, 224), [(1, 1, 8), (3, 3, 3), (224, 224, 224), (224, 224, 224)]),
        ((None, 3, None, None), [(1, 1, 8), (3, 3, 3), (224, 224, 448), (224, 224, 448)]),
        ((None, None, None, 3), [(1, 1, 8), (224, 224, 448), (224, 224, 448), (3, 3, 3)]),
        ((1, None, 8, 8), [(1, 1, 1), (3, 3, 3), (8, 8, 8), (8, 8, 8)]),
        (("N", "sequence_length"), [(1, 1, 8), (1, 128, 512)]),
        (("tokens", "batch_size"), [(1, 128, 512), (1, 1, 8)]),
        ((1, 2, "unk"), [(1, 1, 1), (2, 2, 2), (1, 16, 64)]),
    ],
)
def test_guesses(shape: tuple[Dimension, ...], sizes: list[tuple[int, int, int]]) -> None:
    profile = guess((ModelInput("x", "float32", shape),))
    assert profile is not None
    assert list(profile.sizes["x"]) == sizes
    for low, best, high in sizes:
        assert 0 < low <= best <= high


def test_equal_names_get_equal_sizes() -> None:
    """A name is one size wherever it stands, and is said once."""
    profile = guess((
        ModelInput("ids", "int64", ("k", "k2")),
        ModelInput("mask", "int64", (1, 1, "k2", "k")),
        ModelInput("static", "float32", (1, 4)),
    ))  # fmt: skip
    assert profile is not None
    assert profile.sizes["mask"][3] == profile.sizes["ids"][0]
    assert profile.sizes["mask"][2] == profile.sizes["ids"][1]
    assert "static" not in profile.sizes
    assert len(profile.guesses) == 2


def test_nothing_to_guess() -> None:
    assert guess((ModelInput("x", "float32", (1, 2)),)) is None


# --- targets


def test_where_no_tensorrt_is(tmp_path: Path) -> None:
    """The target is ONNX Runtime's, and it is built for this CPU."""
    write_sum(tmp_path / "a.onnx", [2])
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import importlib.metadata as m\n"
        "real = m.distribution\n"
        "def distribution(name):\n"
        "    if name.startswith('tensorrt'):\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.distribution = distribution\n"
    )
    done = init(tmp_path, PYTHONPATH=str(blocked))
    assert done.returncode == 0, done.stderr
    assert "target cpu: ONNX Runtime " in done.stdout
    run = Project(tmp_path).doit()
    assert (run.returncode, run.built) == (0, ["a"]), run.said


@pytest.mark.parametrize(
    ("host", "said"),
    [("sm=80", "SM 80, 86, 89, 120"), ("sm=89", "SM 86, 89, 120"), ("sm=90", "SM 86, 89, 120")],
)
def test_the_gpu_of_this_machine_is_among_the_capabilities(
    tmp_path: Path, host: str, said: str
) -> None:
    write_sum(tmp_path / "a.onnx", [2])
    done = init(tmp_path, ENGINERY_HOST=host)
    assert re.search(rf"target rtx: TensorRT-RTX [\d.]+, {said}, fp32\n", done.stdout), done.stdout


def test_a_gpu_that_only_tensorrt_builds_for(tmp_path: Path) -> None:
    write_sum(tmp_path / "a.onnx", [2])
    done = init(tmp_path, ENGINERY_HOST="sm=87 jetpack=6.2 trt=10.3.0.30")
    assert "target host: TensorRT 10.3.0.30, fp32\n" in done.stdout, done.stdout
    assert list(read_corpus(tmp_path / "corpus.toml").targets) == ["host"]
