"""A farm on this machine: a real scheduler and real workers, each a process of its own.

    def test_something(farm: Farm) -> None:
        farm.start_worker("one", tags=[RTX])

Everything that a test started is ended with it, children too.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from enginery.farm.tags import resource_of
from enginery.hardware import HostCapabilities
from enginery.runtimes import load_runtime

RTX_VERSION = load_runtime("tensorrt_rtx").installed_version()
RTX_TARGET = HostCapabilities(89, None, RTX_VERSION)
RTX = resource_of(load_runtime("tensorrt_rtx"), RTX_TARGET)
"""The tag of TensorRT-RTX as it is installed here."""

DECLARED = "declared_rtx"
"""A runtime that builds with TensorRT-RTX, only on hosts of the target's kind; `declared` has it
installed, and ENGINERY_HOST says what a process's host is."""

_RUNTIME = """\
from enginery.runtimes.tensorrt_rtx import TensorRTRTX


class DeclaredRTX(TensorRTRTX):
    name = "declared_rtx"
    builds_anywhere = False

    def elsewhere(self, target, host):
        if target.sm in host.sms and target.jetpack == host.jetpack:
            return None
        return f"it needs a host with {target}; this one is {host}"
"""


def declared(folder: Path) -> str:
    """A folder for PYTHONPATH in which the runtime `DECLARED` is installed."""
    info = folder / "declared_rtx-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (folder / "declared_rtx.py").write_text(_RUNTIME)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: declared-rtx\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[enginery.runtimes]\ndeclared_rtx = declared_rtx:DeclaredRTX\n"
    )
    return str(folder)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


# --- TLS


@dataclass(frozen=True)
class Pem:
    """A certificate and its private key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates, as `openssl` does in docs/farm.md."""

    def __init__(self, folder: Path, name: str = "farm") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca = folder / f"{name}-ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} CA")])
        self._write(self.ca, self._signed(self._name, self._key.public_key(), ca=True))

    def issue(self, name: str) -> Pem:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pem = Pem(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        self._write(pem.cert, self._signed(subject, key.public_key(), ca=False))
        pem.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pem

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @staticmethod
    def _write(path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(Encoding.PEM))


# --- processes


@dataclass
class RunningWorker:
    """A worker's process."""

    name: str
    process: subprocess.Popen[bytes]
    log_file: Path
    folder: Path
    _begin: int = 0

    @property
    def log(self) -> str:
        """What it has said since it was started."""
        return self.log_file.read_bytes()[self._begin :].decode()

    def said(self, words: str, seconds: float = 60) -> None:
        """Wait until it has said something; it may not end before."""

        def heard() -> bool:
            if words in self.log:
                return True
            assert self.process.poll() is None, self.log
            return False

        wait_for(heard, seconds)

    def connected(self) -> None:
        self.said("is connected to")


@dataclass
class Farm:
    """A scheduler, its workers, and whatever a test starts of both.

    Attributes:
        scheduler: The scheduler's address.
        folder: Where everything lies.
        authority: Where TLS is used, whose certificates count; None without TLS.
    """

    folder: Path
    authority: Authority | None = None
    port: int = field(default_factory=free_port)
    workers: dict[str, RunningWorker] = field(default_factory=dict)
    _scheduler: subprocess.Popen[bytes] | None = None

    @property
    def scheduler(self) -> str:
        return f"{'tls' if self.authority else 'tcp'}://127.0.0.1:{self.port}"

    @property
    def runtime_path(self) -> str:
        """PYTHONPATH with the runtime `DECLARED` and these tests on it, and what was on it."""
        path = declared(self.folder / "runtime")
        here = str(Path(__file__).parent)
        return os.pathsep.join(filter(None, [path, here, os.environ.get("PYTHONPATH")]))

    def start_scheduler(self) -> None:
        """Start the scheduler, at the address that it had before."""
        command = [
            sys.executable, "-m", "distributed.cli.dask_scheduler",
            "--host", f"{self.scheduler.rpartition(':')[0]}", "--port", str(self.port),
            "--no-dashboard", "--no-show",
        ]  # fmt: skip
        if self.authority is not None:
            pem = self.authority.issue("scheduler")
            command += [
                "--tls-ca-file", str(self.authority.ca),
                "--tls-cert", str(pem.cert), "--tls-key", str(pem.key),
            ]  # fmt: skip
        with (self.folder / "scheduler.log").open("ab") as log:
            self._scheduler = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": self.runtime_path},
            )
        wait_for(self._listens)

    def stop_scheduler(self, number: int = signal.SIGKILL) -> None:
        assert self._scheduler is not None
        self._scheduler.send_signal(number)
        self._scheduler.wait(30)

    def start_worker(
        self,
        name: str,
        *,
        tags: Sequence[str] | None = (RTX,),
        env: dict[str, str] | None = None,
        options: Sequence[str] = (),
        wait: bool = True,
    ) -> RunningWorker:
        """Start a worker.

        Args:
            name: Its name.
            tags: The tags that it declares; None lets it find out.
            env: Variables set on top of this process's own.
            options: Further options of `enginery worker`.
            wait: Whether to wait until it is connected.
        """
        folder = self.folder / name
        command = [
            sys.executable, "-m", "enginery", "worker", "--scheduler", self.scheduler,
            "--name", name, "--folder", str(folder), *self._certificates(name), *options,
        ]  # fmt: skip
        for tag in tags or ():
            command += ["--tag", tag]
        log_file = self.folder / f"{name}.log"
        begin = log_file.stat().st_size if log_file.exists() else 0
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": self.runtime_path, **(env or {})},
            )
        worker = self.workers[name] = RunningWorker(name, process, log_file, folder, begin)
        if wait:
            worker.connected()
        return worker

    def kill(self, name: str) -> None:
        """End a worker as a power failure would."""
        worker = self.workers.pop(name)
        worker.process.kill()
        worker.process.wait(30)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.process.kill()
            worker.process.wait(30)
        if self._scheduler is not None:
            self._scheduler.kill()
            self._scheduler.wait(30)

    def processes(self, words: str) -> list[int]:
        """Processes below this farm's folder with these words in their command line."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _is_of(entry, self.folder, words)
        ]

    def _certificates(self, name: str) -> list[str]:
        if self.authority is None:
            return []
        pem = self.authority.issue(name)
        return ["--ca", str(self.authority.ca), "--cert", str(pem.cert), "--key", str(pem.key)]

    def _listens(self) -> bool:
        assert self._scheduler is not None
        assert self._scheduler.poll() is None, (self.folder / "scheduler.log").read_text()
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", self.port)) == 0


def _is_of(entry: Path, folder: Path, words: str) -> bool:
    try:
        state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        return (
            (entry / "cwd").resolve() == folder
            and state != "Z"
            and words in (entry / "cmdline").read_text()
        )
    except OSError:
        return False


@contextmanager
def running_farm(folder: Path, authority: Authority | None = None) -> Iterator[Farm]:
    """A scheduler without workers."""
    folder.mkdir(parents=True, exist_ok=True)
    farm = Farm(folder.resolve(), authority)
    try:
        farm.start_scheduler()
        yield farm
    finally:
        farm.close()


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm without TLS."""
    with running_farm(tmp_path / "farm") as started:
        yield started


@pytest.fixture
def tls_farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm with TLS; `tls_farm.authority` issues certificates."""
    with running_farm(tmp_path / "farm", Authority(tmp_path / "tls")) as started:
        yield started
