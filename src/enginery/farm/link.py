"""This process's connection to a scheduler: one client, in a thread of its own, made when needed.

It is made after a fork and never shared with one. When the scheduler is lost it is waited for; one
that turned out to be down is asked once, not once for each engine.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import FarmError
from ..farm_spec import FarmSpec
from .address import checked_tls, tls_of
from .connecting import security_of as security_with
from .request import KEY

if TYPE_CHECKING:
    from .asked import Asked

CONNECT_S = 5.0
"""Seconds after which a scheduler that does not answer is taken to be down."""

CALL_S = 120.0
"""Seconds after which a worker that does not answer is given up: 4 MiB have gone long before."""

_RETRY_S = 0.5
_WORKERS_S = 1.0
_CLOSE_S = 2.0

_T = TypeVar("_T")

_LINKS: dict[tuple[int, FarmSpec], Link] = {}


def link_of(spec: FarmSpec) -> Link:
    """The connection of this process, which remembers from engine to engine who is of use."""
    return _LINKS.setdefault((os.getpid(), spec), Link(spec))


class LostError(Exception):
    """The scheduler, or the worker, went away while it was needed."""


class Link:
    """A client of a scheduler.

    Attributes:
        spec: Where it is.
        bad: Address to reason of workers that sent what was not asked for; not used again.
        lacking: Tag to the time since when no worker has it.
        asked: Fingerprint to what was asked for in this process.
        asking: Held by who adds to `asked`.
        closed: Whether this process leaves.
    """

    def __init__(self, spec: FarmSpec) -> None:
        self.spec = spec
        self.bad: dict[str, str] = {}
        self.lacking: dict[str, float] = {}
        self.asked: dict[str, Asked] = {}
        self.asking = threading.Lock()
        self.closed = False
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self._was_up = False
        self._down: str | None = None
        self._workers: tuple[float, dict[str, dict[str, Any]]] = (0.0, {})

    def start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Have something done in the connection's thread."""
        with self._starting:
            if self._loop is None:
                load()
                self._loop = asyncio.new_event_loop()
                # What concerns a build reaches it; the rest is the library's own housekeeping.
                self._loop.set_exception_handler(lambda _loop, _context: None)
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="enginery-farm", daemon=True
                )
                self._thread.start()
                atexit.register(self.close)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """`start`, and wait for it."""
        return self.start(work).result()

    def close(self) -> None:
        """Leave the scheduler; what is being built for others goes on."""
        self.closed = True
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        with suppress(Exception):  # the process ends, with or without the scheduler's knowing
            asyncio.run_coroutine_threadsafe(self._leave(), loop).result(_CLOSE_S)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(_CLOSE_S)

    async def client(self) -> Any:
        """The client, connected.

        Raises:
            FarmError: The scheduler is down, or a package or a file is missing.
        """
        async with self._connecting:
            if self._client is not None and self._client.status == "running":
                return self._client
            if self._down is None:
                try:
                    self._client = await self._connected()
                    self._was_up = True
                    return self._client
                except FarmError as error:
                    self._down = str(error)
            raise FarmError(self._down)

    async def workers(self, tag: str, *, leaving: bool = False) -> dict[str, str]:
        """Address to name of the connected workers that have a tag.

        Args:
            tag: The tag.
            leaving: Whether one counts that finishes a build and takes no new one.

        Raises:
            LostError: The scheduler is gone.
            FarmError: It is down.
        """
        return {
            address: str(info.get("name") or address)
            for address, info in (await self._identity()).items()
            if tag in (info.get("resources") or {})
            and (leaving or info.get("status", "running") == "running")
        }

    async def tags(self) -> dict[str, int]:
        """Tag to the number of connected workers that have it."""
        found: dict[str, int] = {}
        for info in (await self._identity()).values():
            for tag in info.get("resources") or {}:
                found[tag] = found.get(tag, 0) + 1
        return found

    def hear(self, event: tuple[float, Any]) -> None:
        """Take what the scheduler says of its workers: whose builds died with them."""
        said = event[1]
        if not isinstance(said, dict) or said.get("action") != "remove-worker":
            return
        keys = [] if said.get("expected") else list(said.get("processing-tasks") or ())
        for key in keys:
            asked = self.asked.get(str(key).removeprefix(KEY))
            if asked is not None:
                asked.died(str(said.get("worker")), alone=len(keys) == 1)

    async def ask_worker(self, address: str, handler: str, **arguments: Any) -> Any:
        """The answer of one of a worker's handlers.

        Raises:
            FarmError: The worker refuses.
            LostError: The worker is gone, or does not answer.
        """
        client = await self.client()
        return await _answer(address, client.rpc(address), handler, arguments)

    @asynccontextmanager
    async def line_to(self, address: str) -> AsyncIterator[Callable[..., Any]]:
        """`ask_worker`, all over one connection: what a worker gets in order it knows by that."""
        from distributed.core import rpc

        client = await self.client()
        arguments = client.security.get_connection_args("client")
        async with rpc(address, timeout=CONNECT_S, connection_args=arguments) as line:
            yield lambda handler, **given: _answer(address, line, handler, given)

    async def _identity(self) -> dict[str, dict[str, Any]]:
        at, known = self._workers
        if time.monotonic() - at < _WORKERS_S:
            return known
        client = await self.client()
        try:
            found = await asyncio.wait_for(client.scheduler.identity(), CONNECT_S)
        except (OSError, AttributeError, asyncio.TimeoutError) as error:
            # A client that was closed meanwhile has no scheduler.
            raise LostError("the scheduler does not answer") from error
        self._workers = (time.monotonic(), dict(found["workers"]))
        return self._workers[1]

    async def _connected(self) -> Any:
        await self._leave()
        if not self._was_up:
            return await self._connect()
        deadline = time.monotonic() + self.spec.wait_for_worker
        while True:
            try:
                return await self._connect()
            except FarmError as error:
                if time.monotonic() > deadline:
                    raise FarmError(
                        f"the scheduler {self.spec.scheduler} was lost, and was not back within "
                        f"{self.spec.wait_for_worker:g} s"
                    ) from error
                await asyncio.sleep(_RETRY_S)

    async def _connect(self) -> Any:
        from distributed import Client

        address, client = self.spec.scheduler, None
        security = security_of(self.spec)
        try:
            client = Client(
                address,
                asynchronous=True,
                security=security,
                set_as_default=False,
                timeout=CONNECT_S - 0.5,  # its words are better than ours
                name="enginery",
            )
            return await asyncio.wait_for(client, CONNECT_S)
        except FarmError:
            raise  # a file that is missing
        except Exception as error:
            # Who answers may be no scheduler, and what Dask reads out of its words raises anything.
            if client is not None:
                await _closed(client)
            raise FarmError(
                f"the scheduler {address} cannot be reached: {reason_of(error)}; start it, correct "
                "scheduler under [farm], or set ENGINERY_FARM=off to go without"
            ) from error

    async def _leave(self) -> None:
        client, self._client = self._client, None
        self._workers = (0.0, {})
        if client is not None:
            await _closed(client)


def security_of(spec: FarmSpec) -> Any:
    """What Dask is to show and to believe; None without TLS.

    Raises:
        FarmError: A file is missing, or is not what it should be.
    """
    if not spec.scheduler.startswith("tls:"):
        return None
    for name in ("ca", "cert", "key"):
        file: Path = getattr(spec, name)
        if not file.is_file():
            raise FarmError(f"the farm's {name}, {file}, is not there; put it there, or correct it")
    tls = tls_of(spec.ca, spec.cert, spec.key)
    return security_with(None if tls is None else checked_tls(tls), "client")


async def _answer(address: str, line: Any, handler: str, arguments: dict[str, Any]) -> Any:
    try:
        return await asyncio.wait_for(getattr(line, handler)(**arguments), CALL_S)
    except (OSError, asyncio.TimeoutError) as error:
        raise LostError(f"the worker {address} does not answer") from error


async def _closed(client: Any) -> None:
    # Whatever a half-open client still has to say concerns nobody.
    with suppress(Exception):
        await asyncio.wait_for(client._close(fast=True), _CLOSE_S)


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line: the cause says more than what it led to."""
    import ssl

    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    for inner in reversed(chain):
        if isinstance(inner, ssl.SSLError):
            return f"TLS is refused ({inner.reason or inner}), do the certificates belong together?"
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror.lower()
    if isinstance(error, asyncio.TimeoutError) or not str(error):
        return f"there was no answer within {CONNECT_S:g} s"
    return " ".join(str(error).split())


def load() -> None:
    """Import distributed, without its log unless whoever runs this uses it himself.

    Raises:
        FarmError: It is not installed.
    """
    used = "distributed" in sys.modules
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise FarmError(f"the farm needs {error.name}: pip install 'enginery[farm]'") from error
    if used:
        return
    import logging

    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for name, logger in logging.Logger.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and name.startswith(("distributed.", "tornado.")):
            logger.setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", category=distributed.versions.VersionMismatchWarning)
