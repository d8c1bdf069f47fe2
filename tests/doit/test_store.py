"""The local store with the real doit and the real runtime: nothing is built that was built."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx_models
import pytest
import restore_for_ever
from artifacts import NAME
from conftest import DODO, Project, Run, flip_bit, wait_for

from enginery import EngineryError, read_verified
from enginery.verdict import judge

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
from registry_server import login_file, needs_registry, serve

HEAD = """\
schema = 1
[corpus]
precision = ["fp32"]
targets = ["rtx"]
workspace_mb = 64
[targets.rtx]
runtime = "tensorrt_rtx"
sm = [86, 89]
"""
PLAIN = """\
[backbones.plain]
onnx = "plain.onnx"
expected_input_shape = [1, 3, 16, 16]
"""
HALF = """\
[backbones.half]
onnx = "half.onnx"
expected_input_shape = [1, 3, 16, 16]
precision = ["fp16"]
"""
STORE = '[store]\npath = "../store"\n'
FROM_LOCAL = "restored from the local store"
PROOFS = (".sha256", ".provenance.json", ".dsse.json")

# What doit's process and its children start and load, seen by Python itself.
WATCH = """\
import os, sys


def note(event, arguments):
    if event == "subprocess.Popen" and "enginery.worker" in str(arguments[1]):
        line = "started"
    elif event == "import" and arguments[0] in ("onnx", "numpy"):
        line = arguments[0]
    else:
        return
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(line + "\\n")


sys.addaudithook(note)
"""


class Site:
    """A project and, beside it, its store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = Project(folder / "project")
        self.store = folder / "store"

    def checkout(self, name: str) -> Project:
        """The project's sources in another folder beside the store."""
        other = Project(self.folder / name)
        other.path.mkdir(parents=True)
        for file in ("dodo.py", "corpus.toml", "plain.onnx", "half.onnx"):
            shutil.copy(self.project.path / file, other.path / file)
        return other

    def lose_engines(self) -> None:
        shutil.rmtree(self.project.engines)

    def index(self) -> list[str]:
        """The models in the store's index."""
        found = json.loads((self.store / "index.json").read_bytes())["manifests"]
        return sorted(self.manifest(one)["annotations"]["enginery.model"] for one in found)

    def manifest(self, descriptor: dict[str, str]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = json.loads(
            self.blob(descriptor["digest"].partition(":")[2]).read_bytes()
        )
        return found

    def blob(self, sha256_hex: str) -> Path:
        return self.store / "blobs" / "sha256" / sha256_hex

    def blob_of(self, backbone: str) -> Path:
        """The blob of an engine that is in the folder, too."""
        return self.blob(sha256(self.project.engine(backbone)))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(project: Project, *tables: str, head: str = HEAD) -> None:
    (project.path / "corpus.toml").write_text(head + "".join(tables))


def warnings(run: Run) -> list[str]:
    """What was said beside the output, but for the line of a build that begins."""
    return [line for line in run.stderr.splitlines() if not line.startswith("building ")]


def good(run: Run) -> Run:
    assert run.returncode == 0, run.said
    assert "Traceback" not in run.said
    return run


@pytest.fixture(autouse=True)
def _configured_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ENGINERY_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def built_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose engines were built once; never changed, only copied."""
    site = Site(tmp_path_factory.mktemp("site"))
    project = site.project
    project.path.mkdir()
    (project.path / "dodo.py").write_text(DODO)
    write(project, PLAIN, HALF, STORE)
    onnx_models.write_small(project.path / "plain.onnx", seed=1)
    onnx_models.write_small(project.path / "half.onnx", seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ENGINERY_STORE", raising=False)
        assert good(project.doit()).built == ["plain", "half"]
    return site


@pytest.fixture
def site(built_site: Site, tmp_path: Path) -> Iterator[Site]:
    copy = Site(tmp_path / "site")
    shutil.copytree(built_site.folder, copy.folder)
    yield copy
    for process in copy.project.processes():
        os.kill(process, signal.SIGKILL)


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], set[str]]:
    """What processes of doit start and load from now on."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    notes = tmp_path / "notes"
    notes.touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "watch"))
    monkeypatch.setenv("NOTES", str(notes))
    return lambda: set(notes.read_text().split())


def all_fresh(project: Project) -> bool:
    said = good(project.doit("list", "--status", "--all")).stdout
    return not [line for line in said.splitlines() if line.startswith("R")]


# --- what was built is not built again


def test_an_engine_folder_that_was_removed(site: Site, seen: Callable[[], set[str]]) -> None:
    before = {name: data for name, (_, _, data) in site.project.snapshot().items()}
    lowered = site.project.path / ".enginery" / "lowered"
    shutil.rmtree(lowered)
    site.lose_engines()
    run = good(site.project.doit())
    assert run.built == []
    assert warnings(run) == []
    for backbone in ("plain", "half"):
        name = site.project.engine(backbone).name
        assert any(
            line.startswith(name) and line.endswith(FROM_LOCAL) for line in run.stdout.splitlines()
        ), run.stdout
    assert {name: data for name, (_, _, data) in site.project.snapshot().items()} == before
    assert not lowered.exists()
    assert seen() == set()
    checked = subprocess.run(
        ["sha256sum", "-c", *(path.name for path in site.project.engines.glob("*.sha256"))],
        cwd=site.project.engines, check=False, capture_output=True,
    )  # fmt: skip
    assert checked.returncode == 0
    again = good(site.project.doit())
    assert {line[:2] for line in again.stdout.splitlines()[:-1]} == {"--"}


def test_a_build_is_seen(site: Site, seen: Callable[[], set[str]]) -> None:
    """What the test above looks at can be seen."""
    shutil.rmtree(site.store)
    shutil.rmtree(site.project.path / ".enginery")
    site.lose_engines()
    assert good(site.project.doit()).built == ["plain", "half"]
    assert {"started", "onnx"} <= seen()


def test_one_engine_that_was_removed(site: Site) -> None:
    kept = site.project.engine("half").stat()
    site.project.engine("plain").unlink()
    run = good(site.project.doit())
    assert run.built == []
    assert run.stdout.count("restored from") == 1
    assert site.project.engine("half").stat().st_mtime_ns == kept.st_mtime_ns


@pytest.mark.parametrize("place", ["other", "deeper/down/there"])
def test_a_second_checkout(site: Site, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = site.checkout(place)
    monkeypatch.setenv("ENGINERY_STORE", str(site.store))
    run = good(other.doit())
    assert run.built == []
    assert run.stdout.count(FROM_LOCAL) == 2
    assert not (other.path / ".enginery" / "lowered").exists()
    for backbone in ("plain", "half"):
        assert other.engine(backbone).read_bytes() == site.project.engine(backbone).read_bytes()
    assert good(other.doit()).stdout.count("restored from") == 0


def test_a_branch_switched_back_and_forth(site: Site) -> None:
    model = site.project.path / "plain.onnx"
    first = model.read_bytes()
    a = site.project.engine("plain").read_bytes()
    onnx_models.write_small(model, seed=9)
    assert good(site.project.doit()).built == ["plain"]
    second, b = model.read_bytes(), site.project.engine("plain").read_bytes()
    assert a != b
    for data, engine in ((first, a), (second, b), (first, a)):
        model.write_bytes(data)
        run = good(site.project.doit())
        assert run.built == []
        assert run.stdout.count(FROM_LOCAL) == 1
        assert site.project.engine("plain").read_bytes() == engine


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_in_parallel(site: Site, kind: str, seen: Callable[[], set[str]]) -> None:
    site.lose_engines()
    run = good(site.project.doit("-n", "2", "-P", kind))
    assert run.built == []
    assert run.stdout.count(FROM_LOCAL) == 2
    assert warnings(run) == []
    assert "started" not in seen()
    assert all_fresh(site.project)


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_built_in_parallel_and_restored(site: Site, kind: str) -> None:
    shutil.rmtree(site.store)
    site.lose_engines()
    assert sorted(good(site.project.doit("-n", "2", "-P", kind)).built) == ["half", "plain"]
    assert site.index() == ["half", "plain"]
    site.lose_engines()
    assert good(site.project.doit("-n", "2", "-P", kind)).built == []


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("file", ["plain.onnx", "copy.onnx"])
def test_two_names_for_one_model(site: Site, precision: str, file: str) -> None:
    shutil.rmtree(site.store)
    site.lose_engines()
    (site.project.path / "copy.onnx").write_bytes(
        (site.project.path / "plain.onnx").read_bytes()
    )  # fmt: skip
    twin = PLAIN.replace("backbones.plain", "backbones.twin").replace("plain.onnx", file)
    head = HEAD.replace("fp32", precision)
    write(site.project, PLAIN, twin, STORE, head=head)
    run = good(site.project.doit())
    assert run.built == ["plain"]
    plain, other = site.project.engine("plain"), site.project.engine("twin")
    assert f"{other.name}: " in run.stdout
    assert FROM_LOCAL in run.stdout
    assert plain.read_bytes() == other.read_bytes()
    statement = json.loads(Path(f"{other}.provenance.json").read_bytes())
    assert [one["name"] for one in statement["subject"]] == [other.name]
    # It is those bytes that took so long, of that day and those versions.
    first = json.loads(Path(f"{plain}.provenance.json").read_bytes())
    assert statement["predicate"]["runDetails"] == first["predicate"]["runDetails"]
    named = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert file in {one.get("name", one.get("uri")) for one in named}
    assert Path(f"{other}.sha256").read_text().split() == [sha256(other), other.name]
    assert read_verified(other) == plain.read_bytes()
    assert good(site.project.doit()).built == []
    shutil.rmtree(site.project.engines)
    assert good(site.project.doit()).built == []
    assert all_fresh(site.project)


def test_two_checkouts_at_a_time(site: Site) -> None:
    shutil.rmtree(site.store)
    site.lose_engines()
    others = [site.checkout(name) for name in ("one", "two")]
    running = [project.start() for project in others]
    assert [process.wait(60) for process in running] == [0, 0]
    assert site.index() == ["half", "plain"]
    run = good(site.project.doit())
    assert run.built == []
    assert run.stdout.count(FROM_LOCAL) == 2


def test_a_required_check_runs_for_an_engine_that_is_restored(site: Site) -> None:
    checked = HALF + "require_check = true\ncheck = { samples = 2 }\n"
    write(site.project, checked, STORE)
    assert good(site.project.doit()).built == []
    shutil.rmtree(site.project.path / ".enginery")
    site.lose_engines()
    run = good(site.project.doit())
    assert run.built == []
    assert list((site.project.path / ".enginery" / "checks").glob("*.check.json"))
    site.lose_engines()
    shutil.rmtree(site.project.path / ".enginery" / "lowered")
    assert good(site.project.doit()).built == []
    assert not (site.project.path / ".enginery" / "lowered").exists()


def test_an_engine_for_elsewhere_comes_from_the_store(site: Site) -> None:
    """A machine of which it is said that it cannot build takes what the store has."""
    site.lose_engines()
    run = good(site.project.doit("pull"))
    assert run.stdout.count(FROM_LOCAL) == 2
    assert run.built == []
    assert all_fresh(site.project)


# --- where it is looked for, and in which order


def test_the_folder_comes_first(site: Site) -> None:
    for blob in (site.store / "blobs" / "sha256").iterdir():
        blob.unlink()
    run = good(site.project.doit())
    assert run.built == []
    assert warnings(run) == []
    assert "restored from" not in run.stdout


@needs_registry
def test_local_store_then_remote_then_build(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(tmp_path / "registry") as server:
        login_file(tmp_path / "docker", server.host)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
        write(site.project, PLAIN, HALF, STORE, f'remote = "{server.reference}"\n')
        pushed = good(site.project.doit("push"))
        assert pushed.stdout.count(": pushed") == 2
        assert good(site.project.doit("push")).stdout.count("there already") == 2
        site.lose_engines()
        assert good(site.project.doit()).stdout.count(FROM_LOCAL) == 2
        site.lose_engines()
        shutil.rmtree(site.store)
        run = good(site.project.doit())
        assert run.built == []
        assert run.stdout.count(f"restored from {server.reference}") == 2
        assert site.index() == ["half", "plain"]
        site.lose_engines()
        assert good(site.project.doit()).stdout.count(FROM_LOCAL) == 2
        # Forced, it is built although both have it, and once.
        good(site.project.doit("clean", "plain"))
        assert good(site.project.doit()).built == ["plain"]
        site.lose_engines()
        assert good(site.project.doit()).built == []
        site.lose_engines()
        shutil.rmtree(site.store)
        onnx_models.write_small(site.project.path / "plain.onnx", seed=9)
        run = good(site.project.doit())
        assert run.built == ["plain"]
    # The registry is gone: one line, and the build goes on.
    site.lose_engines()
    shutil.rmtree(site.store)
    began = time.monotonic()
    run = good(site.project.doit())
    assert run.built == ["plain", "half"]
    assert len(warnings(run)) <= 2
    assert time.monotonic() - began < 15


# --- damage


@pytest.mark.parametrize("how", ["flipped", "cut", "sidecar", "provenance", "directory"])
def test_a_damaged_engine_is_restored(site: Site, how: str) -> None:
    path = site.project.engine("plain")
    whole = path.read_bytes()
    if how == "flipped":
        flip_bit(path)
    elif how == "cut":
        os.truncate(path, 1000)
    elif how == "directory":
        path.unlink()
        path.mkdir()
        (path / "mine").write_text("mine")
    else:
        Path(f"{path}.{'sha256' if how == 'sidecar' else 'provenance.json'}").write_text("garbage")
    run = good(site.project.doit())
    assert run.built == []
    assert run.stdout.count(FROM_LOCAL) == 1
    assert read_verified(site.project.engine("plain")) == whole


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


@pytest.mark.parametrize("damage", [flip_bit, _cut, Path.unlink, _directory, _fifo, _link])
def test_a_damaged_blob_is_built_again(site: Site, damage: Callable[[Path], object]) -> None:
    blob = site.blob_of("plain")
    site.lose_engines()
    damage(blob)
    run = good(site.project.doit())
    assert run.built == ["plain"]
    assert len(warnings(run)) == 1, run.stderr
    assert run.stdout.count(FROM_LOCAL) == 1
    site.lose_engines()
    run = good(site.project.doit())
    if damage is _directory:  # someone's own; it stays
        return
    assert run.built == []
    assert warnings(run) == []


INDICES = {
    "garbage": b"\x00garbage",
    "empty": b"",
    "other version": b'{"schemaVersion":7,"manifests":[]}',
    "deep": b"[" * 100_000,
    "no entries": b'{"schemaVersion":2}',
}


@pytest.mark.parametrize("data", INDICES.values(), ids=INDICES)
def test_a_damaged_index_is_a_miss(site: Site, data: bytes) -> None:
    (site.store / "index.json").write_bytes(data)
    site.lose_engines()
    write(site.project, PLAIN, STORE)
    run = good(site.project.doit())
    assert run.built == ["plain"]
    assert len(warnings(run)) == 1, run.stderr
    if b"7" not in data:
        site.lose_engines()
        assert good(site.project.doit()).built == []


def test_a_provenance_in_the_store_that_is_another(site: Site) -> None:
    """Two engines of a store with their blobs swapped under their names."""
    plain, half = site.blob_of("plain"), site.blob_of("half")
    a, b = plain.read_bytes(), half.read_bytes()
    plain.write_bytes(b)
    half.write_bytes(a)
    site.lose_engines()
    run = good(site.project.doit())
    assert run.built == ["plain", "half"]
    assert (sha256(site.project.engine("plain")), sha256(site.project.engine("half"))) == (
        plain.name,
        half.name,
    )


# --- a store that cannot be used


def _file_in_its_place(store: Path) -> None:
    store.write_text("mine")


def test_one_line_for_all_engines(site: Site) -> None:
    """A lowered engine is looked for twice, and there may be a hundred of them."""
    shutil.rmtree(site.store)
    _file_in_its_place(site.store)
    site.lose_engines()
    run = good(site.project.doit())
    assert run.built == ["plain", "half"]
    assert len(warnings(run)) == 1, run.stderr


def test_a_user_without_a_home(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number which no user has."""
    write(site.project, PLAIN)
    (site.project.path / "dodo.py").write_text(
        "from pathlib import Path\n\n\ndef no_home():\n    raise RuntimeError('no home')\n\n\n"
        "Path.home = no_home\n" + DODO
    )
    monkeypatch.delenv("XDG_CACHE_HOME")
    run = good(site.project.doit())
    assert run.built == []


def _dangling(store: Path) -> None:
    store.symlink_to(store.with_name("nowhere"))


def _file_in_place_of_blobs(store: Path) -> None:
    store.mkdir()
    (store / "blobs").write_text("mine")


@pytest.mark.parametrize("place", [_file_in_its_place, _file_in_place_of_blobs])
def test_a_file_in_the_place_of_the_store(site: Site, place: Callable[[Path], object]) -> None:
    shutil.rmtree(site.store)
    place(site.store)
    site.lose_engines()
    write(site.project, PLAIN, STORE)
    run = good(site.project.doit())
    assert run.built == ["plain"]
    assert len(warnings(run)) == 1, run.stderr
    assert str(site.store.name) in warnings(run)[0]
    assert all_fresh(site.project)


def test_a_link_that_leads_nowhere(site: Site) -> None:
    shutil.rmtree(site.store)
    _dangling(site.store)
    site.lose_engines()
    write(site.project, PLAIN, STORE)
    run = good(site.project.doit())
    assert run.built == ["plain"]
    assert len(warnings(run)) <= 1, run.stderr


def in_mounts(site: Site, mount: str) -> Run:
    """Run doit where a file system of its own is mounted over the store."""
    command = f'{mount} && exec "$0" -m doit'
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", command, sys.executable],
        cwd=site.project.path, env={**os.environ, "STORE": str(site.store)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    return Run(done.returncode, done.stdout, done.stderr)


MOUNTS = {
    "full": 'mount -t tmpfs -o size=64k none "$STORE" || exit 77',
    "read-only": 'mount -t tmpfs -o ro none "$STORE" || exit 77',
}


@pytest.mark.parametrize("mount", MOUNTS.values(), ids=MOUNTS)
def test_a_store_that_takes_nothing(site: Site, mount: str) -> None:
    site.lose_engines()
    write(site.project, PLAIN, STORE)
    run = good(in_mounts(site, mount))
    assert run.built == ["plain"]
    assert len(warnings(run)) == 1, run.stderr
    assert all_fresh(site.project)


def test_a_store_that_may_only_be_read_gives(site: Site) -> None:
    site.lose_engines()
    mount = 'mount --bind "$STORE" "$STORE" && mount -o remount,bind,ro "$STORE" || exit 77'
    run = good(in_mounts(site, mount))
    assert run.built == []
    assert warnings(run) == []


def test_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.lose_engines()
    monkeypatch.setenv("ENGINERY_STORE", "off")
    before = sorted(site.store.rglob("*"))
    run = good(site.project.doit())
    assert run.built == ["plain", "half"]
    assert " store" not in run.said
    assert sorted(site.store.rglob("*")) == before


def test_no_local_store(site: Site, tmp_path: Path) -> None:
    site.lose_engines()
    write(site.project, PLAIN, HALF, "[store]\nlocal = false\n")
    assert good(site.project.doit()).built == ["plain", "half"]
    site.lose_engines()
    assert good(site.project.doit()).built == ["plain", "half"]
    assert not (tmp_path / "cache").exists()
    assert not (site.project.path / "store").exists()


def test_the_store_of_the_user(site: Site, tmp_path: Path) -> None:
    site.lose_engines()
    write(site.project, PLAIN)
    assert good(site.project.doit()).built == ["plain"]
    assert (tmp_path / "cache" / "enginery" / "store" / "index.json").exists()
    site.lose_engines()
    assert good(site.project.doit()).built == []


def test_a_run_with_nothing_to_do_makes_no_store(site: Site) -> None:
    shutil.rmtree(site.store)
    assert good(site.project.doit()).built == []
    good(site.project.doit("list", "--status"))
    assert not site.store.exists()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("[store]\nlocl = true\n", "did you mean 'local'?"),
        ("[store]\npath = 3\n", 'path = "../store"'),
        ("[store]\npath = ''\n", 'path = "../store"'),
        ("store = 3\n", "store"),
        ("[trust]\nkeys = 'a.pem'\n", "keys"),
    ],
)
def test_a_mistake_in_the_table(site: Site, table: str, words: str) -> None:
    if table.startswith("["):
        write(site.project, PLAIN, table)
    else:
        write(site.project, PLAIN, head=table + HEAD)
    run = site.project.doit()
    assert run.returncode == 3
    assert "corpus.toml: " in run.stderr
    assert words in run.stderr
    assert "Traceback" not in run.said


# --- doit clean


def test_clean_forces_a_build_of_those_engines_alone(site: Site) -> None:
    good(site.project.doit("clean", "plain"))
    assert site.index() == ["half"]
    run = good(site.project.doit())
    assert run.built == ["plain"]
    assert site.index() == ["half", "plain"]
    site.lose_engines()
    assert good(site.project.doit()).built == []


def test_clean_of_everything(site: Site) -> None:
    good(site.project.doit("clean"))
    assert site.index() == []
    assert good(site.project.doit()).built == ["plain", "half"]


def test_clean_leaves_the_engines_of_other_models(site: Site) -> None:
    onnx_models.write_small(site.project.path / "plain.onnx", seed=9)
    good(site.project.doit())
    assert site.index() == ["half", "plain", "plain"]
    good(site.project.doit("clean", "plain"))
    assert site.index() == ["half", "plain"]


def test_clean_of_a_stale_engine(site: Site) -> None:
    """The engine of before goes, and that of now, which another checkout may have built."""
    other = site.checkout("other")
    onnx_models.write_small(other.path / "plain.onnx", seed=9)
    good(other.doit())
    shutil.copy(other.path / "plain.onnx", site.project.path / "plain.onnx")
    good(site.project.doit("clean", "plain"))
    assert site.index() == ["half"]
    assert good(site.project.doit()).built == ["plain"]


def test_clean_that_only_says_so(site: Site) -> None:
    before = sorted(site.store.rglob("*"))
    good(site.project.doit("clean", "-n"))
    assert sorted(site.store.rglob("*")) == before
    site.lose_engines()
    assert good(site.project.doit()).built == []


def test_clean_with_a_store_that_cannot_be_used(site: Site) -> None:
    shutil.rmtree(site.store)
    _file_in_its_place(site.store)
    run = good(site.project.doit("clean"))
    assert not list(site.project.engines.glob("*.engine"))
    assert good(site.project.doit()).built == ["plain", "half"], run.said


def test_clean_without_a_store_makes_none(site: Site) -> None:
    shutil.rmtree(site.store)
    run = good(site.project.doit("clean"))
    assert run.stderr == ""
    assert not site.store.exists()


def test_clean_of_a_model_that_is_gone(site: Site) -> None:
    (site.project.path / "plain.onnx").unlink()
    run = good(site.project.doit("clean", "plain"))
    assert run.stderr == ""
    assert site.index() == ["half"]


# --- never a hard link


def test_a_restored_engine_is_a_file_of_its_own(site: Site) -> None:
    blobs = {path.stat().st_ino for path in (site.store / "blobs" / "sha256").iterdir()}
    assert site.project.engine("plain").stat().st_ino not in blobs  # as it was built
    blob = site.blob_of("plain")
    site.lose_engines()
    good(site.project.doit())
    path = site.project.engine("plain")
    whole = path.read_bytes()
    for file in site.project.engines.iterdir():
        assert file.stat().st_nlink == 1
        assert file.stat().st_ino not in blobs
    with path.open("r+b") as stream:
        stream.write(b"careless")
    assert blob.read_bytes() == whole
    assert sha256(blob) == blob.name
    run = good(site.project.doit())
    assert run.built == []
    assert path.read_bytes() == whole


# --- kill -9


@contextmanager
def killed_after(project: Project, seconds: float, *arguments: str) -> Iterator[None]:
    process = project.start(*arguments)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not project.processes())
    yield


def assert_nothing_torn(project: Project) -> None:
    """Every engine that is believed has the bytes of the engine that was built."""
    for path in project.engines.glob("*.engine") if project.engines.exists() else ():
        try:
            data = read_verified(path)
        except EngineryError:  # not believed
            continue
        assert data == Path(f"{project.path.parent}/whole/{path.name}").read_bytes()


def test_kill_9_while_engines_are_restored(site: Site) -> None:
    shutil.copytree(site.project.engines, site.folder / "whole")
    began = time.monotonic()
    site.lose_engines()
    good(site.project.doit())
    whole = time.monotonic() - began
    random.seed(5)
    for number in range(20):
        site.lose_engines()
        arguments = ("-n", "2") if number % 2 else ()
        with killed_after(site.project, random.uniform(whole / 4, whole), *arguments):  # noqa: S311
            assert_nothing_torn(site.project)
        run = good(site.project.doit())
        assert run.built == [], run.said
        assert "taken from a store" not in run.stderr
        assert all_fresh(site.project)
    assert not [path for path in site.project.engines.iterdir() if path.name.startswith(".")]


def test_kill_9_while_an_engine_is_built(site: Site) -> None:
    """At the latest when the engine's file is there, a build is never needed again."""
    write(site.project, PLAIN, STORE)
    whole = site.folder / "whole"
    shutil.copytree(site.project.engines, whole)
    engine = site.project.engine("plain")
    random.seed(6)
    for _ in range(6):
        site.lose_engines()
        shutil.rmtree(site.store)
        process = site.project.start()
        wait_for(engine.exists)
        time.sleep(random.uniform(0, 0.004))  # noqa: S311
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not site.project.processes())
        assert_nothing_torn(site.project)
        run = good(site.project.doit())
        assert run.built == [], run.said


def kill_while_restoring(path: Path, store: Path, kept: set[int], after: float) -> int:
    """Let restore_for_ever.py run for a while; how often it missed what the store had."""
    program = Path(restore_for_ever.__file__)
    needless = 0
    with subprocess.Popen([sys.executable, program, path, store], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(after)
        assert child.poll() is None, "it ended by itself"
        child.kill()
        for line in child.stdout.read().decode().splitlines():
            word, _, rest = line.partition(" ")
            assert word != "warning", rest
            if word == "kept":
                kept.add(int(rest))
            elif word == "forgetting":
                kept.discard(int(rest))
            else:
                needless += int(rest) in kept
    return needless


def killed(times: int, folder: Path) -> tuple[int, int, int]:
    """Kill it so many times: torn engines believed, needless builds, engines believed."""
    path, store, kept = folder / NAME, folder / "store", set[int]()
    chance = random.Random(20251125)  # noqa: S311 - no secret
    torn = needless = believed = 0
    for _ in range(times):
        needless += kill_while_restoring(path, store, kept, chance.expovariate(50))
        for number in range(restore_for_ever.COUNT):
            if judge(path, restore_for_ever.recipe_of(number)).fresh:
                believed += 1
                torn += path.read_bytes() != restore_for_ever.data_of(number)
        for number in kept:
            recipe = restore_for_ever.recipe_of(number)
            needless += restore_for_ever.store_in(store).restore(path, recipe, {}) is None
            torn += path.read_bytes() != restore_for_ever.data_of(number)
    return torn, needless, believed


def test_kill_9_while_restoring_and_publishing(tmp_path: Path) -> None:
    torn, needless, believed = killed(20, tmp_path)
    assert (torn, needless) == (0, 0)
    assert believed


@pytest.mark.slow
def test_kill_9_at_1000_points(tmp_path: Path) -> None:
    torn, needless, believed = killed(1000, tmp_path)
    assert (torn, needless) == (0, 0)
    assert believed > 100
