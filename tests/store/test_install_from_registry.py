"""A device installs a release from a real registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from artifacts import flip_bit, provenance_of
from keys import Pair, make_pair
from registry_server import free_port, needs_registry
from releases import ORIN, data_of, make_release
from remotes import Fleet, fleet_in

from enginery import EngineryError, Sha256Sidecar, read_verified
from enginery.envelope import read_envelope
from enginery.errors import RemoteError
from enginery.install import Installed, install, installed
from enginery.release import Release
from enginery.release_source import StoreSource
from enginery.signing import envelope_path
from enginery.store.remote import RemoteStore
from enginery.trust import Policy

pytestmark = needs_registry

VIT = ORIN.format("vit")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with fleet_in(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path / "keys")


def push(fleet: Fleet, folder: Path, made: Release) -> None:
    """Push the engines of a release from where they were built."""
    for engine in made.engines:
        path = folder / engine.name
        fleet.local.add(
            path,
            sha256_hex=Sha256Sidecar.read(path),
            document=provenance_of(path).read_bytes(),
            envelope=read_envelope(path),
            name=path.name,
            annotations={},
        )
        stored = fleet.local.find(engine.fingerprint)
        assert stored is not None
        fleet.remote().push(stored, fleet.local.open_blob)


def install_from(
    fleet: Fleet, folder: Path, policy: Policy, remote: RemoteStore | None = None
) -> Installed:
    document = (folder / "release.json").read_bytes()
    remote = remote or fleet.remote(direct=False)
    return install(
        document,
        read_envelope(folder / "release.json"),
        target="orin",
        into=fleet.folder / "device",
        source=StoreSource(remote, "the registry"),
        policy=policy,
    )


def test_a_release_comes_from_a_registry(fleet: Fleet, tmp_path: Path, pair: Pair) -> None:
    policy = Policy((pair.public,), "remote")
    made = make_release(tmp_path / "built", signed_by=pair)
    push(fleet, tmp_path / "built", made)
    done = install_from(fleet, tmp_path / "built", policy)
    assert done.received == 2
    assert read_verified(done.folder / VIT, policy) == data_of(VIT)
    fetched = [request.path for request in fleet.proxy.seen("GET", "/blobs/")]
    others = {one.sha256 for one in made.engines if one.target != "orin"}
    assert not any(digest in path for path in fetched for digest in others)


def test_the_next_one_fetches_what_changed(fleet: Fleet, tmp_path: Path, pair: Pair) -> None:
    policy = Policy((pair.public,), "remote")
    push(fleet, tmp_path / "old", make_release(tmp_path / "old", signed_by=pair))
    install_from(fleet, tmp_path / "old", policy)
    made = make_release(tmp_path / "new", versions={"vit": 2}, signed_by=pair)
    push(fleet, tmp_path / "new", made)
    assert install_from(fleet, tmp_path / "new", policy).received == 1
    assert installed(tmp_path / "device", policy=policy).digest == made.digest


def test_nothing_is_installed_from_a_registry_that_lies(
    fleet: Fleet, tmp_path: Path, pair: Pair
) -> None:
    policy = Policy((pair.public,), "remote")
    old = make_release(tmp_path / "old", signed_by=pair)
    push(fleet, tmp_path / "old", old)
    install_from(fleet, tmp_path / "old", policy)
    made = make_release(tmp_path / "new", versions={"vit": 2}, signed_by=pair)
    push(fleet, tmp_path / "new", made)
    (engine,) = (one for one in made.of_target("orin") if one.name == VIT)
    flip_bit(fleet.server.blob(engine.sha256), 7)
    with pytest.raises(EngineryError, match=r"vit|blob"):
        install_from(fleet, tmp_path / "new", policy)
    assert installed(tmp_path / "device", policy=policy).digest == old.digest


def test_an_engine_that_was_pushed_unsigned(fleet: Fleet, tmp_path: Path, pair: Pair) -> None:
    made = make_release(tmp_path / "built", signed_by=pair)
    envelope_path(tmp_path / "built" / VIT).unlink()
    push(fleet, tmp_path / "built", made)
    with pytest.raises(EngineryError, match=r"vit_.* is not signed"):
        install_from(fleet, tmp_path / "built", Policy((pair.public,), "remote"))
    with pytest.raises(EngineryError, match="no release is installed"):
        installed(tmp_path / "device")


def test_an_engine_that_nobody_pushed(fleet: Fleet, tmp_path: Path) -> None:
    make_release(tmp_path / "built")
    with pytest.raises(
        EngineryError, match=r"the registry has no .*, which the release names; push"
    ):
        install_from(fleet, tmp_path / "built", Policy())


def test_a_registry_that_is_down(fleet: Fleet, tmp_path: Path) -> None:
    """What is on the device is installed all the same, where the release needs no more."""
    old = make_release(tmp_path / "old")
    push(fleet, tmp_path / "old", old)
    make_release(tmp_path / "new", versions={"vit": 2})
    install_from(fleet, tmp_path / "old", Policy())
    down = RemoteStore(f"127.0.0.1:{free_port()}/team/engines", scratch=tmp_path / "scratch")
    with pytest.raises(RemoteError):
        install_from(fleet, tmp_path / "new", Policy(), down)
    assert install_from(fleet, tmp_path / "old", Policy(), down).digest == old.digest
