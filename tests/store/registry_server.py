"""A real registry on loopback, its storage on the disk, and a proxy before it that misbehaves."""

from __future__ import annotations

import base64
import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REPOSITORY = "team/engines"
USER = "tester"
PASSWORD = "secret-of-tests"  # noqa: S105
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
# `htpasswd -nbB tester secret-of-tests`, at the lowest cost
HTPASSWD = f"{USER}:$2b$04$S2jOG2Fz4eglBfNRusbL2umKaX1ckTu0COCKSgAWxeWuVWwRiOdzi\n"

CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/storage}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}", secret: of-tests}}
{auth}
"""
AUTH = "auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}"

needs_registry = pytest.mark.skipif(
    shutil.which("docker-registry") is None, reason="docker-registry is not installed"
)
needs_skopeo = pytest.mark.skipif(
    shutil.which("skopeo") is None or shutil.which("docker-registry") is None,
    reason="skopeo or docker-registry is not installed",
)


@dataclass(frozen=True)
class Server:
    """A registry that runs."""

    folder: Path
    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def reference(self) -> str:
        return f"{self.host}/{REPOSITORY}"

    def blob(self, sha256_hex: str) -> Path:
        """The file that the registry keeps a blob in."""
        blobs = self.folder / "storage/docker/registry/v2/blobs/sha256"
        return blobs / sha256_hex[:2] / sha256_hex / "data"

    def tags(self) -> set[str]:
        return {path.name for path in self._tags.iterdir()} if self._tags.is_dir() else set()

    def link(self, tag: str) -> Path:
        """The file that says which manifest a tag means."""
        return self._tags / tag / "current" / "link"

    @property
    def _tags(self) -> Path:
        repositories = self.folder / "storage/docker/registry/v2/repositories"
        return repositories / REPOSITORY / "_manifests" / "tags"


@contextmanager
def serve(folder: Path, *, login: bool = True) -> Iterator[Server]:
    """Run Debian's docker-registry on a free port of loopback."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "htpasswd").write_text(HTPASSWD)
    server = Server(folder, free_port())
    config = folder / "config.yml"
    auth = AUTH.format(folder=folder) if login else ""
    config.write_text(CONFIG.format(folder=folder, port=server.port, auth=auth))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until_open(server.port, process)
        yield server
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, "docker-registry ended at once"
            assert time.monotonic() < deadline, "docker-registry does not listen"
            time.sleep(0.02)
        else:
            return


def login_file(folder: Path, *hosts: str, password: str = PASSWORD) -> Path:
    """What `docker login` leaves for these hosts."""
    folder.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": {host: {"auth": auth} for host in hosts}}))
    return path


@dataclass(frozen=True)
class Request:
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]

    def is_(self, method: str, path: str) -> bool:
        return self.method == method and re.search(path, self.path) is not None


class Handler(BaseHTTPRequestHandler):
    """Passes a request on, unless a fault is there for it."""

    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the client went away
            self.close_connection = True

    def _handle(self) -> None:
        request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        self.proxy.requests.append(request)
        for fault in list(self.proxy.faults):
            if fault.times != 0 and request.is_(fault.method, fault.path):
                fault.times -= 1
                fault.act(self)
                return
        self.pass_on()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _handle  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def body(self) -> bytes:
        """What was sent with the request; nothing the second time."""
        size = int(self.headers.get("Content-Length", "0"))
        del self.headers["Content-Length"]
        return self.rfile.read(size)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer of our own, to a request that was read to its end."""
        self.body()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self) -> None:
        """Break the connection off."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def pass_on(self, *, at_most: int | None = None) -> None:
        """Ask the registry and hand on what it says, or only its first bytes before a cut."""
        headers = {
            name: value for name, value in self.headers.items() if name.lower() != "connection"
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=30)
        with closing(connection):
            connection.request(self.command, self.path, self.body() or None, headers)
            answer = connection.getresponse()
            data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            self.send_header(
                name, value.replace(f":{self.proxy.upstream}/", f":{self.proxy.port}/")
            )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data if at_most is None else data[:at_most])
        if at_most is not None and len(data) > at_most:
            self.cut()


@dataclass
class Fault:
    """What happens to requests of a method and path, the first `times` of them."""

    method: str
    path: str
    act: Callable[[Handler], None]
    times: int = -1


@dataclass
class Proxy:
    """A server before the registry, or without one if it has a fault for every request."""

    upstream: int = 0
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def reference(self) -> str:
        return f"{self.host}/{REPOSITORY}"

    def fail(
        self, method: str, path: str, act: Callable[[Handler], None], *, times: int = -1
    ) -> None:
        self.faults.append(Fault(method, path, act, times))

    def seen(self, method: str, path: str) -> list[Request]:
        return [request for request in self.requests if request.is_(method, path)]


@contextmanager
def proxy_to(upstream: int = 0) -> Iterator[Proxy]:
    """Run a proxy in threads of this process."""
    proxy = Proxy(upstream)

    class Bound(Handler):
        pass

    Bound.proxy = proxy
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    server.block_on_close = False
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
