"""`doit release`, `doit prune`, `doit push` and `doit pull`, with the real doit."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_models
import pytest
from conftest import DODO, Project, Run, flip_bit
from keys import Pair, make_pair

from enginery import release as releases
from enginery.envelope import opened, read_key
from enginery.errors import SignatureError
from enginery.release import MEDIA_TYPE, Release
from enginery.signing import envelope_path
from enginery.store.layout import LocalStore

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
from registry_server import Server, login_file, needs_registry, serve

CORPUS = """\
schema = 1
[corpus]
precision = ["fp32"]
targets = ["rtx", "ampere"]
workspace_mb = 64
[targets.rtx]
runtime = "tensorrt_rtx"
sm = [89]
[targets.ampere]
runtime = "tensorrt_rtx"
sm = [86]
[backbones.plain]
onnx = "plain.onnx"
expected_input_shape = [1, 3, 16, 16]
[backbones.half]
onnx = "half.onnx"
expected_input_shape = [1, 3, 16, 16]
precision = ["fp16"]
targets = ["rtx"]
"""
STORE = '[store]\npath = "store"\n'


class Fleet:
    """A project with three engines, its store and a key."""

    def __init__(self, folder: Path) -> None:
        self.project = Project(folder)
        self.store = folder / "store"
        self.pair = Pair(folder / "team.pem", folder / "team.pub.pem", None)
        self.release = folder / "release.json"

    def configure(self, *tables: str, store: str = STORE) -> None:
        (self.project.path / "corpus.toml").write_text(CORPUS + store + "".join(tables))

    def doit(self, *arguments: str, code: int = 0) -> Run:
        run = self.project.doit(*arguments)
        assert "Traceback" not in run.said, run.said
        assert run.returncode == code, run.said
        return run

    def fails(self, *arguments: str) -> str:
        """The one line that a command fails with."""
        run = self.doit(*arguments, code=1)
        assert run.stderr.startswith("ERROR: "), run.said
        assert run.stderr.count("\n") == 1, run.stderr
        return run.stderr

    def read(self, path: Path | None = None) -> Release:
        return releases.read((path or self.release).read_bytes())

    def names(self) -> list[str]:
        return sorted(path.name for path in self.project.engines.glob("*.engine"))

    def stored(self) -> list[str]:
        return sorted(entry.name for entry in LocalStore(self.store).entries())

    def age(self, days: float) -> None:
        """Have everything in the store lie unused for so long."""
        then = time.time() - days * 86400
        for blob in (self.store / "blobs" / "sha256").iterdir():
            os.utime(blob, (then, then))


@pytest.fixture(scope="module")
def built_fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A project that was built once; never changed, only copied."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    folder = fleet.project.path
    (folder / "dodo.py").write_text(DODO)
    onnx_models.write_small(folder / "plain.onnx", seed=1)
    onnx_models.write_small(folder / "half.onnx", seed=2)
    make_pair(folder)
    fleet.configure()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ENGINERY_STORE", raising=False)
        run = fleet.doit()
    assert run.built == ["plain", "plain", "half"]
    return fleet


@pytest.fixture
def fleet(built_fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    for name in ("ENGINERY_STORE", "ENGINERY_SIGNING_KEY", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    copy = Fleet(tmp_path / "project")
    shutil.copytree(built_fleet.project.path, copy.project.path)
    return copy


@contextmanager
def registry(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, settings: str = "") -> Iterator[Server]:
    """A registry that is the fleet's remote store, and its login."""
    folder = fleet.project.path.parent
    with serve(folder / "registry") as server:
        login_file(folder / "docker", server.host)
        monkeypatch.setenv("DOCKER_CONFIG", str(folder / "docker"))
        fleet.configure(f'remote = "{server.reference}"\n{settings}')
        yield server


# --- doit release


def test_of_everything(fleet: Fleet) -> None:
    run = fleet.doit("release")
    made = fleet.read()
    assert run.stdout == f"release.json: 3 engines, release {made.digest[:12]}, not signed\n"
    assert [engine.name for engine in made.engines] == fleet.names()
    assert set(made.targets) == {"rtx", "ampere"}
    for engine in made.engines:
        path = fleet.project.engines / engine.name
        assert path.stat().st_size == engine.size
        assert Path(f"{path}.sha256").read_text().split()[0] == engine.sha256
    assert not envelope_path(fleet.release).exists()
    before = fleet.release.read_bytes()
    fleet.doit("release")
    assert fleet.release.read_bytes() == before


@pytest.mark.parametrize("arguments", [("--target", "ampere"), ("-t", "ampere")])
def test_of_a_target(fleet: Fleet, arguments: tuple[str, ...]) -> None:
    fleet.doit("release", *arguments)
    assert [(one.target, one.model) for one in fleet.read().engines] == [("ampere", "plain")]


def test_of_several_targets(fleet: Fleet) -> None:
    fleet.doit("release", "--target", "ampere", "--target", "rtx")
    assert len(fleet.read().engines) == 3


def test_of_a_backbone(fleet: Fleet) -> None:
    fleet.doit("release", "half")
    assert [one.model for one in fleet.read().engines] == ["half"]
    fleet.doit("release", "plain:ampere-fp32")
    assert [one.target for one in fleet.read().engines] == ["ampere"]


@pytest.mark.parametrize("output", ["-o", "--output"])
def test_to_another_file(fleet: Fleet, output: str) -> None:
    fleet.doit("release", output, "sub.json")
    assert len(fleet.read(fleet.project.path / "sub.json").engines) == 3
    assert not fleet.release.exists()


def test_to_a_folder_that_is_not_there(fleet: Fleet) -> None:
    assert "nowhere" in fleet.fails("release", "-o", "nowhere/release.json")


def test_of_an_unknown_target(fleet: Fleet) -> None:
    assert "no target 'orin'; known are ampere, rtx" in fleet.fails("release", "--target", "orin")
    assert not fleet.release.exists()


def test_of_an_unknown_backbone(fleet: Fleet) -> None:
    assert "no engine 'vit'; known are plain, half" in fleet.fails("release", "vit")


@pytest.mark.parametrize("how", ["stale", "damaged", "gone", "no provenance"])
def test_of_an_engine_that_is_not_fresh(fleet: Fleet, how: str) -> None:
    path = fleet.project.engine("half")
    if how == "stale":
        onnx_models.write_small(fleet.project.path / "half.onnx", seed=9)
    elif how == "damaged":
        flip_bit(path)
    elif how == "gone":
        path.unlink()
    else:
        Path(f"{path}.provenance.json").unlink()
    assert "half is not fresh" in fleet.fails("release")
    assert not fleet.release.exists()
    fleet.doit("release", "--target", "ampere")


def test_signed(fleet: Fleet) -> None:
    fleet.configure('[trust]\nsign_with = "team.pem"\n')
    run = fleet.doit("release")
    assert run.stdout.endswith(", signed\n")
    envelope = envelope_path(fleet.release).read_bytes()
    keys = (read_key(fleet.pair.public),)
    assert opened(envelope, keys, MEDIA_TYPE, "it") == fleet.release.read_bytes()
    with pytest.raises(SignatureError):
        opened(envelope, keys, "application/vnd.in-toto+json", "it")
    fleet.configure()
    fleet.doit("release", "--target", "ampere")
    assert not envelope_path(fleet.release).exists()


def test_a_key_that_cannot_be_used_leaves_the_release_of_before(fleet: Fleet) -> None:
    fleet.configure('[trust]\nsign_with = "team.pem"\n')
    fleet.doit("release")
    before = fleet.release.read_bytes(), envelope_path(fleet.release).read_bytes()
    fleet.pair.private.unlink()
    assert "team.pem is not there" in fleet.fails("release", "--target", "ampere")
    assert (fleet.release.read_bytes(), envelope_path(fleet.release).read_bytes()) == before


def test_under_all_an_unsigned_engine_is_not_released(fleet: Fleet) -> None:
    trust = '[trust]\nkeys = ["team.pub.pem"]\nrequire = "all"\nsign_with = "team.pem"\n'
    fleet.configure(trust)
    assert "is not signed" in fleet.fails("release")
    fleet.doit("sign")
    fleet.doit("release")
    assert len(fleet.read().engines) == 3


def test_push_without_a_remote(fleet: Fleet) -> None:
    assert 'remote = "registry.example.com/team/engines"' in fleet.fails("release", "--push")


@needs_registry
def test_pushed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry(fleet, monkeypatch) as server:
        run = fleet.doit("release", "--push")
        made = fleet.read()
        assert f"tag release-{made.digest[:12]}" in run.stdout
        assert {one.fingerprint for one in made.engines} < server.tags()
        assert len(server.tags()) == 4


# --- doit prune


def test_prune_of_nothing(fleet: Fleet) -> None:
    before = fleet.stored()
    assert len(before) == 3
    assert "0 engines" in fleet.doit("prune").stdout
    assert "0 engines" in fleet.doit("prune", "--max-size", "1G", "--max-age", "1d").stdout
    assert fleet.stored() == before


def test_prune_that_only_says_so(fleet: Fleet) -> None:
    before = sorted(fleet.store.rglob("*"))
    for dry in ("-n", "--dry-run"):
        run = fleet.doit("prune", "--max-size", "0", dry)
        assert "3 engines" in run.stdout
        assert "would go" in run.stdout
        for name in fleet.names():
            assert any(line.startswith(name) for line in run.stdout.splitlines())
        assert "Entry(" not in run.stdout
    assert sorted(fleet.store.rglob("*")) == before


def test_prune_by_size(fleet: Fleet) -> None:
    """Least recently used first, and no more than it takes."""
    fleet.age(1)
    half = fleet.project.engine("half")
    half.unlink()
    fleet.doit()  # restored, so used
    size = half.stat().st_size + 50_000
    fleet.doit("prune", "--max-size", str(size))
    assert fleet.stored() == [half.name]
    assert fleet.doit().built == []  # the folder is left alone
    shutil.rmtree(fleet.project.engines)
    assert fleet.doit().built == ["plain", "plain"]


@pytest.mark.parametrize(
    ("age", "left"), [("2d", 3), ("1d", 0), ("20h", 0), ("1w", 3), ("0.5", 0), ("2", 3)]
)
def test_prune_by_age(fleet: Fleet, age: str, left: int) -> None:
    fleet.age(1.5)
    fleet.doit("prune", "--max-age", age)
    assert len(fleet.stored()) == left


@pytest.mark.parametrize(("size", "left"), [("1K", 0), ("1M", 2), ("1G", 3), ("0.001T", 3)])
def test_prune_units_of_size(fleet: Fleet, size: str, left: int) -> None:
    fleet.doit("prune", "--max-size", size)
    assert len(fleet.stored()) == left


@pytest.mark.parametrize("size", ["many", "1X", "-1", "1e3", "20GB", " ", "1_000"])
def test_prune_with_a_bad_size(fleet: Fleet, size: str) -> None:
    assert "write for example 20G" in fleet.fails("prune", f"--max-size={size}")
    assert len(fleet.stored()) == 3


@pytest.mark.parametrize("age", ["old", "1m", "-1d", "d", "NaN"])
def test_prune_with_a_bad_age(fleet: Fleet, age: str) -> None:
    assert "write for example 30d" in fleet.fails("prune", f"--max-age={age}")
    assert len(fleet.stored()) == 3


def test_prune_takes_no_tasks(fleet: Fleet) -> None:
    fleet.fails("prune", "--max-size", "0", "plain")
    assert len(fleet.stored()) == 3


def test_prune_keeps_what_a_release_names(fleet: Fleet) -> None:
    fleet.doit("release", "--target", "ampere", "-o", "old.json")
    (ampere,) = fleet.read(fleet.project.path / "old.json").engines
    fleet.age(100)
    fleet.doit("prune", "--max-size", "0", "--max-age", "1d", "--keep", "old.json")
    assert fleet.stored() == [ampere.name]
    fleet.doit("prune", "--max-size", "0")
    assert fleet.stored() == []


def test_prune_keeps_what_the_release_beside_the_corpus_names(fleet: Fleet) -> None:
    fleet.doit("release", "half")
    fleet.age(100)
    fleet.doit("prune", "--max-size", "0", "--max-age", "1d")
    assert fleet.stored() == [fleet.project.engine("half").name]


def test_prune_with_several_to_keep(fleet: Fleet) -> None:
    fleet.doit("release", "-o", "one.json", "half")
    fleet.doit("release", "--target", "ampere", "-o", "two.json")
    fleet.doit("prune", "--max-size", "0", "--keep", "one.json", "--keep", "two.json")
    assert len(fleet.stored()) == 2


@pytest.mark.parametrize("what", ["missing", "garbage"])
def test_prune_with_a_release_that_cannot_be_read_drops_nothing(fleet: Fleet, what: str) -> None:
    if what == "garbage":
        (fleet.project.path / "old.json").write_text("{}")
    assert "old.json" in fleet.fails("prune", "--max-size", "0", "--keep", "old.json")
    assert len(fleet.stored()) == 3
    fleet.release.write_text("garbage")
    assert "release.json" in fleet.fails("prune", "--max-size", "0")
    assert len(fleet.stored()) == 3


def test_prune_without_a_store(fleet: Fleet) -> None:
    shutil.rmtree(fleet.store)
    fleet.doit("prune", "--max-size", "0")
    assert not fleet.store.exists()
    fleet.configure(store="[store]\nlocal = false\n")
    assert fleet.doit("prune", "--max-size", "0").stderr == ""


def test_prune_with_a_file_in_place_of_the_store(fleet: Fleet) -> None:
    shutil.rmtree(fleet.store)
    fleet.store.write_text("mine")
    run = fleet.project.doit("prune", "--max-size", "0")
    assert "Traceback" not in run.said
    assert fleet.store.read_text() == "mine"


# --- doit push and pull


def test_push_and_pull_without_a_remote(fleet: Fleet) -> None:
    assert 'remote = "registry.example.com/team/engines"' in fleet.fails("push")
    shutil.rmtree(fleet.project.engines)
    assert 'remote = "registry.example.com/team/engines"' in fleet.fails("push")
    run = fleet.doit("pull")  # the local store is a store
    assert run.stdout.count("restored from the local store") == 3
    assert fleet.doit("pull").stdout.count("fresh already") == 3


def test_pull_of_what_no_store_has(fleet: Fleet) -> None:
    shutil.rmtree(fleet.project.engines)
    shutil.rmtree(fleet.store)
    run = fleet.doit("pull", code=1)
    assert run.stderr.splitlines() == [
        f"WARNING: {task}: no store has it"
        for task in ("plain:rtx-fp32", "plain:ampere-fp32", "half")
    ]
    assert run.built == []


def test_pull_of_one(fleet: Fleet) -> None:
    shutil.rmtree(fleet.project.engines)
    fleet.doit("pull", "half")
    assert [name.partition("_")[0] for name in fleet.names()] == ["half"]


def test_pull_says_what_is_wrong_with_an_input(fleet: Fleet) -> None:
    (fleet.project.path / "half.onnx").unlink()
    run = fleet.doit("pull", "half", code=1)
    assert "half.onnx" in run.stderr, run.stderr


@pytest.mark.parametrize(
    ("remote", "words"),
    [
        ("https://registry.example.com/team", "registry.example.com/team/engines"),
        ("nonsense", "registry.example.com/team/engines"),
        ("user:secret-word@registry.example.com/team", "registry.example.com/team/engines"),
    ],
)
def test_a_remote_that_is_none(fleet: Fleet, remote: str, words: str) -> None:
    fleet.configure(f'remote = "{remote}"\n')
    run = fleet.project.doit("push")
    assert run.returncode in (1, 3)
    assert "Traceback" not in run.said
    assert words in run.stderr
    shutil.rmtree(fleet.project.engines)
    run = fleet.project.doit("pull")
    assert "Traceback" not in run.said
    assert run.stdout.count("restored") == 3


@needs_registry
def test_pushed_here_and_pulled_there(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry(fleet, monkeypatch) as server:
        fleet.doit("push", "half")
        assert len(server.tags()) == 1
        assert fleet.doit("push").stdout.count(": pushed") == 2
        before = {name: (fleet.project.engines / name).read_bytes() for name in fleet.names()}
        shutil.rmtree(fleet.project.engines)
        shutil.rmtree(fleet.store)
        run = fleet.doit("pull")
        assert run.stdout.count(f"restored from {server.reference}") == 3
        assert {name: (fleet.project.engines / name).read_bytes() for name in fleet.names()} == (
            before
        )
        assert fleet.doit().built == []
        fleet.configure(f'remote = "{server.reference}"\nread_only = true\n')
        run = fleet.doit("push", code=1)
        assert "read only" in run.stderr


@needs_registry
def test_signed_engines_from_a_registry(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    trust = '[trust]\nkeys = ["team.pub.pem"]\nrequire = "remote"\n'
    with registry(fleet, monkeypatch, trust):
        fleet.doit("push")
        for folder in (fleet.project.engines, fleet.store):
            shutil.rmtree(folder)
        run = fleet.doit("pull", "half", code=1)
        assert "is not signed" in run.stderr
        assert run.built == []
        assert fleet.doit("half").built == ["half"]
        fleet.doit("sign", "--key", "team.pem", "half")
        assert "pushed" in fleet.doit("push", "half").stdout
        for folder in (fleet.project.engines, fleet.store):
            shutil.rmtree(folder)
        assert "restored from" in fleet.doit("pull", "half").stdout
        assert envelope_path(fleet.project.engine("half")).exists()


def test_push_of_an_engine_that_is_not_believed_here(fleet: Fleet) -> None:
    """What the policy here refuses is not handed to everyone."""
    trust = '[trust]\nkeys = ["team.pub.pem"]\nrequire = "all"\n'
    fleet.configure('remote = "127.0.0.1:9/team/engines"\n', trust)
    run = fleet.project.doit("push")
    assert "is not signed" in run.stderr, run.stderr


def test_a_registry_that_never_answers_costs_once(fleet: Fleet) -> None:
    """One line and at most five seconds for all engines together."""
    shutil.rmtree(fleet.project.engines)
    shutil.rmtree(fleet.store)
    began = time.monotonic()
    assert len(fleet.doit().built) == 3
    alone = time.monotonic() - began
    shutil.rmtree(fleet.project.engines)
    shutil.rmtree(fleet.store)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fleet.configure(f'remote = "127.0.0.1:{silent.getsockname()[1]}/team/engines"\n')
        began = time.monotonic()
        run = fleet.doit()
        lost = time.monotonic() - began - alone
    assert len(run.built) == 3
    said = [line for line in run.stderr.splitlines() if not line.startswith("building ")]
    assert lost < 6, f"{lost:.1f} s lost"
    assert len(said) == 1, said


def test_a_download_folder_is_not_left_in_the_project(fleet: Fleet) -> None:
    store = '[store]\nlocal = false\nremote = "127.0.0.1:9/team/engines"\n'
    fleet.configure(store=store)
    shutil.rmtree(fleet.project.engines)
    fleet.doit()
    from enginery.corpus import read_corpus
    from enginery.store.engines import EngineStore

    remote = EngineStore(read_corpus(fleet.project.path / "corpus.toml").store, print).remote
    assert remote is not None
    scratch = remote._scratch
    assert scratch is None or scratch.is_absolute() or ".enginery" in str(scratch), scratch


def test_commands_are_no_names_of_backbones(fleet: Fleet) -> None:
    for name in ("push", "pull", "prune", "sign", "release"):
        fleet.configure(PLAIN_AS.format(name))
        assert f"'{name}' is a command; rename it" in fleet.doit(code=3).stderr


PLAIN_AS = """\
[backbones.{}]
onnx = "plain.onnx"
expected_input_shape = [1, 3, 16, 16]
"""


@pytest.mark.parametrize("command", ["push", "pull", "prune", "sign", "release"])
def test_help(fleet: Fleet, command: str) -> None:
    run = fleet.doit("help", command)
    assert command in run.stdout
    assert "PURPOSE" in run.stdout


@pytest.mark.parametrize("command", ["push", "pull", "prune", "sign", "release"])
def test_a_folder_without_a_corpus(fleet: Fleet, command: str) -> None:
    for database in fleet.project.path.glob(".doit.db*"):
        database.unlink()  # of another kind
    (fleet.project.path / "dodo.py").write_text("def task_a():\n    return {'actions': None}\n")
    assert "has no corpus" in fleet.fails(command)


def test_the_document_is_json(fleet: Fleet) -> None:
    fleet.doit("release")
    assert json.loads(fleet.release.read_bytes())["schema"] == 1


@needs_registry
def test_pull_takes_what_was_cleaned(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """`doit clean` has `doit` build; who says `doit pull` wants what the registry has."""
    with registry(fleet, monkeypatch):
        fleet.doit("push", "half")
        fleet.doit("clean", "half")
        assert "restored from" in fleet.doit("pull", "half").stdout
