"""`enginery worker`: a build host of the farm, from its start to its end.

One process, one loop: connect, work until the scheduler goes away, connect again. SIGTERM ends it
when the build that goes on is done and was fetched; a second one ends it at once.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Container, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from ..errors import FarmError, StoreError
from ..locks import locked_now
from ..probing import probe
from ..store.layout import LocalStore
from ..store.reference import is_loopback
from ..store_spec import StoreSpec
from ..version import __version__
from .address import Tls, checked_address, checked_tls
from .blobs import InputBlobs
from .build import Builds, Shop
from .connecting import reason_of, security_of
from .remote_inputs import RemoteInputs
from .request import KEY
from .tags import Offer, offered

if TYPE_CHECKING:
    from .farm_worker import FarmWorker

_T = TypeVar("_T")

_FETCH_S = 60.0
"""Seconds that a finished engine is kept for whoever asked, after the last byte that he read."""

_QUIET_S = 2.0
_PRUNE_S = 60.0
_MARK = ".enginery-worker.lock"
"""Says that a folder is a worker's, who may clear it."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0
_CONNECT_S, _START_S = 5.0, 60.0


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is started with.

    Attributes:
        scheduler: The scheduler's address.
        tls: What it shows and whom it believes; None on loopback.
        folder: Where inputs, builds and, if nothing else is said, engines are.
        store: Its store of engines; None for one in the folder.
        sign_with: Private key that its builds are signed with.
        slots: How many builds it does at a time.
        max_input: How many bytes the inputs of one build may have.
        keep: How many bytes of inputs, and of engines, are kept when no build needs them.
        drain_s: For how long it may go on after SIGTERM.
        tags: Tags that it is declared to offer, instead of what the host is found to be.
        name: What it is called; None for the host's name.
        listen: Address that it listens on, "host:port"; None for one that is found.
        remote: Registry and repository where inputs are looked for; None where there is none.
        insecure: Whether plain HTTP will do for it off this machine.
    """

    scheduler: str
    tls: Tls | None
    folder: Path
    store: Path | None = None
    sign_with: Path | None = None
    slots: int = 1
    max_input: int = 32 << 30
    keep: int = 64 << 30
    drain_s: float = 3600.0
    tags: tuple[str, ...] = ()
    name: str | None = None
    listen: str | None = None
    remote: str | None = None
    insecure: bool = False


def serve(spec: WorkerSpec) -> int:
    """Work until SIGTERM; the exit code.

    Raises:
        EngineryError: It cannot start as it is asked to.
    """
    checked_address(spec.scheduler, encrypted=spec.tls is not None)
    if spec.tls is not None:
        checked_tls(spec.tls)
    if spec.sign_with is not None:
        from ..signing import SigningKey

        SigningKey.read(spec.sign_with, warn=say)
    offer = Offer(spec.tags) if spec.tags else offered(probe())
    if not offer.tags:
        raise FarmError(f"there is nothing to build with here: {'; '.join(offer.remarks)}")
    _check_listen(spec)
    with _own_folder(spec.folder):
        _check_store(spec.store or spec.folder / "store")
        return asyncio.run(_Service(spec, offer).run())


def _check_listen(spec: WorkerSpec) -> None:
    """Raise FarmError for an address that nobody can listen at; Dask would try it for ever."""
    if spec.listen is None:
        return
    host, _, port = spec.listen.rpartition(":")
    if spec.tls is None and not is_loopback(host):
        raise FarmError(f"--listen {spec.listen}: without TLS a worker listens on loopback alone")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError as error:
        raise FarmError(
            f"--listen {spec.listen}: {error.strerror or error}; give an address of this host and "
            "a free port"
        ) from error


def _check_store(store: Path) -> None:
    """Raise FarmError for a store that takes no engine, before one is built in vain."""
    import tempfile

    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store):
            pass
    except OSError as error:
        raise FarmError(f"engines cannot be kept in {store}: {error}; give --store") from error


def say(text: str) -> None:
    """A line for a person, on standard error: what a service says goes to its journal."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    sys.stderr.write(f"{stamp} {' '.join(text.split())}\n")
    sys.stderr.flush()


@contextmanager
def _own_folder(folder: Path) -> Iterator[None]:
    """The folder for this process alone, without what a killed one left in it."""
    import shutil

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked_now(folder / "worker") as held:
            if not held:
                raise FarmError(f"another worker works in {folder}; give this one --folder")
            mark = folder / _MARK
            if not mark.exists() and {one.name for one in folder.iterdir()} - {".worker.lock"}:
                raise FarmError(
                    f"{folder} holds something else, and what a worker finds in its folder it "
                    "clears; give --folder a new one"
                )
            mark.touch()
            for name in ("builds", "dask"):
                shutil.rmtree(folder / name, ignore_errors=True)
            (folder / "builds").mkdir()
            yield
    except OSError as error:
        raise FarmError(f"{folder} cannot be worked in: {error}; give --folder") from error


class _Service:
    """A worker and what it keeps from connection to connection."""

    def __init__(self, spec: WorkerSpec, offer: Offer) -> None:
        self._spec, self._tags = spec, offer.tags
        self._name = spec.name or socket.gethostname()
        self._stopping = asyncio.Event()
        self._told: set[str] = set()
        self._end = 0.0
        store = StoreSpec(path=spec.store or spec.folder / "store", sign_with=spec.sign_with)
        host = probe()
        self._shop = Shop(
            host=host,
            name=self._name,
            tags=offer.tags,
            folder=spec.folder / "builds",
            store=store,
            max_input=spec.max_input,
            versions={"enginery": __version__, "python": platform.python_version()},
        )
        blobs = InputBlobs(spec.folder / "inputs", keep_bytes=spec.keep)
        remote = RemoteInputs(spec.remote, blobs, insecure=spec.insecure)
        self._builds = Builds(self._shop, blobs, spec.slots, say, remote=remote)
        self._prune()
        say(f"{self._name} is {host}")
        for tag in offer.tags:
            say(f"offers {tag}")
        for remark in offer.remarks:
            say(remark)

    async def run(self) -> int:
        """Work until told to stop; the exit code."""
        _quieten()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signal, number)
        pause = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            worker = await self._unless_stopped(self._connected())
            if worker is not None:
                pause = _FIRST_PAUSE_S
                await self._until_gone(worker)
            if not self._stopping.is_set():
                await self._unless_stopped(asyncio.sleep(pause))
                pause = min(pause * 2, _LONGEST_PAUSE_S)
        # Also one whose scheduler went away: its engine is in the store when it is asked for again.
        await self._finish_builds()
        say(f"{self._name} has ended")
        # What Dask would still tear down, the kernel does faster.
        sys.stderr.flush()
        os._exit(0)

    def _signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._stopping.is_set():
            say(f"{name} again: {self._name} ends at once")
            os._exit(1)
        say(f"{name}: {self._name} takes no new build")
        self._end = time.monotonic() + self._spec.drain_s
        self._stopping.set()

    async def _connected(self) -> FarmWorker | None:
        """A worker that is connected, or None where that is in vain; says why, once."""
        from distributed import comm as comms

        from .farm_worker import FarmWorker

        spec = self._spec
        try:
            security = security_of(spec.tls, "worker")
            connect: Any = vars(comms)["connect"]
            arguments = security.get_connection_args("worker")
            # Dask's own timeout ends before the greeting, which a silent listener never sends.
            comm = await asyncio.wait_for(
                connect(spec.scheduler, timeout=_CONNECT_S, **arguments), 2 * _CONNECT_S
            )
            await comm.close()
            worker = FarmWorker(
                spec.scheduler,
                builds=self._builds,
                about=self._about(),
                say=say,
                security=security,
                name=self._name,
                nthreads=spec.slots,
                resources=dict.fromkeys(self._tags, spec.slots),
                local_directory=str(spec.folder / "dask"),
                dashboard=False,
                death_timeout=_START_S,
                **self._listening(),
            )
            await worker
        except (OSError, ValueError, RuntimeError, asyncio.TimeoutError) as error:
            self._say_once(f"waiting for the scheduler {spec.scheduler}: {reason_of(error)}")
            return None
        self._told.clear()
        say(f"{self._name} is connected to {spec.scheduler} and listens at {worker.address}")
        return worker

    def _listening(self) -> dict[str, Any]:
        """Where the worker listens: without encryption, nowhere but on loopback."""
        scheme, _, host = self._spec.scheduler.partition("://")
        if self._spec.listen is not None:
            name, _, port = self._spec.listen.rpartition(":")
            return {"host": f"{scheme}://{name}", "port": int(port)}
        if scheme == "tcp":
            return {"host": host.rpartition(":")[0].replace("localhost", "127.0.0.1")}
        return {}

    async def _until_gone(self, worker: FarmWorker) -> None:
        anything: Any = worker
        gone = asyncio.ensure_future(anything.finished())
        tidying = asyncio.ensure_future(self._keep_tidy(worker))
        await self._unless_stopped(_settled(gone))
        tidying.cancel()
        if not gone.done():
            worker.drain()
            await self._finish_builds()
            await self._be_fetched_from(worker, gone)
            await worker.close(reason="enginery-stop")
        elif not self._stopping.is_set():
            say(f"the scheduler {self._spec.scheduler} is gone; connecting again")
        self._prune()

    async def _finish_builds(self) -> None:
        """Wait for what is being built, for as long as is allowed."""
        if self._builds.running:
            say(f"a build goes on; waiting for it, at most {self._spec.drain_s:.0f} s")
        while self._builds.running:
            if time.monotonic() > self._end:
                say("the build is given up: --drain-timeout is over")
                os._exit(1)
            await asyncio.sleep(0.1)

    async def _be_fetched_from(self, worker: FarmWorker, gone: asyncio.Future[Any]) -> None:
        """Wait for whoever still wants an engine that was built for him."""
        finished = time.monotonic()
        while worker.is_wanted(_QUIET_S) and not gone.done():
            if time.monotonic() > min(max(worker.last_read, finished) + _FETCH_S, self._end):
                say("an engine was not fetched; it stays in the store")
                return
            await asyncio.sleep(0.1)

    async def _unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """What some work comes to, or None where it was ended by a signal."""
        task = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return None

    def _about(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "host": str(self._shop.host),
            "tags": list(self._tags),
            "versions": dict(self._shop.versions),
        }

    async def _keep_tidy(self, worker: FarmWorker) -> None:
        """Drop engines while it works; not those that somebody is about to fetch."""
        while True:
            await asyncio.sleep(_PRUNE_S)
            held = {str(key).removeprefix(KEY) for key in worker.state.tasks}
            await asyncio.to_thread(self._prune, held)

    def _prune(self, keep: Container[str] = ()) -> None:
        store = LocalStore(self._spec.store or self._spec.folder / "store")
        try:
            store.prune(max_bytes=self._spec.keep, max_age_s=None, keep=keep, dry_run=False)
        except StoreError as error:
            say(str(error))

    def _say_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            say(text)


async def _settled(future: asyncio.Future[Any]) -> None:
    """Wait for something that whoever else waits for it still needs."""
    await asyncio.wait((future,))


def _quieten() -> None:
    """Dask's own log is for people who look after Dask."""
    import logging

    import dask
    import distributed  # noqa: F401 - it sets its loggers up when it is imported

    dask.config.set({"distributed.worker.profile.enabled": False})
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
