"""Engines in a registry that a fleet shares, one artifact each, tagged by its fingerprint.

Nothing that a registry sends is believed: the manifest must be for the fingerprint that was asked
for, every blob must have its digest, and whoever fetched an engine judges it as one that lay on
the disk. A registry that is of no use is asked once, not once for each engine.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..digest import is_sha256, short
from ..errors import RemoteError, StoreError
from .manifest import MANIFEST, Descriptor, Stored, unpack

if TYPE_CHECKING:
    from .input_artifact import PackedInputs
    from .release_index import PackedRelease
    from .upload import OpenBlob

PATIENCE_S = 4.0
"""Seconds without progress after which a registry is given up: the build need not wait for it."""

_PULL, _PUSH = "pull", "push"


class RemoteStore:
    """The engines in one repository of a registry.

    It remembers that the registry was of no use, and says so at once from then on: in all it
    costs `patience_s` to find out, for as long as this object is used.
    """

    def __init__(
        self,
        reference: str,
        *,
        scratch: Path | None,
        read_only: bool = False,
        insecure: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """The store of a reference; no connection is made yet.

        Args:
            reference: `registry.example.com/team/engines`.
            scratch: Folder for downloads that broke off, made when one does; None drops them.
                It helps only on the file system that engines are fetched to.
            read_only: Whether `push` is refused.
            insecure: Whether to use plain HTTP; on this machine's own addresses it always is.
            patience_s: Seconds without progress after which the registry is given up.

        Raises:
            RemoteError: The reference is none, or urllib3 is not installed.
        """
        try:
            from .registry import Registry  # 100 ms to import, and needed only on a miss
        except ModuleNotFoundError as error:
            raise RemoteError(
                f"a remote store needs {error.name}: pip install 'enginery[store]'"
            ) from error
        from .reference import Reference

        self.reference = Reference.parse(reference, insecure=insecure)
        self.read_only = read_only
        self._registry = Registry(self.reference)
        self._scratch = scratch
        self._patience_s = patience_s
        self._left = patience_s
        self._useless: dict[str, str] = {}

    @property
    def given_up(self) -> bool:
        """Whether the registry turned out to be of no use, so that asking it only repeats why."""
        return _PULL in self._useless

    def find(self, fingerprint: str) -> Stored | None:
        """What the registry has for a fingerprint, documents read and checked, or None.

        Raises:
            RemoteError: The registry is of no use, or what it has is not what was asked for.
        """
        from .patience import Patience

        patience = Patience(self._patience_s)
        registry = self._registry
        with self._usable(_PULL, fingerprint):
            data = registry.manifest(_tag(fingerprint), patience)
            if data is None:
                return None
            found = unpack(fingerprint, data, lambda blob: registry.small_blob(blob, patience))
            self._left = patience.left()
            return found

    def fetch(self, stored: Stored, output: Path) -> str:
        """Write an engine to a new file and return its SHA-256, verified on the way.

        What breaks off is resumed, now or by the next call. If it fails, `output` is not there.

        Raises:
            RemoteError: The registry is of no use, or the engine that it has is damaged.
            OSError: The file cannot be written.
        """
        from .patience import Patience

        # What `find` used up is gone: both together are one question.
        patience = Patience(self._patience_s, first=max(self._left, 1.0))
        with self._usable(_PULL, stored.fingerprint):
            self._registry.download(stored.engine, output, patience, parking=self._scratch)
        return stored.engine.sha256_hex

    def push(self, stored: Stored, open_blob: OpenBlob) -> bool:
        """Send an engine: its blobs, those that are there already not, and its manifest last.

        Args:
            stored: What to send.
            open_blob: Opens one of its blobs for reading, from the start.

        Returns:
            False if all of it was there already.

        Raises:
            RemoteError: The store is read only, or the registry does not take it.
            StoreError: A blob is not what it should be; the registry has no manifest of it.
        """
        from .patience import Patience

        self._check_writable()
        tag = _tag(stored.fingerprint)
        with self._usable(_PUSH, stored.fingerprint, ours=True):
            registry = self._registry
            sent = False
            for blob in stored.blobs:
                sent |= registry.upload(blob, open_blob, Patience(self._patience_s))
            patience = Patience(self._patience_s)
            if not sent and registry.manifest(tag, patience) == stored.manifest_bytes:
                return False
            registry.put_manifest(tag, stored.manifest_bytes, patience)
            return True

    def push_release(self, packed: PackedRelease) -> None:
        """Send a release whose engines are there: its documents, then its index.

        Raises:
            RemoteError: The store is read only, or the registry does not take it.
        """
        from .manifest import INDEX, describe
        from .patience import Patience

        self._check_writable()
        with self._usable(_PUSH, packed.tag):
            for blob, data in packed.blobs:
                self._registry.upload(blob, partial(_opened, data), Patience(self._patience_s))
            own = describe(MANIFEST, packed.manifest).digest
            self._registry.put_manifest(own, packed.manifest, Patience(self._patience_s))
            self._registry.put_manifest(
                packed.tag, packed.index, Patience(self._patience_s), media_type=INDEX
            )

    def release(self, tag: str) -> tuple[bytes, bytes | None]:
        """The document and the envelope of a release, from the tag of its index.

        Raises:
            RemoteError: The registry is of no use, has no such release, or what it has is none.
        """
        from .manifest import INDEX
        from .patience import Patience
        from .release_index import documents_of, manifest_of

        with self._usable(_PULL, tag):
            patience = Patience(self._patience_s)
            index = self._registry.manifest(tag, patience, media_type=INDEX)
            if index is None:
                raise RemoteError(f"{self.reference} has no release {tag}; push it, or correct it")
            described = manifest_of(index)
            manifest = self._registry.manifest(described.digest, patience)
            if manifest is None:
                raise RemoteError(f"{self.reference} has lost a part of {tag}; push it again")
            found = [
                None if blob is None else blob.verify(self._registry.small_blob(blob, patience))
                for blob in documents_of(described.verify(manifest))
            ]
            document, envelope = found
            assert document is not None  # noqa: S101 - a release without one was refused above
            return document, envelope

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the registry has something under a blob's digest; `fetch_blob` says what.

        Raises:
            RemoteError: The registry is of no use.
        """
        from .patience import Patience

        with self._usable(_PULL, blob.sha256_hex):
            return self._registry.has(blob, Patience(self._patience_s))

    def fetch_blob(self, blob: Descriptor, output: Path) -> None:
        """Write a blob to a new file, hashed on the way; if it fails, the file is not there.

        Raises:
            RemoteError: The registry is of no use, or what it has is not the blob.
            OSError: The file cannot be written.
        """
        from .patience import Patience

        with self._usable(_PULL, blob.sha256_hex):
            patience = Patience(self._patience_s)
            self._registry.download(blob, output, patience, parking=self._scratch)

    def push_blob(self, blob: Descriptor, open_blob: OpenBlob) -> bool:
        """Send a blob unless it is there; whether it was sent.

        Raises:
            RemoteError: The store is read only, or the registry does not take it.
            StoreError: What is to be sent is not the blob.
        """
        from .patience import Patience

        self._check_writable()
        with self._usable(_PUSH, blob.sha256_hex, ours=True):
            return self._registry.upload(blob, open_blob, Patience(self._patience_s))

    def push_inputs(self, packed: PackedInputs) -> None:
        """Have the registry keep the inputs of a build, which are there.

        Raises:
            RemoteError: The store is read only, or the registry does not take it.
        """
        from .patience import Patience

        config, data = packed.config
        self.push_blob(config, partial(_opened, data))
        with self._usable(_PUSH, config.sha256_hex):
            patience = Patience(self._patience_s)
            if self._registry.manifest(packed.tag, patience) != packed.manifest:
                self._registry.put_manifest(packed.tag, packed.manifest, patience)

    def _check_writable(self) -> None:
        if self.read_only:
            raise RemoteError(f"{self.reference} is read only here, as configured: nothing is sent")

    @contextmanager
    def _usable(self, what: str, fingerprint: str, *, ours: bool = False) -> Iterator[None]:
        """Turn what goes wrong into one kind of error, and remember what goes wrong for good."""
        from .faults import TransientError, UnavailableError

        if what in self._useless:
            raise UnavailableError(self._useless[what])
        try:
            yield
        except UnavailableError as error:
            kinds = (_PULL, _PUSH) if isinstance(error, TransientError) else (what,)
            self._useless |= dict.fromkeys(kinds, str(error))
            raise
        except TimeoutError as error:
            slow = f"{self.reference}: no answer and no progress for {self._patience_s:g} s"
            slow = str(error) or slow
            self._useless = dict.fromkeys((_PULL, _PUSH), slow)
            raise UnavailableError(slow) from None
        except StoreError as error:
            if ours:
                raise
            raise RemoteError(f"{self.reference}, engine {short(fingerprint)}: {error}") from error


def _opened(data: bytes, _blob: Descriptor) -> BinaryIO:
    return io.BytesIO(data)


def _tag(fingerprint: str) -> str:
    if not is_sha256(fingerprint):
        raise RemoteError(f"{fingerprint[:80]!r} is no fingerprint")
    return fingerprint
