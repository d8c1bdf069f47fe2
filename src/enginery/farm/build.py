"""A build on a worker: what is asked for is checked, its inputs are awaited, the compiler builds.

`build` is the only function that a worker runs. It runs in a thread of the worker; the build itself
runs in a fresh process, as everywhere.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..compiler import EngineCompiler
from ..digest import open_regular
from ..errors import (
    ElsewhereError,
    EngineryError,
    FarmError,
    InputChangedError,
    RuntimeUnavailableError,
)
from ..host import Host
from ..runtimes import load_runtime
from ..store.blobs import Blobs
from ..store.layout import LocalStore, Stored
from ..store_spec import StoreSpec
from .blobs import InputBlobs, laid_out
from .checks import check_buildable, check_external
from .remote_inputs import Awaited, RemoteInputs
from .reply import BuildReply, failure_of
from .request import KEY, BuildRequest, read_request
from .telling import Link, NotAwaitedError, Progress, logger_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 120.0
_ASK_AGAIN_S = 3.0
_PAUSE_S = 0.5


def build(text: str) -> str:
    """Build what a request asks for; a `BuildRequest` in, a `BuildReply` out, both as JSON."""
    from distributed import Reschedule, get_worker

    worker: Any = get_worker()
    try:
        reply: BuildReply = worker.builds.run(text, worker.link())
    except NotAwaitedError:
        # Should somebody have asked again meanwhile, it begins anew for him.
        raise Reschedule from None
    return reply.encode()


class Shop(msgspec.Struct, frozen=True):
    """What a worker builds with.

    Attributes:
        host: This machine.
        name: What it is called.
        tags: What it offers.
        folder: Where builds have their folders.
        store: The worker's own store, and the key that it signs with.
        max_input: How many bytes the inputs of one build may have.
        versions: What runs here, for replies.
    """

    host: Host
    name: str
    tags: tuple[str, ...]
    folder: Path
    store: StoreSpec
    max_input: int
    versions: dict[str, str]


class Builds:
    """The builds of a worker; it outlives the connection to a scheduler.

    A build whose scheduler went away goes on, and its engine is in the store when it is asked for
    again.

    Attributes:
        shop: What is built with.
        blobs: The inputs.
        local: The engines.
        remote: The inputs that a remote store has.
        running: How many requests are being dealt with.
    """

    def __init__(
        self,
        shop: Shop,
        blobs: InputBlobs,
        slots: int,
        say: Callable[[str], None],
        *,
        remote: RemoteInputs | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Say what is built with.

        Args:
            shop: The host and its folders.
            blobs: The inputs.
            slots: How many builds there are at a time.
            say: Told of each, in a line.
            remote: Where inputs are looked for before they are asked for.
            patience_s: Seconds without a byte after which nobody is taken to be sending inputs.
        """
        if shop.store.path is None:
            raise FarmError("a worker needs a store")
        self.shop, self.blobs, self._say = shop, blobs, say
        self.local = LocalStore(shop.store.path)
        self.remote = remote or RemoteInputs(None, blobs)
        self._slots = threading.Semaphore(slots)
        self._patience_s = patience_s
        self._guard = threading.Lock()
        self.running = 0
        self._under_way: dict[str, threading.Lock] = {}

    def run(self, text: str, link: Link) -> BuildReply:
        """What becomes of a request."""
        with self._guard:
            self.running += 1
        try:
            return self._run(text, link)
        finally:
            with self._guard:
                self.running -= 1

    def _run(self, text: str, link: Link) -> BuildReply:
        began = time.monotonic()
        fingerprint = link.key.removeprefix(KEY)
        name = "a request"
        try:
            request = read_request(text, max_bytes=self.shop.max_input)
            name = f"{request.model_name} ({request.fingerprint[:12]})"
            if link.key != KEY + request.fingerprint:
                raise FarmError("the request is for another fingerprint than its key says")
            check_buildable(request, self.shop.host, self.shop.tags)
            stored, built = self._stored(request, name, link)
        except NotAwaitedError:
            self._say(f"{name}: given up: nobody waits for it any more")
            raise
        except (FarmError, ElsewhereError, RuntimeUnavailableError) as error:
            reason = self._plain(str(error), fingerprint)
            self._say(f"{name}: refused: {reason}")
            return self._reply(link, fingerprint, refused=reason)
        except OSError as error:
            # Not the model's fault: another worker may have room.
            reason = self._plain(f"the worker's disk: {error}", fingerprint)
            self._say(f"{name}: refused: {reason}")
            return self._reply(link, fingerprint, refused=reason)
        except EngineryError as error:
            failure = failure_of(error, self._plain(str(error), fingerprint))
            self._say(f"{name}: failed: {failure.message}")
            return self._reply(link, fingerprint, failed=failure)
        took = time.monotonic() - began
        self._say(f"{name}: {f'built in {took:.1f} s' if built else 'was here already'}")
        return self._reply(
            link,
            fingerprint,
            manifest=stored.manifest_bytes.decode(),
            built=built,
            duration_s=took,
        )

    def read_blob(self, sha256: str, offset: int, length: int) -> bytes:
        """A piece of a blob of the worker's store; whoever gets it verifies the whole.

        Raises:
            OSError: It is not there or cannot be read.
            IrregularFileError: It is no regular file.
        """
        fd, _ = open_regular(Blobs(self.local.root).folder / sha256, follow_symlinks=False)
        with os.fdopen(fd, "rb", buffering=0) as stream:
            stream.seek(offset)
            return stream.read(length)

    def _plain(self, text: str, fingerprint: str) -> str:
        """Words without the folder of the build, which is nothing to who asked."""
        folder = self.shop.folder / fingerprint
        return text.replace(f"{folder / 'inputs'}/", "").replace(f"{folder}/", "")

    def _reply(self, link: Link, fingerprint: str, **found: object) -> BuildReply:
        return BuildReply(
            fingerprint=fingerprint,
            worker=link.address,
            host=str(self.shop.host),
            versions=self.shop.versions,
            **found,  # type: ignore[arg-type]
        )

    def _stored(self, request: BuildRequest, name: str, link: Link) -> tuple[Stored, bool]:
        """The engine in the store, and whether it was built for this."""
        with self._alone(request.fingerprint, link):
            found = self._found(request.fingerprint)
            if found is not None:
                return found, False
            with self._slot(link):
                self._say(f"{name}: started")
                self._build(request, link)
            made = self.local.find(request.fingerprint)
            if made is None:
                raise self._lost(request)
            return made, True

    def _found(self, fingerprint: str) -> Stored | None:
        """The engine if the store has it, whole, and signed where builds are signed."""
        stored = self.local.find(fingerprint)
        if stored is None:
            return None
        sound = stored.envelope is not None or self.shop.store.sign_with is None
        scratch = self.shop.folder / f"{fingerprint}.check"
        if sound:
            try:
                self.local.fetch(stored, scratch)
                return stored
            except EngineryError as error:
                self._say(f"{stored.name} is built again: {error}")
            finally:
                scratch.unlink(missing_ok=True)
        self.local.remove(fingerprint)
        return None

    def _build(self, request: BuildRequest, link: Link) -> None:
        folder = self.shop.folder / request.fingerprint
        shutil.rmtree(folder, ignore_errors=True)
        inputs = folder / "inputs"
        inputs.mkdir(parents=True)
        sizes = {one.sha256: one.size for one in request.inputs}
        try:
            with self.blobs.wanted(sizes):
                with self.remote.awaited(sizes, link) as awaited:
                    self._await_inputs(list(sizes), awaited, link)
                if awaited.came:
                    name = f"{request.model_name} ({request.fingerprint[:12]})"
                    self._say(f"{name}: {awaited.came} inputs came from {self.remote.name}")
                laid_out(request, self.blobs, inputs)
                check_external(request, inputs)
                self._compile(request, folder, link)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _compile(self, request: BuildRequest, folder: Path, link: Link) -> None:
        _, asked = request.compile_request(
            folder / "inputs", cache_root=folder / "engines", scratch=folder / "scratch"
        )
        EngineCompiler(
            inference_runtime=load_runtime(request.runtime),
            logger=logger_for(link),
            progress=Progress(link),
            store=self.shop.store,
            host_name=self.shop.name,
        ).compile_engines_for_corpus(asked)

    def _await_inputs(self, digests: list[str], awaited: Awaited, link: Link) -> None:
        since, asked = time.monotonic(), 0.0
        while missing := self.blobs.missing(digests):
            self.blobs.check(missing)
            if awaited.take(missing):
                since, asked = time.monotonic(), 0.0
                continue
            now = time.monotonic()
            heard = max(since, self.blobs.heard(digests), awaited.heard)
            if not link.is_awaited():
                raise NotAwaitedError
            if now - heard > self._patience_s:
                raise FarmError(
                    f"{len(missing)} of its inputs did not come: nothing was received for "
                    f"{self._patience_s:.0f} s"
                )
            if now - max(asked, heard) > _ASK_AGAIN_S or not asked:
                link.tell({"need": missing, "at": link.address, **awaited.offer})
                asked = now
            self.blobs.wait(_PAUSE_S)

    def _lost(self, request: BuildRequest) -> EngineryError:
        """Why an engine that was built is not in the store."""
        damaged = self.blobs.drop_damaged(one.sha256 for one in request.inputs)
        if damaged:
            return InputChangedError(
                f"{len(damaged)} of its inputs were damaged on the worker's disk and are dropped; "
                "run again"
            )
        reason = self.local.reasons.get(request.fingerprint) or f"can {self.local.root} be written?"
        return FarmError(f"the worker's store does not have what was built; {reason}")

    @contextmanager
    def _alone(self, fingerprint: str, link: Link) -> Iterator[None]:
        """One build of a fingerprint at a time: an earlier connection's may be under way."""
        with self._guard:
            lock = self._under_way.setdefault(fingerprint, threading.Lock())
        if lock.acquire(blocking=False):
            lock.release()
        else:
            link.tell({"say": "it is being built there already"})
        with lock:
            yield

    @contextmanager
    def _slot(self, link: Link) -> Iterator[None]:
        if not self._slots.acquire(blocking=False):
            link.tell({"say": "another build goes on there; waiting for it"})
            self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release()
