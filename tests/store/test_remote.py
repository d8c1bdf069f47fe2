"""Push and pull against a real registry, with skopeo as the second client."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from registry_server import PASSWORD, USER, login_file, needs_registry, needs_skopeo
from remotes import Fleet, engine_bytes, fleet_in
from stores import fingerprint_of

from enginery.errors import RemoteError, StoreError
from enginery.store.remote import RemoteStore

pytestmark = needs_registry


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with fleet_in(tmp_path, monkeypatch) as made:
        yield made


def test_what_was_pushed_is_found_and_fetched_by_another_machine(fleet: Fleet) -> None:
    pushed = fleet.pushed(1, envelope=b'{"signatures": []}')
    found = fleet.remote().find(pushed.fingerprint)
    assert found == pushed
    assert fleet.pulled(fleet.remote(), pushed.fingerprint) == engine_bytes(1)


def test_an_engine_that_nobody_pushed_is_none(fleet: Fleet) -> None:
    assert fleet.remote().find(fingerprint_of(1)) is None
    fleet.pushed(1)
    assert fleet.remote().find(fingerprint_of(2)) is None


def test_the_second_push_sends_nothing(fleet: Fleet) -> None:
    stored = fleet.pushed(1)
    assert not fleet.remote(direct=False).push(stored, fleet.local.open_blob)
    assert {request.method for request in fleet.proxy.requests} == {"GET", "HEAD"}


def test_an_envelope_that_came_later_is_sent_without_the_engine(fleet: Fleet) -> None:
    fleet.pushed(1)
    signed = fleet.built(1, envelope=b'{"signatures": [1]}')
    assert fleet.remote(direct=False).push(signed, fleet.local.open_blob)
    sent = [int(r.headers["content-length"]) for r in fleet.proxy.seen("PUT", "/blobs/")]
    assert max(sent) < 10_000
    found = fleet.remote().find(signed.fingerprint)
    assert found is not None
    assert found.envelope == b'{"signatures": [1]}'


def test_blobs_go_first_and_the_manifest_last(fleet: Fleet) -> None:
    stored = fleet.built(1)
    fleet.remote(direct=False).push(stored, fleet.local.open_blob)
    writes = [r for r in fleet.proxy.requests if r.method in ("POST", "PUT", "PATCH")]
    assert [r.is_("PUT", "/manifests/") for r in writes] == [False] * (len(writes) - 1) + [True]
    assert fleet.server.tags() == {stored.fingerprint}


def test_a_read_only_store_is_pulled_from_and_not_pushed_to(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    remote = fleet.remote(read_only=True)
    assert fleet.pulled(remote, pushed.fingerprint) == engine_bytes(1)
    with pytest.raises(RemoteError, match="read only"):
        remote.push(fleet.built(2), fleet.local.open_blob)
    assert fleet.server.tags() == {pushed.fingerprint}


def test_a_local_blob_that_rotted_is_not_published(fleet: Fleet) -> None:
    stored = fleet.built(1)
    rotten = bytearray(engine_bytes(1))
    rotten[1_000_000] ^= 1

    def open_blob(blob: object) -> io.BytesIO:
        return io.BytesIO(rotten)

    with pytest.raises(StoreError, match="damaged here"):
        fleet.remote().push(stored, open_blob)  # type: ignore[arg-type]
    assert not fleet.server.blob(stored.engine.sha256_hex).exists()
    assert fleet.server.tags() == set()
    assert fleet.remote().push(stored, fleet.local.open_blob)


def test_a_local_blob_that_is_gone_is_the_stores_fault(fleet: Fleet) -> None:
    stored = fleet.built(1)
    fleet.local.remove(stored.fingerprint)
    with pytest.raises(StoreError):
        fleet.remote().push(stored, fleet.local.open_blob)
    assert fleet.server.tags() == set()


def test_an_output_that_cannot_be_written_is_no_fault_of_the_registry(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    remote = fleet.remote()
    found = remote.find(pushed.fingerprint)
    assert found is not None
    with pytest.raises(FileNotFoundError):
        remote.fetch(found, fleet.folder / "nowhere" / "engine")
    assert fleet.pulled(remote, pushed.fingerprint) == engine_bytes(1)


def test_many_threads_push_and_pull_the_same_engines(fleet: Fleet) -> None:
    stored = [fleet.built(number, engine_bytes(number, 500_000)) for number in range(4)]

    def round_trip(turn: int) -> bool:
        remote = fleet.remote()
        for one in stored[turn % 4 :] + stored[: turn % 4]:
            remote.push(one, fleet.local.open_blob)
            found = remote.find(one.fingerprint)
            assert found is not None
            remote.fetch(found, fleet.folder / f"pulled-{turn}-{one.fingerprint}")
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(round_trip, range(8)))
    for turn in range(8):
        for number, one in enumerate(stored):
            path = fleet.folder / f"pulled-{turn}-{one.fingerprint}"
            assert path.read_bytes() == engine_bytes(number, 500_000)


WORKER = """\
import sys
from pathlib import Path
from enginery.store.layout import LocalStore
from enginery.store.remote import RemoteStore
reference, folder, turn, *fingerprints = sys.argv[1:]
local, remote = LocalStore(Path(folder) / "store"), RemoteStore(reference, scratch=Path(folder) / "scratch")
for fingerprint in fingerprints:
    remote.push(local.find(fingerprint), local.open_blob)
    remote.fetch(remote.find(fingerprint), Path(folder) / f"{turn}-{fingerprint}")
"""


def test_many_processes_push_and_pull_the_same_engines(fleet: Fleet) -> None:
    stored = [fleet.built(number, engine_bytes(number, 500_000)) for number in range(3)]
    command = [sys.executable, "-c", WORKER, fleet.server.reference, str(fleet.folder)]
    names = [one.fingerprint for one in stored]
    processes = [subprocess.Popen([*command, str(turn), *names]) for turn in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    for turn in range(4):
        for number, name in enumerate(names):
            data = (fleet.folder / f"{turn}-{name}").read_bytes()
            assert data == engine_bytes(number, 500_000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_does_not_share_its_parents_connection(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    remote = fleet.remote(direct=False)
    assert remote.find(pushed.fingerprint) is not None
    children = []
    for turn in range(3):
        child = os.fork()
        if not child:
            found = remote.find(pushed.fingerprint)
            good = found is not None and remote.fetch(found, fleet.folder / f"forked-{turn}")
            os._exit(0 if good else 1)
        children.append(child)
    found = remote.find(pushed.fingerprint)
    assert found == pushed
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    for turn in range(3):
        assert (fleet.folder / f"forked-{turn}").read_bytes() == engine_bytes(1)


def test_connections_are_used_again(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    remote = fleet.remote(direct=False)
    for _ in range(3):
        assert fleet.pulled(remote, pushed.fingerprint) == engine_bytes(1)
    challenged = [r for r in fleet.proxy.requests if "authorization" not in r.headers]
    assert len(challenged) == 1


@pytest.mark.parametrize("fault", ["no login", "wrong password"])
def test_without_the_right_login_the_error_says_how_to_get_one(
    fleet: Fleet, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stored = fleet.pushed(1)
    hosts = [fleet.server.host] if fault == "wrong password" else []
    login_file(fleet.folder / "docker", *hosts, password="another-secret")  # noqa: S106
    remote = fleet.remote()
    with pytest.raises(RemoteError, match=f"docker login {fleet.server.host}") as caught:
        remote.find(stored.fingerprint)
    with pytest.raises(RemoteError, match=f"docker login {fleet.server.host}"):
        fleet.remote().push(fleet.built(2), fleet.local.open_blob)
    assert fleet.server.reference in str(caught.value)
    said = caplog.text + str(caught.value)
    assert not any(secret in said for secret in (PASSWORD, "another-secret", USER))


@needs_skopeo
def test_skopeo_reads_what_was_pushed(fleet: Fleet) -> None:
    pushed = fleet.pushed(1, envelope=b'{"signatures": []}')
    source = f"docker://{fleet.server.reference}:{pushed.fingerprint}"
    inspected = skopeo(fleet, "inspect", "--tls-verify=false", source)
    labels = json.loads(inspected)["Labels"]
    assert labels["enginery.fingerprint"] == pushed.fingerprint
    raw = skopeo(fleet, "inspect", "--raw", "--tls-verify=false", source)
    assert raw == pushed.manifest_bytes
    copied = fleet.folder / "copied"
    skopeo(fleet, "copy", "--src-tls-verify=false", source, f"oci:{copied}:{pushed.fingerprint}")
    engine = (copied / "blobs" / "sha256" / pushed.engine.sha256_hex).read_bytes()
    assert engine == engine_bytes(1)


@needs_skopeo
def test_what_skopeo_pushed_is_found_and_fetched(fleet: Fleet) -> None:
    stored = fleet.built(1)
    skopeo(
        fleet,
        "copy",
        "--dest-tls-verify=false",
        f"oci:{fleet.local.root}:{stored.fingerprint}",
        f"docker://{fleet.server.reference}:{stored.fingerprint}",
    )
    assert fleet.remote().find(stored.fingerprint) == stored
    assert fleet.pulled(fleet.remote(), stored.fingerprint) == engine_bytes(1)


def skopeo(fleet: Fleet, *arguments: str) -> bytes:
    # skopeo knows docker's file under the name that podman gives it
    environment = {**os.environ, "REGISTRY_AUTH_FILE": str(fleet.folder / "docker/config.json")}
    return subprocess.run(
        ["skopeo", *arguments], env=environment, check=True, stdout=subprocess.PIPE, timeout=60
    ).stdout


@pytest.mark.parametrize(
    "text",
    [
        "",
        "engines",
        "team/engines",
        "https://registry.example.com/team/engines",
        "registry.example.com",
        "registry.example.com/",
        "registry.example.com/Team/Engines",
        "registry.example.com/team/engines:latest",
        "registry.example.com/team/../engines",
        "registry.example.com/team//engines",
        "registry.example.com:port/engines",
        "registry.example.com/engines\nX: y",
        f"registry.example.com/{'a' * 300}",
    ],
)
def test_a_reference_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="names no repository"):
        RemoteStore(text, scratch=tmp_path)


def test_a_password_in_a_reference_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="names no repository") as caught:
        RemoteStore("me:hush@registry.example.com/engines", scratch=tmp_path)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "insecure", "url"),
    [
        (
            "registry.example.com/team/engines",
            False,
            "https://registry.example.com/v2/team/engines",
        ),
        ("registry.example.com:5000/e", True, "http://registry.example.com:5000/v2/e"),
        ("localhost:5000/e", False, "http://localhost:5000/v2/e"),
        ("localhost/e", False, "http://localhost/v2/e"),
        ("127.1.2.3:5000/e", False, "http://127.1.2.3:5000/v2/e"),
        ("[::1]:5000/e", False, "http://[::1]:5000/v2/e"),
        ("localhost.example.com/e", False, "https://localhost.example.com/v2/e"),
        ("10.0.0.1:5000/e", False, "https://10.0.0.1:5000/v2/e"),
        ("docker.io/team/e", False, "https://registry-1.docker.io/v2/team/e"),
    ],
)
def test_tls_is_used_unless_it_is_this_machine(
    text: str, insecure: bool, url: str, tmp_path: Path
) -> None:
    remote = RemoteStore(text, scratch=tmp_path, insecure=insecure)
    assert remote.reference.url == url
    assert str(remote.reference) == text


def test_a_fingerprint_that_is_none_is_not_asked_for(tmp_path: Path) -> None:
    remote = RemoteStore("localhost:1/e", scratch=tmp_path)
    with pytest.raises(RemoteError, match="no fingerprint"):
        remote.find("../../x")


def test_without_urllib3_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("enginery.store.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "urllib3", None)
    from enginery.store.remote import RemoteStore as Fresh

    with pytest.raises(RemoteError, match=r"enginery\[store\]"):
        Fresh("localhost:5000/e", scratch=tmp_path)
