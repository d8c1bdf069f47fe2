"""Whatever a registry does: never a wrong engine, seconds lost at the most, and a clear error."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from registry_server import (
    BASIC,
    PASSWORD,
    REPOSITORY,
    Handler,
    Proxy,
    needs_registry,
    proxy_to,
)
from remotes import Fleet, engine_bytes, fleet_in
from stores import fingerprint_of

from enginery.errors import RemoteError
from enginery.store.manifest import MANIFEST, Stored
from enginery.store.remote import RemoteStore

# The bar is 5 s for a build that need not have asked.
LOST_S = 5.0
# Where a test only has to see that patience ends, it need not last.
SHORT_S = 1.0


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with fleet_in(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A server that has a fault for everything, and no registry behind it."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with proxy_to() as proxy:
        yield proxy


@contextmanager
def quickly(seconds: float = LOST_S) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def refuses(
    remote: RemoteStore, match: str, *, fingerprint: str | None = None, seconds: float = LOST_S
) -> str:
    """That an engine is not found, in time, and what the error says."""
    with quickly(seconds), pytest.raises(RemoteError, match=match) as caught:
        remote.find(fingerprint or fingerprint_of(1))
    said = str(caught.value)
    assert str(remote.reference) in said
    assert PASSWORD not in said
    assert BASIC not in said
    return said


def remote_at(host: str, tmp_path: Path, patience_s: float = SHORT_S) -> RemoteStore:
    return RemoteStore(f"{host}/{REPOSITORY}", scratch=tmp_path / "scratch", patience_s=patience_s)


# --- a registry that is not there, or slow


def test_a_registry_that_is_down_costs_little_and_only_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    remote = RemoteStore(f"127.0.0.1:{port}/engines", scratch=tmp_path)
    assert not remote.given_up
    refuses(remote, r"no connection \(Connection refused\): is it up")
    assert remote.given_up
    for number in range(2, 100):
        refuses(remote, "no connection", fingerprint=fingerprint_of(number), seconds=0.1)


def test_a_host_that_swallows_packets_costs_no_more_than_the_bar(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:  # they fill the queue: whoever comes next gets no answer at all
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        refuses(RemoteStore(f"{host}/engines", scratch=tmp_path), "no answer|no connection")
        for one in waiting:
            one.close()


def test_a_name_service_that_hangs_costs_no_more_than_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def hangs(*arguments: object, **settings: object) -> list[object]:
        asked.set()
        time.sleep(3)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    refuses(remote_at("registry.example.com", tmp_path), "no answer", seconds=SHORT_S + 0.8)
    assert asked.is_set()


def test_a_name_that_does_not_resolve_is_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object, **settings: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    refuses(remote_at("registry.example.com", tmp_path, 4.0), "cannot be resolved")


def silent(handler: Handler) -> None:
    time.sleep(3)
    handler.cut()


def drips_headers(handler: Handler) -> None:
    for character in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 20:
        handler.wfile.write(bytes((character,)))
        time.sleep(0.2)
    handler.cut()


def drips_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", MANIFEST)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    for _ in range(20):
        handler.wfile.write(b" ")
        time.sleep(0.2)
    handler.cut()


@pytest.mark.parametrize("act", [silent, drips_headers, drips_body])
def test_a_slow_registry_is_given_up(
    alone: Proxy, tmp_path: Path, act: Callable[[Handler], None]
) -> None:
    alone.fail("GET", "", act)
    remote = remote_at(alone.host, tmp_path)
    refuses(remote, "no answer and no progress for 1 s", seconds=SHORT_S + 0.8)
    refuses(remote, "no answer", seconds=0.1)


def test_the_default_patience_keeps_the_bar(alone: Proxy, tmp_path: Path) -> None:
    alone.fail("GET", "", drips_headers)
    refuses(RemoteStore(alone.reference, scratch=tmp_path), "no answer")


def test_a_certificate_or_none_is_an_error_that_says_tls(
    alone: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def to_loopback(host: str, *rest: object, **more: object) -> object:
        return resolve("127.0.0.1" if host == "registry.example.com" else host, *rest, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(socket, "getaddrinfo", to_loopback)
    host = f"registry.example.com:{alone.port}"
    refuses(remote_at(host, tmp_path, 4.0), "TLS failed")
    assert alone.requests == []


# --- a registry that answers, but not with an engine


def answers(status: int, body: bytes = b"", **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(status, body, **headers)


def babble(handler: Handler) -> None:
    handler.wfile.write(os.urandom(3000))
    handler.cut()


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", MANIFEST)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


ERRORS = json.dumps({"errors": [{"code": "DENIED", "message": f"your login {PASSWORD}"}]}).encode()


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (answers(401), "login of a kind unknown"),
        (answers(401, WWW_Authenticate="Negotiate"), "login of a kind unknown"),
        (answers(401, WWW_Authenticate='Basic realm="x"'), "docker login"),
        (answers(401, WWW_Authenticate='Bearer realm="nowhere:/"'), "the connection failed"),
        (answers(403, ERRORS), r"does not let this login pull \(403 DENIED\)"),
        (answers(429, Retry_After="60"), r"asked too often \(429\): try again in 60 s"),
        (answers(429, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), "asked too often"),
        (answers(429), r"asked too often \(429\): try again later"),
        (answers(500, ERRORS), r"trouble of its own \(500 DENIED\)"),
        (answers(503), r"trouble of its own \(503\)"),
        (answers(418), r"refuses to pull \(418\)"),
        (answers(204), r"refuses to pull \(204\)"),
        (answers(301), r"refuses to pull \(301\)"),
        (answers(200, b"<html>", Content_Type="text/html"), "web page"),
        (answers(404, b"<html>", Content_Type="text/html; charset=utf-8"), "web page"),
        (answers(200, b"{}", Content_Type=MANIFEST), "malformed"),
        (answers(200, b"\xff\xfe", Content_Type=MANIFEST), "malformed"),
        (answers(200, b"[" * 100_000, Content_Type=MANIFEST), "malformed"),
        (answers(200, b" " * (5 << 20), Content_Type=MANIFEST), "more than 4194304 bytes"),
        (endless, "more than 4194304 bytes"),
        (answers(200, b"{}", Content_Type=MANIFEST, Docker_Content_Digest=f"sha256:{'0' * 64}"), "damaged on its way"),
        (answers(200, b"{}", Content_Type=MANIFEST, Content_Length="30"), "broke|no answer"),
        (answers(200, b"{}", Content_Type=MANIFEST, Content_Length="nonsense"), "no answer|broke"),
        (answers(307, Location="/v2/elsewhere"), "redirects without end"),
        (answers(307, Location="ftp://registry.example.com/x"), "place without TLS"),
        (answers(307, Location="http://[broken/"), "place without TLS"),
        (answers(307, Location="http://127.0.0.1:1/x"), "no connection"),
        (babble, "broke|no answer"),
        (Handler.cut, "broke"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_an_error(
    alone: Proxy, tmp_path: Path, act: Callable[[Handler], None], match: str
) -> None:
    alone.fail("GET", "", act)
    refuses(remote_at(alone.host, tmp_path), match, seconds=SHORT_S + 0.8)


@needs_registry
@pytest.mark.parametrize(
    "act", [answers(500), answers(503), answers(429, Retry_After="1"), Handler.cut]
)
def test_what_goes_wrong_once_or_twice_is_tried_again(
    fleet: Fleet, act: Callable[[Handler], None]
) -> None:
    pushed = fleet.pushed(1)
    for path in ("/manifests/", "/blobs/"):
        fleet.proxy.fail("GET", path, act, times=1)
    assert fleet.pulled(fleet.remote(direct=False), pushed.fingerprint) == engine_bytes(1)
    fleet.proxy.fail("POST", "", act, times=1)
    fleet.proxy.fail("PUT", "/manifests/", act, times=1)
    assert fleet.remote(direct=False).push(fleet.built(2), fleet.local.open_blob)


# --- a registry whose storage was tampered with


def wrong_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def long(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@needs_registry
@pytest.mark.parametrize("tamper", [wrong_byte, short, long, empty, Path.unlink])
def test_a_tampered_engine_is_refused(fleet: Fleet, tamper: Callable[[Path], None]) -> None:
    pushed = fleet.pushed(1)
    tamper(fleet.server.blob(pushed.engine.sha256_hex))
    remote = fleet.remote()
    with quickly(), pytest.raises(RemoteError, match=r"damaged|missing|ended early") as caught:
        fleet.pulled(remote, pushed.fingerprint)
    assert fleet.server.reference in str(caught.value)
    assert not (fleet.folder / "pulled").exists()
    assert not remote.given_up  # what is wrong with one engine is nothing about the next
    other = fleet.pushed(2)
    assert fleet.pulled(remote, other.fingerprint) == engine_bytes(2)


@needs_registry
@pytest.mark.parametrize("tamper", [wrong_byte, short, long, empty, Path.unlink])
def test_a_tampered_document_is_refused(fleet: Fleet, tamper: Callable[[Path], None]) -> None:
    pushed = fleet.pushed(1)
    (_, provenance) = pushed.manifest.layers
    tamper(fleet.server.blob(provenance.sha256_hex))
    refuses(fleet.remote(), "damaged|missing|bytes", fingerprint=pushed.fingerprint)


@needs_registry
def test_a_tampered_manifest_is_refused(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    wrong_byte(fleet.server.blob(pushed.described.sha256_hex))
    refuses(fleet.remote(), "damaged|trouble|refuses", fingerprint=pushed.fingerprint)


@needs_registry
def test_a_manifest_for_another_fingerprint_is_refused(fleet: Fleet) -> None:
    first, second = fleet.pushed(1), fleet.pushed(2)
    put = fleet.remote()
    fleet.server.link(first.fingerprint).write_text(f"sha256:{second.described.sha256_hex}")
    refuses(put, "another fingerprint", fingerprint=first.fingerprint)
    assert fleet.pulled(put, second.fingerprint) == engine_bytes(2)


@needs_registry
def test_a_short_blob_is_not_taken_for_one_that_is_there(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    short(fleet.server.blob(pushed.engine.sha256_hex))
    with pytest.raises(RemoteError, match="keeps something else as blob"):
        fleet.remote().push(pushed, fleet.local.open_blob)
    fleet.server.blob(pushed.engine.sha256_hex).unlink()
    assert fleet.remote().push(pushed, fleet.local.open_blob)
    assert fleet.pulled(fleet.remote(), pushed.fingerprint) == engine_bytes(1)


# --- a connection that breaks while an engine comes in


def cut_after(size: int) -> Callable[[Handler], None]:
    return lambda handler: handler.pass_on(at_most=size)


def engine_path(stored: Stored) -> str:
    return f"/blobs/{re.escape(stored.engine.digest)}"


@needs_registry
def test_a_download_that_breaks_goes_on_where_it_was(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    fleet.proxy.fail("GET", engine_path(pushed), cut_after(1_000_000), times=2)
    assert fleet.pulled(fleet.remote(direct=False), pushed.fingerprint) == engine_bytes(1)
    ranges = [r.headers.get("range") for r in fleet.proxy.seen("GET", engine_path(pushed))]
    assert ranges == [None, "bytes=1000000-", "bytes=2000000-"]


@needs_registry
def test_a_download_that_breaks_all_the_time_gets_there_as_long_as_it_moves(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    fleet.proxy.fail("GET", engine_path(pushed), cut_after(400_000), times=7)
    assert fleet.pulled(fleet.remote(direct=False), pushed.fingerprint) == engine_bytes(1)


@needs_registry
def test_a_download_that_does_not_move_is_given_up(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    fleet.proxy.fail("GET", engine_path(pushed), cut_after(1000))
    with quickly(), pytest.raises(RemoteError, match=r"broke|no progress"):
        fleet.pulled(fleet.remote(direct=False, patience_s=SHORT_S), pushed.fingerprint)
    assert not (fleet.folder / "pulled").exists()


def without_ranges(cut: int | None) -> Callable[[Handler], None]:
    def act(handler: Handler) -> None:
        del handler.headers["Range"]
        handler.pass_on(at_most=cut)

    return act


@needs_registry
def test_a_server_without_ranges_sends_it_all_again(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    path = engine_path(pushed)
    fleet.proxy.fail("GET", path, without_ranges(2_000_000), times=2)
    fleet.proxy.fail("GET", path, without_ranges(None))
    assert fleet.pulled(fleet.remote(direct=False), pushed.fingerprint) == engine_bytes(1)


@needs_registry
def test_a_server_without_ranges_that_always_breaks_is_given_up(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    fleet.proxy.fail("GET", engine_path(pushed), without_ranges(2_000_000))
    with pytest.raises(RemoteError, match="broke"):
        fleet.pulled(fleet.remote(direct=False, patience_s=SHORT_S), pushed.fingerprint)


@needs_registry
@pytest.mark.parametrize(
    "content_range", ["bytes 0-9/10", "bytes 1000001-2999999/3000000", "", "x"]
)
def test_another_range_than_was_asked_for_is_not_believed(fleet: Fleet, content_range: str) -> None:
    pushed = fleet.pushed(1)
    path = engine_path(pushed)
    rest = engine_bytes(1)[1_000_001:]
    fleet.proxy.fail("GET", path, cut_after(1_000_000), times=1)
    fleet.proxy.fail("GET", path, answers(206, rest, Content_Range=content_range), times=1)
    assert fleet.pulled(fleet.remote(direct=False), pushed.fingerprint) == engine_bytes(1)


@needs_registry
def test_an_engine_that_goes_on_with_other_bytes_is_refused(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    path = engine_path(pushed)
    rest = bytes(2_000_000)
    fleet.proxy.fail("GET", path, cut_after(1_000_000), times=1)
    good = "bytes 1000000-2999999/3000000"
    fleet.proxy.fail("GET", path, answers(206, rest, Content_Range=good))
    with pytest.raises(RemoteError, match="damaged"):
        fleet.pulled(fleet.remote(direct=False), pushed.fingerprint)


def stall_after(size: int) -> Callable[[Handler], None]:
    def act(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "3000000")
        handler.end_headers()
        handler.wfile.write(engine_bytes(1)[:size])
        time.sleep(3)
        handler.cut()

    return act


def trickle_after(size: int) -> Callable[[Handler], None]:
    def act(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "3000000")
        handler.end_headers()
        handler.wfile.write(engine_bytes(1)[:size])
        for byte in engine_bytes(1)[size : size + 40]:
            handler.wfile.write(bytes((byte,)))
            time.sleep(0.1)
        handler.cut()

    return act


@needs_registry
@pytest.mark.parametrize("act", [stall_after(2_000_000), trickle_after(2_000_000)])
def test_a_download_that_stalls_is_given_up_and_goes_on_another_day(
    fleet: Fleet, act: Callable[[Handler], None]
) -> None:
    pushed = fleet.pushed(1)
    path = engine_path(pushed)
    fleet.proxy.fail("GET", path, act, times=1)
    with quickly(SHORT_S + 1.5), pytest.raises(RemoteError, match="no progress for 1 s"):
        fleet.pulled(fleet.remote(direct=False, patience_s=SHORT_S), pushed.fingerprint)
    assert not (fleet.folder / "pulled").exists()
    assert fleet.pulled(fleet.remote(direct=False), pushed.fingerprint) == engine_bytes(1)
    (_, second) = fleet.proxy.seen("GET", path)
    start = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert start >= 2_000_000
    assert list((fleet.folder / "scratch").iterdir()) == []


@needs_registry
def test_without_a_folder_for_it_nothing_is_kept(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    fleet.proxy.fail("GET", engine_path(pushed), cut_after(2_000_000), times=1)
    fleet.proxy.fail("GET", engine_path(pushed), answers(500))
    before = set(fleet.folder.iterdir())
    remote = RemoteStore(fleet.proxy.reference, scratch=None, patience_s=SHORT_S)
    with pytest.raises(RemoteError):
        fleet.pulled(remote, pushed.fingerprint)
    fleet.proxy.faults.clear()
    remote = RemoteStore(fleet.proxy.reference, scratch=None)
    assert fleet.pulled(remote, pushed.fingerprint) == engine_bytes(1)
    assert {path.name for path in set(fleet.folder.iterdir()) - before} == {"pulled"}


@needs_registry
def test_what_nobody_came_back_for_goes(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    scratch = fleet.folder / "scratch"
    scratch.mkdir()
    old, new, other = (
        scratch / name for name in (f"{'0' * 64}.partial", f"{'1' * 64}.partial", "x.partial")
    )
    for path in (old, new, other):
        path.write_bytes(b"x")
    for path in (old, other):
        os.utime(path, (0, 0))
    fleet.proxy.fail("GET", engine_path(pushed), cut_after(2_000_000), times=1)
    fleet.proxy.fail("GET", engine_path(pushed), answers(500))
    with pytest.raises(RemoteError):
        fleet.pulled(fleet.remote(direct=False, patience_s=SHORT_S), pushed.fingerprint)
    assert {path.name for path in scratch.iterdir()} == {
        new.name,
        other.name,
        f"{pushed.engine.sha256_hex}.partial",
    }


def parked(fleet: Fleet, stored: Stored, data: bytes) -> None:
    folder = fleet.folder / "scratch"
    folder.mkdir(exist_ok=True)
    (folder / f"{stored.engine.sha256_hex}.partial").write_bytes(data)


@needs_registry
@pytest.mark.parametrize(
    "data",
    [bytes(2_000_000), bytes(3_000_000), bytes(4_000_000), b"", engine_bytes(1)],
    ids=["wrong", "wrong and whole", "too long", "empty", "whole"],
)
def test_what_was_parked_is_not_believed(fleet: Fleet, data: bytes) -> None:
    pushed = fleet.pushed(1)
    parked(fleet, pushed, data)
    assert fleet.pulled(fleet.remote(), pushed.fingerprint) == engine_bytes(1)


@needs_registry
def test_what_was_parked_as_a_symlink_is_left_alone(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    other = fleet.folder / "other"
    other.write_bytes(b"precious")
    (fleet.folder / "scratch").mkdir()
    (fleet.folder / "scratch" / f"{pushed.engine.sha256_hex}.partial").symlink_to(other)
    assert fleet.pulled(fleet.remote(), pushed.fingerprint) == engine_bytes(1)
    assert other.read_bytes() == b"precious"


# --- where credentials go


@needs_registry
def test_credentials_do_not_follow_a_blob_to_another_host(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    with proxy_to() as bucket:
        target = f"http://localhost:{bucket.port}/bucket/engine?X-Amz-Signature=abc"
        fleet.proxy.fail("GET", engine_path(pushed), answers(307, Location=target))
        bucket.fail("GET", "/bucket/engine", lambda handler: send_range(handler, cut=1_500_000))
        assert fleet.pulled(fleet.remote(direct=False), pushed.fingerprint) == engine_bytes(1)
        assert [r.headers.get("range") for r in bucket.requests] == [None, "bytes=1500000-"]
        assert not any("authorization" in r.headers for r in bucket.requests)
        assert BASIC not in str(bucket.requests)


def send_range(handler: Handler, *, cut: int) -> None:
    """A bucket that breaks once."""
    data = engine_bytes(1)
    asked = handler.headers.get("Range")
    if asked is None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:cut])
        handler.cut()
        return
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    content_range = f"bytes {start}-{len(data) - 1}/{len(data)}"
    handler.answer(206, data[start:], Content_Range=content_range)


@needs_registry
def test_a_bucket_that_refuses_is_an_error_without_its_address(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    with proxy_to() as bucket:
        target = f"http://localhost:{bucket.port}/bucket/engine?X-Amz-Signature=abc"
        fleet.proxy.fail("GET", engine_path(pushed), answers(307, Location=target))
        bucket.fail(
            "GET", "", answers(403, b"<Error>expired</Error>", Content_Type="application/xml")
        )
        with pytest.raises(RemoteError, match="403") as caught:
            fleet.pulled(fleet.remote(direct=False), pushed.fingerprint)
    assert "abc" not in str(caught.value)
    assert "bucket" not in str(caught.value)


def test_a_redirect_from_tls_to_a_place_without_it_is_refused(tmp_path: Path) -> None:
    from enginery.store.reference import Reference
    from enginery.store.transport import Transport

    base = "https://registry.example.com/v2/e/blobs/x"
    transport = Transport(Reference.parse("registry.example.com/e"))
    assert transport.resolve("/v2/e/y", base) == "https://registry.example.com/v2/e/y"
    assert transport.resolve("https://bucket.example.com/y", base).startswith("https://bucket")
    for target in ("http://registry.example.com/y", "http://bucket.example.com/", "file:///etc/x"):
        with pytest.raises(RemoteError, match="without TLS"):
            transport.resolve(target, base)


# --- a registry that wants a token


@contextmanager
def token_service(proxy: Proxy, *, lasts: int = 1000) -> Iterator[Proxy]:
    """Stand a token service before the registry, as Docker's, GitHub's and Harbor's have one."""
    issued: dict[str, list[int]] = {}

    with proxy_to() as service:
        challenge = f'Bearer realm="http://127.0.0.1:{service.port}/token",service="tests"'

        def issue(handler: Handler) -> None:
            form = handler.body().decode()
            given = f"{handler.path} {form}"
            allowed = handler.headers.get("Authorization") == f"Basic {BASIC}"
            if not allowed and "refresh_token=refresh" not in form:
                handler.answer(401)
                return
            token = f"token-{len(issued)}"
            rights = "push" if "push" in given else "pull"
            issued[token] = [lasts, rights == "push"]
            handler.answer(200, json.dumps({"access_token": token, "expires_in": 60}).encode())

        def check(handler: Handler) -> None:
            token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
            left, may_push = issued.get(token, [0, 0])
            if left <= 0 or (handler.command not in ("GET", "HEAD") and not may_push):
                handler.body()
                scope = f"repository:{REPOSITORY}:pull"
                handler.answer(401, WWW_Authenticate=f'{challenge},scope="{scope}"')
                return
            issued[token][0] -= 1
            handler.headers.replace_header("Authorization", f"Basic {BASIC}")
            handler.pass_on()

        service.fail("GET", "/token", issue)
        service.fail("POST", "/token", issue)
        for method in ("GET", "HEAD", "PUT", "POST", "PATCH"):
            proxy.fail(method, "/v2/", check)
        yield service


@needs_registry
@pytest.mark.parametrize("lasts", [1000, 1, 2, 3])
def test_a_token_is_asked_for_and_renewed_when_it_is_over(fleet: Fleet, lasts: int) -> None:
    with token_service(fleet.proxy, lasts=lasts) as service:
        stored = fleet.built(1)
        assert fleet.remote(direct=False).push(stored, fleet.local.open_blob)
        assert fleet.pulled(fleet.remote(direct=False), stored.fingerprint) == engine_bytes(1)
        assert all("service=tests" in r.path for r in service.requests)
        asked = {r.path.partition("scope=")[2].partition("&")[0] for r in service.requests}
        prefix = "repository%3Ateam%2Fengines%3A"
        assert asked == {f"{prefix}pull%2Cpush", f"{prefix}pull"}
    assert not any(BASIC in str(r.headers) for r in fleet.proxy.requests)


@needs_registry
def test_an_identity_token_is_exchanged(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    entry = {"auth": "", "identitytoken": "refresh"}
    config = {"auths": {fleet.proxy.host: entry}}
    (fleet.folder / "docker" / "config.json").write_text(json.dumps(config))
    with token_service(fleet.proxy) as service:
        assert fleet.pulled(fleet.remote(direct=False), pushed.fingerprint) == engine_bytes(1)
        assert {r.method for r in service.requests} == {"POST"}


@needs_registry
@pytest.mark.parametrize(
    ("act", "match"),
    [
        (answers(401), "does not take the login from"),
        (answers(500), "gave no token"),
        (answers(200, b"{}"), "gave no token"),
        (answers(200, b"nonsense"), "gave no token"),
        (answers(200, b'{"token": "a\\r\\nX: y"}'), "gave no token"),
        (answers(200, b" " * (2 << 20)), "more than 1048576 bytes"),
        (Handler.cut, "broke"),
        (silent, "no answer"),
    ],
)
def test_a_token_service_that_is_of_no_use_is_an_error(
    fleet: Fleet, act: Callable[[Handler], None], match: str
) -> None:
    with token_service(fleet.proxy) as service:
        service.faults.clear()
        service.fail("GET", "", act)
        remote = fleet.remote(direct=False, patience_s=SHORT_S)
        refuses(remote, match)
        refuses(remote, match, seconds=0.1)


def test_a_login_is_not_sent_without_tls_to_a_service_of_a_registry_with_it() -> None:
    from enginery.store.authorization import PULL, Authorization
    from enginery.store.reference import Reference

    def ask(*arguments: object) -> tuple[int, bytes]:
        raise AssertionError("the login was sent")

    authorization = Authorization(Reference.parse("registry.example.com/e"))
    challenge = 'Bearer realm="http://registry.example.com/token",service="x"'
    with pytest.raises(RemoteError, match="without TLS: refused"):
        authorization.answer([challenge], PULL, ask, timeout=1.0)
    assert authorization.header(PULL) is None


# --- proxies


@needs_registry
def test_a_proxy_from_the_environment_is_used_with_its_login(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = fleet.pushed(1)
    host = "registry.example.com:5000"
    config = json.dumps({"auths": {host: {"auth": BASIC}}})
    (fleet.folder / "docker" / "config.json").write_text(config)

    def through(handler: Handler) -> None:
        handler.path = handler.path.removeprefix(f"http://{host}")
        handler.pass_on()

    fleet.proxy.fail("GET", f"^http://{host}/v2/", through)
    monkeypatch.setenv("http_proxy", f"http://me:hush@{fleet.proxy.host}")
    monkeypatch.setenv("no_proxy", "")
    settings = {"scratch": fleet.folder / "scratch", "insecure": True}
    remote = RemoteStore(f"{host}/{REPOSITORY}", **settings)  # type: ignore[arg-type]
    assert fleet.pulled(remote, pushed.fingerprint) == engine_bytes(1)
    assert all("proxy-authorization" in r.headers for r in fleet.proxy.requests)
    monkeypatch.setenv("http_proxy", "http://me:hush@127.0.0.1:1")
    remote = RemoteStore(f"{host}/{REPOSITORY}", **settings)  # type: ignore[arg-type]
    assert "hush" not in refuses(remote, "proxy")


# --- a connection that breaks while an engine goes out


def cut_upload(size: int) -> Callable[[Handler], None]:
    """Take so much of a body, hand it to the registry, and break off."""

    def act(handler: Handler) -> None:
        port = handler.proxy.upstream
        lines = [f"{handler.command} {handler.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in handler.headers.items()]
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            upstream.sendall("\r\n".join([*lines, "", ""]).encode())
            upstream.sendall(handler.rfile.read(size))
            time.sleep(0.2)
        time.sleep(0.2)
        handler.cut()

    return act


@needs_registry
def test_an_upload_that_breaks_starts_anew_where_nobody_remembers_it(fleet: Fleet) -> None:
    # docker-registry 2.8 forgets an upload whose size is not what its last answer said.
    stored = fleet.built(1)
    fleet.proxy.fail("PATCH", "/blobs/uploads/", cut_upload(2_000_000), times=2)
    assert fleet.remote(direct=False).push(stored, fleet.local.open_blob)
    assert len(fleet.proxy.seen("GET", "/blobs/uploads/")) == 2
    ranges = [r.headers["content-range"] for r in fleet.proxy.seen("PATCH", "")]
    assert ranges[:3] == ["0-2999999"] * 3
    assert fleet.pulled(fleet.remote(), stored.fingerprint) == engine_bytes(1)


def remember(fleet: Fleet, size: int) -> None:
    """Stand in for a registry that does remember: the first bytes of a PATCH are one of their own."""
    located: list[str] = []

    def first_part(handler: Handler) -> None:
        body = handler.rfile.read(size)
        headers = dict(handler.headers.items()) | {
            "Content-Length": str(size),
            "Content-Range": f"0-{size - 1}",
        }
        upstream = http.client.HTTPConnection("127.0.0.1", handler.proxy.upstream)
        upstream.request("PATCH", handler.path, body, headers)
        answer = upstream.getresponse()
        assert answer.status == 202
        located.append(answer.headers["Location"].replace(fleet.server.host, fleet.proxy.host))
        upstream.close()
        handler.cut()

    def status(handler: Handler) -> None:
        handler.answer(204, Range=f"0-{size - 1}", Location=located[-1])

    fleet.proxy.fail("PATCH", "/blobs/uploads/", first_part, times=1)
    fleet.proxy.fail("GET", "/blobs/uploads/", status)


@needs_registry
def test_an_upload_that_breaks_goes_on_where_somebody_remembers_it(fleet: Fleet) -> None:
    stored = fleet.built(1)
    remember(fleet, 2_000_000)
    assert fleet.remote(direct=False).push(stored, fleet.local.open_blob)
    ranges = [r.headers["content-range"] for r in fleet.proxy.seen("PATCH", "")]
    assert ranges[:2] == ["0-2999999", "2000000-2999999"]
    assert fleet.pulled(fleet.remote(), stored.fingerprint) == engine_bytes(1)


@needs_registry
def test_an_upload_whose_last_answer_was_lost_is_not_sent_again(fleet: Fleet) -> None:
    stored = fleet.built(1)

    def done_but_unheard(handler: Handler) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", handler.proxy.upstream)
        upstream.request("PUT", handler.path, handler.body(), dict(handler.headers.items()))
        assert upstream.getresponse().status == 201
        upstream.close()
        handler.cut()

    fleet.proxy.fail("PUT", "/blobs/uploads/", done_but_unheard, times=1)
    assert fleet.remote(direct=False).push(stored, fleet.local.open_blob)
    sent = [r.headers["content-range"] for r in fleet.proxy.seen("PATCH", "")]
    assert sent.count("0-2999999") == 1
    assert fleet.pulled(fleet.remote(), stored.fingerprint) == engine_bytes(1)


def limited(handler: Handler) -> None:
    """A proxy that takes requests of 8 MiB at the most, and reads no further."""
    if int(handler.headers.get("Content-Length", "0")) > 8 << 20:
        del handler.headers["Content-Length"]
        handler.answer(413, b"too large", Connection="close")
        handler.cut()
    else:
        handler.pass_on()


@needs_registry
def test_where_a_request_may_not_be_large_it_goes_in_chunks(fleet: Fleet) -> None:
    data = engine_bytes(1, 20_000_000)
    stored = fleet.built(1, data)
    fleet.proxy.fail("PATCH", "/blobs/uploads/", limited)
    assert fleet.remote(direct=False).push(stored, fleet.local.open_blob)
    ranges = [r.headers["content-range"] for r in fleet.proxy.seen("PATCH", "")]
    assert ranges[1:4] == ["0-8388607", "8388608-16777215", "16777216-19999999"]
    assert fleet.pulled(fleet.remote(), stored.fingerprint) == data


@needs_registry
def test_a_chunk_that_breaks_is_sent_again(fleet: Fleet) -> None:
    data = engine_bytes(1, 20_000_000)
    stored = fleet.built(1, data)
    chunks = iter((1, 2))

    def second_breaks(handler: Handler) -> None:
        small = int(handler.headers.get("Content-Length", "0")) <= 8 << 20
        if small and next(chunks, 0) == 2:
            cut_upload(1_000_000)(handler)
        else:
            limited(handler)

    fleet.proxy.fail("PATCH", "/blobs/uploads/", second_breaks)
    assert fleet.remote(direct=False).push(stored, fleet.local.open_blob)
    assert fleet.pulled(fleet.remote(), stored.fingerprint) == data


@needs_registry
@pytest.mark.parametrize(
    ("method", "act", "match"),
    [
        ("POST", answers(403, ERRORS), r"does not let this login push \(403 DENIED\)"),
        ("POST", answers(404), "no such repository"),
        ("POST", answers(500), "trouble of its own"),
        ("POST", answers(202), "does not say where"),
        ("POST", silent, "no answer"),
        ("PATCH", answers(413), "takes no chunk of 8388608 bytes"),
        ("PATCH", answers(500), "trouble of its own"),
        ("PATCH", Handler.cut, "broke"),
        ("PUT", answers(500), "trouble of its own"),
        ("PUT", answers(400), r"refuses to push \(400\)"),
        ("PUT", silent, "stopped answering|no answer"),
        ("PUT", Handler.cut, "broke"),
        ("HEAD", answers(500), "trouble of its own"),
    ],
)
def test_a_push_that_fails_leaves_no_manifest(
    fleet: Fleet, method: str, act: Callable[[Handler], None], match: str
) -> None:
    stored = fleet.built(1, engine_bytes(1, 100_000))
    fleet.proxy.fail(method, "", act)
    remote = fleet.remote(direct=False, patience_s=SHORT_S)
    with quickly(), pytest.raises(RemoteError, match=match) as caught:
        remote.push(stored, fleet.local.open_blob)
    assert fleet.proxy.reference in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert fleet.server.tags() == set()
    with quickly(0.3), pytest.raises(RemoteError):
        remote.push(stored, fleet.local.open_blob)
    fleet.proxy.faults.clear()
    assert fleet.remote(direct=False).push(stored, fleet.local.open_blob)


@needs_registry
def test_who_may_not_push_may_still_pull(fleet: Fleet) -> None:
    pushed = fleet.pushed(1)
    fleet.proxy.fail("POST", "", answers(403))
    remote = fleet.remote(direct=False)
    with pytest.raises(RemoteError, match="403"):
        remote.push(fleet.built(2), fleet.local.open_blob)
    assert fleet.pulled(remote, pushed.fingerprint) == engine_bytes(1)
