"""A worker's inputs from a remote store: looked for there before they are asked for elsewhere.

Who asked for a build may put them there, and says so. What comes from there is hashed while it
comes, and has the size that the request says; whatever goes wrong, the inputs come from who asked.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ..digest import short
from ..errors import RemoteError
from ..store.manifest import Descriptor
from ..store.remote import RemoteStore
from .blobs import InputBlobs
from .telling import Link

_LEFT_ALONE_S = 60.0
"""Seconds for which a registry that is of no use is not asked again."""

_LEASE_S = 30.0
"""Seconds after which somebody else may upload a file, where the first is not heard of any more."""


class RemoteInputs:
    """What a remote store has of a worker's inputs; safe in any thread.

    Attributes:
        name: Registry and repository; None where there is none.
    """

    def __init__(self, reference: str | None, blobs: InputBlobs, *, insecure: bool = False) -> None:
        """Say where it is; nothing is connected yet.

        Args:
            reference: `registry.example.com/team/engines`, or None.
            blobs: Where inputs are kept.
            insecure: Whether plain HTTP will do off this machine.

        Raises:
            RemoteError: The reference is none, or urllib3 is not installed.
        """
        self._reference, self._blobs, self._insecure = reference, blobs, insecure
        self._guard = threading.Lock()
        self._under_way: dict[str, threading.Lock] = {}
        self._awaited: list[Awaited] = []
        self._uploads: dict[str, tuple[str, float]] = {}
        self._useless_until = 0.0
        self._store = None if reference is None else self._new_store()
        self.name = None if self._store is None else str(self._store.reference)

    @contextmanager
    def awaited(self, sizes: Mapping[str, int], link: Link) -> Iterator[Awaited]:
        """What a build waits for, by digest and size, for as long as it waits."""
        one = Awaited(self, sizes, link)
        with self._guard:
            self._awaited.append(one)
        try:
            yield one
        finally:
            with self._guard:
                self._awaited.remove(one)
                still = {digest for other in self._awaited for digest in other.sizes}
                self._uploads = {k: v for k, v in self._uploads.items() if k in still}

    def look(self, uploader: str, digests: Sequence[str], *, there: bool) -> list[str]:
        """Hear that files are in the remote store, or are on their way to it.

        Args:
            uploader: What whoever says so calls himself.
            digests: The files.
            there: Whether they are there; else he is about to upload them, or goes on to.

        Returns:
            Those that he is to upload: a build waits for them, and nobody else does it.
        """
        now, mine = time.monotonic(), []
        missing = self._blobs.missing(digests)
        with self._guard:
            for digest in missing:
                waiting = [one for one in self._awaited if digest in one.sizes]
                for one in waiting:
                    one.hear(digest, now, there=there)
                who, at = self._uploads.get(digest, (uploader, now))
                if waiting and not there and (who == uploader or now - at > _LEASE_S):
                    self._uploads[digest] = (uploader, now)
                    mine.append(digest)
        self._blobs.notify()
        return mine

    def fetch(self, sha256: str, size: int) -> bool:
        """Fetch a file unless it is here; False where the remote store has none.

        Raises:
            RemoteError: The registry is of no use, or what it has is not the file.
            OSError: The disk does not take it.
        """
        with self._alone(sha256):
            if not self._blobs.missing([sha256]):
                return True
            blob = Descriptor("application/octet-stream", f"sha256:{sha256}", size)
            store = self._usable_store()
            known = store.given_up
            try:
                if not store.has_blob(blob):
                    return False
                part = self._blobs.folder / f"{sha256}.{os.urandom(4).hex()}.part"
                store.fetch_blob(blob, part)
            finally:
                if store.given_up and not known:
                    self._useless_until = time.monotonic() + _LEFT_ALONE_S
            self._blobs.adopt(part, sha256)
            return True

    def _usable_store(self) -> RemoteStore:
        """The remote store; one that turned out to be of no use says so, until it is tried anew."""
        if self._store is None or (self._store.given_up and time.monotonic() > self._useless_until):
            self._store = self._new_store()
        return self._store

    def _new_store(self) -> RemoteStore:
        return RemoteStore(
            str(self._reference), scratch=None, read_only=True, insecure=self._insecure
        )

    @contextmanager
    def _alone(self, sha256: str) -> Iterator[None]:
        """One download of a file at a time: two builds may wait for it."""
        with self._guard:
            lock = self._under_way.setdefault(sha256, threading.Lock())
        with lock:
            try:
                yield
            finally:
                with self._guard:
                    self._under_way.pop(sha256, None)


class Awaited:
    """The files that one build waits for, and what the remote store has to do with them.

    Attributes:
        sizes: Digest to size.
        heard: When somebody said last that he uploads them, by the monotonic clock.
        came: How many came from the remote store.
    """

    def __init__(self, remote: RemoteInputs, sizes: Mapping[str, int], link: Link) -> None:
        self.sizes, self.heard, self.came = sizes, 0.0, 0
        self._remote, self._link = remote, link
        self._usable = remote.name is not None
        # What another build host got there, nobody says.
        self._told = set(sizes)
        self._asked = False

    @property
    def offer(self) -> dict[str, object]:
        """What is said of the remote store where inputs are asked for."""
        return {"remote": self._remote.name} if self._usable else {}

    def hear(self, digest: str, now: float, *, there: bool) -> None:
        """Take note that a file is there, or is on its way."""
        self.heard = now
        if there:
            self._told.add(digest)

    def take(self, missing: Sequence[str]) -> bool:
        """Fetch what may be there of these; whether anything is to be looked at again by that.

        Raises:
            OSError: The disk does not take it.
        """
        told = [one for one in missing if one in self._told]
        if not (self._usable and told):
            return False
        link, asked, self._asked = self._link, self._asked, True
        try:
            for one in told:
                self._told.discard(one)
                if not link.is_awaited():
                    return True
                if self._remote.fetch(one, self.sizes[one]):
                    self.came += 1
                elif asked:
                    raise RemoteError(
                        f"{self._remote.name} does not have the input {short(one)}, though it was "
                        "uploaded"
                    )
        except RemoteError as error:
            self._usable = False
            link.tell({"say": f"its inputs are sent to the worker: {error}"})
        return True
