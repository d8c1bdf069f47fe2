"""The way of inputs to a worker over the remote store that both have: uploaded here, once.

A worker that has the remote store says so where it asks for inputs. Each file is uploaded, and the
worker told that it is there; what is there already is not read. Where the registry does not take
them, they are sent to the worker.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future as Promise
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..digest import open_regular
from ..errors import (
    EngineBuildError,
    EngineryError,
    FarmError,
    IrregularFileError,
    RemoteError,
    StoreError,
)
from ..plan import changed
from ..store.engines import EngineStore
from ..store.input_artifact import pack_inputs
from ..store.manifest import ONNX, TITLE, Descriptor
from ..store.remote import RemoteStore
from ..store_spec import StoreSpec
from .link import Link, LostError
from .request import BuildRequest

if TYPE_CHECKING:
    from ..store.upload import OpenBlob

_TELL_S = 10.0
"""Seconds after which a worker is told again that an upload goes on."""


class Uploading:
    """The uploads for one build. All of it is for the link's thread."""

    def __init__(
        self,
        link: Link,
        request: BuildRequest,
        files: Mapping[str, Path],
        tag: str,
        store: StoreSpec | None,
        *,
        say: Callable[[str], None],
        send: Callable[[str, str], None],
        end: Callable[[EngineryError], None],
    ) -> None:
        """Say what may be uploaded, and where to.

        Args:
            link: The connection.
            request: The build.
            files: SHA-256 to file, for every input.
            tag: What a worker must have.
            store: The corpus's stores.
            say: Told what goes wrong.
            send: Sends the file of a digest to a worker at an address.
            end: Ends the build with an error.
        """
        self._link, self._files, self._tag, self._store = link, files, tag, store
        self._fingerprint = request.fingerprint
        self._blobs = {
            one.sha256: Descriptor(
                ONNX if one.role == "onnx" else "application/octet-stream",
                f"sha256:{one.sha256}", one.size, {TITLE: one.name},
            )
            for one in request.inputs if one.size
        }  # fmt: skip
        self._say, self._send, self._end = say, send, end
        self._name = os.urandom(8).hex()
        self._task: asyncio.Task[None] | None = None
        self._address = ""
        self._stopped = threading.Event()
        self._refused = False

    def takes(self, address: str, remote: object, digests: Iterable[str]) -> bool:
        """Whether inputs that a worker asks for come over its remote store.

        Args:
            address: The worker.
            remote: Its remote store; None where it has none, or got nothing from it.
            digests: What it asks for.
        """
        uploads = self._uploads_to(remote)
        under_way = self._task is not None and not self._task.done()
        if uploads is None or address != self._address:
            self.stop()
        elif under_way:
            return True
        if uploads is None:
            return False
        self._stopped, self._address = threading.Event(), address
        work = self._run(uploads, [one for one in digests if one in self._blobs])
        self._task = asyncio.ensure_future(work)
        return True

    def stop(self) -> None:
        """Upload no more: nobody needs it."""
        self._stopped.set()
        if self._task is not None:
            self._task.cancel()

    def _uploads_to(self, remote: object) -> _Uploads | None:
        """The uploads to a remote store, if it is ours to write to and takes anything."""
        if self._store is None or self._store.read_only or remote is None or self._refused:
            return None
        with suppress(RemoteError):  # what is wrong with it is said where engines are looked for
            ours = EngineStore(self._store, self._say).remote
            if ours is not None and str(ours.reference) == remote:
                uploads = _uploads_of(os.getpid(), ours)
                return None if uploads.in_vain else uploads
        return None

    async def _run(self, uploads: _Uploads, digests: list[str]) -> None:
        address = self._address
        try:
            # Only workers of this farm are told anything, whatever an event says.
            if address in await self._link.workers(self._tag, leaving=True):
                await self._upload(uploads, address, digests)
        except RemoteError as error:
            self._refused = True
            self._say(f"its inputs are not uploaded but sent to the worker: {error}")
            for digest in digests:
                self._send(address, digest)
        except (FarmError, LostError):
            return  # a worker that still needs them asks again
        except EngineryError as error:
            self._end(error)

    async def _upload(self, uploads: _Uploads, address: str, digests: list[str]) -> None:
        """Upload what nobody else does; of the digests, those remain that are not uploaded."""
        async with self._link.line_to(address) as ask:
            look = partial(ask, "enginery_look", uploader=self._name)
            answer = await look(digests=digests, there=False)
            mine = [one for one in digests if one in answer]
            for digest in mine:
                goes_on = partial(look, digests=[*digests], there=False)
                await _meanwhile(partial(self._push, uploads, self._blobs[digest]), goes_on)
                await look(digests=[digest], there=True)
                digests.remove(digest)
            if mine:
                await self._have_kept(uploads)

    async def _have_kept(self, uploads: _Uploads) -> None:
        blobs = list(self._blobs.values())
        try:
            await _in_thread(partial(uploads.have_kept, self._fingerprint, blobs))
        except RemoteError as error:
            self._say(f"its inputs are uploaded, but the registry may drop them: {error}")

    def _push(self, uploads: _Uploads, blob: Descriptor) -> None:
        path, stopped = self._files[blob.sha256_hex], self._stopped
        try:
            uploads.push(blob, lambda _: _Source(path, blob.size, stopped))
        except StoreError as error:
            raise changed({path.name}) from error


class _Uploads:
    """The uploads of this process to one remote store: each file by one thread at a time.

    Attributes:
        in_vain: Whether the registry takes nothing.
    """

    def __init__(self, remote: RemoteStore) -> None:
        self.in_vain = False
        self._remote = remote
        self._guard = threading.Lock()
        self._under_way: dict[str, threading.Lock] = {}

    def push(self, blob: Descriptor, open_blob: OpenBlob) -> None:
        """Upload a file unless it is there.

        Raises:
            RemoteError: The registry does not take it.
            StoreError: It is not what it was.
        """
        from ..store.faults import UnavailableError  # with urllib3, as the remote store itself

        with self._guard:
            alone = self._under_way.setdefault(blob.digest, threading.Lock())
        try:
            with alone:
                self._remote.push_blob(blob, open_blob)
        except UnavailableError:
            self.in_vain = True
            raise

    def have_kept(self, fingerprint: str, blobs: list[Descriptor]) -> None:
        """Have the registry keep those of a build's inputs that it has.

        Raises:
            RemoteError: The registry is of no use.
        """
        there = [blob for blob in blobs if self._remote.has_blob(blob)]
        self._remote.push_inputs(pack_inputs(fingerprint, there))


@cache
def _uploads_of(_process: int, remote: RemoteStore) -> _Uploads:
    return _Uploads(remote)


class _StoppedError(Exception):
    """Nobody needs the upload any more."""


class _Source(io.FileIO):
    """A file that is uploaded; whoever reads it verifies what it reads."""

    def __init__(self, path: Path, size: int, stopped: threading.Event) -> None:
        self._path, self._stopped = path, stopped
        try:
            fd, info = open_regular(path, follow_symlinks=True)
        except (OSError, IrregularFileError) as error:
            raise EngineBuildError(f"{path} cannot be read any more: {error}") from error
        super().__init__(fd)
        if info.st_size != size:
            self.close()
            raise changed({path.name})

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes.

        Raises:
            EngineBuildError: They cannot be read.
        """
        if self._stopped.is_set():
            raise _StoppedError
        try:
            return super().read(size)
        except OSError as error:
            raise EngineBuildError(f"{self._path} cannot be read: {error}") from error


async def _meanwhile(work: Callable[[], None], tell: Callable[[], Awaitable[object]]) -> None:
    """Do something in a thread, and tell again and again that it goes on."""
    done = _in_thread(work)
    while not (await asyncio.wait((done,), timeout=_TELL_S))[0]:
        await tell()
    done.result()


def _in_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """Do something in a thread of its own, for which the end of the process does not wait."""
    promise = Promise[None]()
    promise.set_running_or_notify_cancel()

    def run() -> None:
        try:
            work()
            promise.set_result(None)
        except BaseException as error:
            promise.set_exception(error)

    threading.Thread(target=run, name="enginery-upload", daemon=True).start()
    return asyncio.wrap_future(promise)
