"""Inputs that come to a worker from the registry that it and the submitter share."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import odd
import onnx_models
import pytest
from conftest import Project, flip_bit, wait_for
from farms import RTX, RunningWorker, farm, running_farm
from odd import Site
from submitter import small_order, submitting_to

sys.path.append(str(Path(__file__).parents[1] / "store"))

from registry_server import Handler, Proxy, Server, free_port, needs_registry, proxy_to, serve

from enginery.digest import sha256_bytes, sha256_file
from enginery.farm.blobs import InputBlobs
from enginery.farm.remote_inputs import RemoteInputs
from enginery.store.input_artifact import INPUTS
from enginery.store.manifest import Descriptor
from enginery.store.remote import RemoteStore

__all__ = ["farm"]

pytestmark = needs_registry

DEAF: dict[str, Any] = {"deaf": True}
"""A worker that takes nothing from a submitter: what it builds from, it has from elsewhere."""


@dataclass
class Shared(Site):
    """A site whose corpus has a remote store."""

    server: Server
    proxy: Proxy

    def sharing(self, name: str, *options: str, **given: Any) -> RunningWorker:
        """A worker with the same remote store."""
        return self.worker(name, options=["--remote", self.proxy.reference, *options], **given)

    @property
    def uploads(self) -> int:
        return len(self.proxy.seen("POST", "/blobs/uploads/"))

    def downloads(self, sha256: str) -> int:
        return len(self.proxy.seen("GET", f"/blobs/sha256:{sha256}"))

    def digest(self, name: str) -> str:
        return sha256_file(self.project.path / name)

    def streams(self, worker: RunningWorker, *said: str) -> None:
        """Whether the only engine is built from what the submitter sends."""
        run = self.doit()
        assert run.built == ["far"], run.said
        assert "came from" not in worker.log
        for words in said:
            assert run.said.count(words) == 1, run.said


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Proxy]]:
    for variable in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with serve(tmp_path / "registry", login=False) as server, proxy_to(server.port) as proxy:
        yield server, proxy


@pytest.fixture
def shared(
    tmp_path: Path,
    new_project: Project,
    registry: tuple[Server, Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shared]:
    server, proxy = registry
    with running_farm(tmp_path / "farm") as started:
        site = odd.site(started, new_project, monkeypatch)
        new_project.edit("corpus.toml", "[store]", f'[store]\nremote = "{proxy.reference}"')
        site.models("far")
        yield Shared(site.farm, site.project, site.path, server, proxy)


# --- from the registry


def test_inputs_come_from_the_registry(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGINERY_STORE", raising=False)
    shared.project.edit("corpus.toml", "local = false", 'path = "store"')
    weights = shared.project.path / "weights.bin"
    onnx_models.write_small(shared.project.path / "far.onnx", seed=7, weights=weights.name)
    one = shared.sharing("one", odd=DEAF)
    run = shared.doit()
    assert run.built == ["far"], run.said
    assert "2 inputs came from" in one.log
    assert "refused" not in one.log
    assert "input" not in run.said
    # Each once, and what names them.
    assert shared.uploads == 3
    assert shared.downloads(shared.digest("weights.bin")) == 1
    (tag,) = shared.server.tags()
    digest = shared.server.link(tag).read_text().rpartition(":")[2]
    manifest = json.loads(shared.server.blob(digest).read_bytes())
    assert tag.startswith("inputs-")
    assert manifest["artifactType"] == INPUTS
    assert {one["digest"] for one in manifest["layers"]} == {
        f"sha256:{shared.digest(name)}" for name in ("far.onnx", "weights.bin")
    }

    # Another build host: nothing is asked of the submitter, and nothing uploaded.
    shared.farm.kill("one")
    assert shared.doit("clean").returncode == 0
    two = shared.sharing("two", odd=DEAF)
    assert shared.doit().built == ["far"]
    assert "2 inputs came from" in two.log
    assert shared.uploads == 3
    assert len(list((two.folder / "inputs").iterdir())) == 2
    assert oct((two.folder / "inputs" / shared.digest("weights.bin")).stat().st_mode)[-3:] == "444"

    # Engines beside it are what they were.
    assert "pushed" in shared.doit("push").stdout
    shared.project.edit("corpus.toml", 'path = "store"', "local = false")
    shared.engine("far").unlink()
    assert f"restored from {shared.proxy.reference}" in shared.doit().stdout


def test_two_builds_of_one_model_get_it_once(shared: Shared) -> None:
    shared.project.edit("corpus.toml", '"fp32"', '"fp32", "fp16"')

    def slow(handler: Handler) -> None:
        time.sleep(1)
        handler.pass_on()

    digest = shared.digest("far.onnx")
    shared.proxy.fail("GET", f"/blobs/sha256:{digest}", slow)
    worker = shared.sharing("one", "--slots", "2", odd=DEAF)
    run = shared.doit()
    assert run.built == ["far", "far"], run.said
    assert shared.downloads(digest) == 1
    assert len(shared.proxy.seen("PATCH", "/blobs/uploads/")) <= 3  # the model, and two configs
    assert "refused" not in worker.log


# --- not from the registry


def test_a_registry_that_goes_away(shared: Shared) -> None:
    def dead(handler: Handler) -> None:
        handler.answer(503)

    shared.proxy.fail("GET", "/blobs/sha256:", dead)
    worker = shared.sharing("one")
    shared.streams(worker, "far: its inputs are sent to the worker: ")
    assert shared.uploads == 2


def test_a_registry_that_is_down(shared: Shared) -> None:
    shared.project.edit("corpus.toml", shared.proxy.host, f"127.0.0.1:{free_port()}")
    reference = (shared.project.path / "corpus.toml").read_text().split('remote = "')[1]
    worker = shared.worker("one", options=["--remote", reference.partition('"')[0]])
    shared.streams(worker, "far: its inputs are sent to the worker: ")


def test_a_registry_that_takes_nothing(shared: Shared) -> None:
    def refuse(handler: Handler) -> None:
        handler.answer(403)

    shared.proxy.fail("POST", "/uploads/", refuse)
    worker = shared.sharing("one")
    shared.streams(worker, "far: its inputs are not uploaded but sent to the worker: ")


def test_a_blob_with_other_bytes(shared: Shared) -> None:
    model = shared.project.path / "far.onnx"
    digest = shared.digest("far.onnx")
    blob = Descriptor("application/octet-stream", f"sha256:{digest}", model.stat().st_size)
    store = RemoteStore(shared.server.reference, scratch=None)
    assert store.push_blob(blob, lambda _: io.BytesIO(model.read_bytes()))
    flip_bit(shared.server.blob(digest))
    worker = shared.sharing("one")
    shared.streams(worker, "is damaged in", "far: its inputs are sent to the worker: ")
    inputs = list((worker.folder / "inputs").iterdir())
    assert [sha256_file(one) for one in inputs] == [digest]


@pytest.mark.parametrize("how", ["another", "read only", "none here", "none there"])
def test_no_remote_store_in_common(shared: Shared, how: str) -> None:
    remote = f'remote = "{shared.proxy.reference}"'
    other = {"another": "/others", "none there": None}.get(how, "")
    if how == "read only":
        shared.project.edit("corpus.toml", remote, f"{remote}\nread_only = true")
    if how == "none here":
        shared.project.edit("corpus.toml", remote, "")
    options = [] if other is None else ["--remote", shared.proxy.reference + other]
    worker = shared.worker("one", options=options)
    shared.streams(worker)
    assert shared.uploads == 0


def test_an_input_that_changed(shared: Shared) -> None:
    digest = shared.digest("far.onnx")
    process = shared.project.start()
    log = shared.project.path / "log"
    wait_for(lambda: "no worker is connected" in log.read_text())
    onnx_models.write_small(shared.project.path / "far.onnx", seed=99)
    shared.sharing("one")
    assert process.wait(60) != 0
    assert "far.onnx changed while the engine was built" in log.read_text()
    assert not shared.server.blob(digest).exists()
    assert shared.server.tags() == set()


# --- what a worker says and hears


class Heard:
    """A task's way back."""

    key, address = "key", "tcp://127.0.0.1:1"

    def tell(self, message: dict[str, object]) -> None:
        raise AssertionError(message)

    def is_awaited(self) -> bool:
        return True


def test_one_uploads_a_file_at_a_time(tmp_path: Path) -> None:
    remote = RemoteInputs("127.0.0.1:1/team/engines", InputBlobs(tmp_path, keep_bytes=0))
    one, two, other = (sha256_bytes(text) for text in (b"one", b"two", b"other"))
    with remote.awaited({one: 3, two: 3}, Heard()) as awaited:
        assert awaited.offer == {"remote": "127.0.0.1:1/team/engines"}
        assert remote.look("alice", [one, other], there=False) == [one]
        assert remote.look("bob", [one, two], there=False) == [two]
        assert remote.look("alice", [one], there=False) == [one]
        (tmp_path / one).write_bytes(b"one")
        assert remote.look("alice", [one], there=False) == []
    assert remote.look("bob", [two], there=False) == []


def test_nothing_is_asked_of_who_asks(
    tmp_path: Path, farm: Any, registry: tuple[Server, Proxy]
) -> None:
    server, _ = registry
    order = small_order(tmp_path)
    ((digest, file),) = order.files.items()
    blob = Descriptor("application/octet-stream", f"sha256:{digest}", file.stat().st_size)
    RemoteStore(server.reference, scratch=None).push_blob(blob, lambda _: file.open("rb"))
    farm.start_worker("one", tags=[RTX], options=["--remote", server.reference])
    with submitting_to(farm) as submitter:
        submitter.sends = False
        assert submitter.build(order).built
        assert not any("need" in one for one in submitter.heard)
