"""An OCI image layout on disk: `oci-layout`, `index.json` and `blobs/`, read and written.

Blobs come first and the index last, each whole or not at all: a killed process leaves what was
there, or that and what it added. Who writes the index holds its lock; who only reads needs none.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Raw

from .. import atomic
from ..digest import read_regular
from ..errors import IrregularFileError, StoreError
from ..locks import locked
from ..publish import clear_abandoned
from . import index as indices
from .blobs import Blobs
from .index import INDEX_LIMIT, Index, MalformedIndexError
from .manifest import FINGERPRINT, MANIFEST, Descriptor, Packed, Stored, read_manifest, unpack

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class _Layout(msgspec.Struct, frozen=True, rename="camel"):
    image_layout_version: Literal["1.0.0"]


_VERSION = msgspec.json.Decoder(_Layout)


class ImageLayout:
    """A folder in the form of an OCI image layout; it need not be there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = Blobs(root)
        self._index_path = root / "index.json"
        self._layout_path = root / "oci-layout"
        self._cached: tuple[tuple[int, ...], Index | StoreError] | None = None

    def index(self) -> Index:
        """The index of now, parsed again only if the file is another; empty if there is none.

        Raises:
            StoreError: It or the layout is malformed or of an unknown version.
            OSError: It cannot be read.
        """
        try:
            info = self._index_path.lstat()
        except FileNotFoundError:
            self._check_version()
            return indices.new({})
        signature = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        if self._cached is None or self._cached[0] != signature:
            self._cached = signature, self._parsed()
        found = self._cached[1]
        if isinstance(found, StoreError):
            raise found
        return found

    def read(self, fingerprint: str, manifest: Descriptor) -> Stored:
        """What an entry of the index leads to, verified but for the engine's own bytes.

        Raises:
            StoreError: Something is missing, damaged, malformed or for another fingerprint.
        """
        if manifest.media_type != MANIFEST:
            raise StoreError(f"its media type is {manifest.media_type[:80]!r}, unknown here")
        stored = unpack(fingerprint, self.blobs.read(manifest), self.blobs.read)
        if not self.blobs.present(stored.engine):
            raise StoreError(f"{stored.engine}, the engine, is missing or has another size")
        return stored

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the index, without which nothing is written or removed."""
        with locked(self._index_path):
            yield

    def make(self) -> None:
        """Make the folders and say what they are.

        Raises:
            StoreError: There is a layout of an unknown version, or an index of something else.
            OSError: They cannot be made.
        """
        ours = self._layout_path.exists()
        try:
            self.index()
        except MalformedIndexError:
            if not ours:
                raise
        if not ours:
            self.root.mkdir(parents=True, exist_ok=True)
            atomic.write_atomically(self._layout_path, _LAYOUT)
        self.blobs.folder.mkdir(parents=True, exist_ok=True)

    def sound_index(self) -> Index:
        """The index, made anew from the manifests that are there if it is damaged; needs the lock.

        What was damaged is kept aside.

        Raises:
            StoreError: It or the layout is of an unknown version.
            OSError: It cannot be read or written.
        """
        try:
            return self.index()
        except MalformedIndexError:
            if not self._layout_path.exists():
                raise  # whose is it?
            found: dict[str, Descriptor] = {}
            for manifest, data in self.blobs.small():
                with suppress(StoreError):
                    fingerprint = read_manifest(data).annotations.get(FINGERPRINT, "")
                    found[self.read(fingerprint, manifest).fingerprint] = manifest
            aside = self._index_path.with_name(f"index.json.aside-{atomic.random_hex()}")
            with suppress(OSError):
                os.link(self._index_path, aside, follow_symlinks=False)
            self.write_index(indices.new(found))
            return self.index()

    def put(self, packed: Packed) -> None:
        """Add an engine whose own bytes are there: documents first, the index last; needs the lock.

        Raises:
            StoreError: The index is of an unknown version or would be too large.
            OSError: Something cannot be written; the index is as it was.
        """
        for descriptor, data in (*packed.blobs, (packed.described, packed.manifest)):
            self.blobs.write(descriptor, data)
        atomic.sync(self.blobs.folder)
        self.write_index(self.sound_index().with_entry(packed.fingerprint, packed.described))

    def write_index(self, index: Index) -> None:
        """Put an index in the place of the one that is there; needs the lock.

        Raises:
            StoreError: It would be too large to be read again.
            OSError: It cannot be written; the old one is there.
        """
        data = index.encode()
        if len(data) > INDEX_LIMIT:
            raise StoreError(f"the index would be larger than {INDEX_LIMIT} bytes: prune the store")
        atomic.write_atomically(self._index_path, data)
        atomic.sync(self.root)

    def forget(self, fingerprints: Set[str]) -> None:
        """Remove engines from the index and then what only they consist of; needs the lock.

        Raises:
            OSError: Something cannot be read or written; what is in the index is whole.
        """
        index = self.sound_index()
        rest = index.without(fingerprints)
        gone = self.live(entry for entry in index.entries if entry[0] in fingerprints)
        unneeded = gone - self.live(rest.entries)
        try:
            self.write_index(rest)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # An entry without its blobs is a miss: room is made for the index that drops it.
            self.blobs.remove(unneeded)
            self.write_index(rest)
        self.blobs.remove(unneeded)

    def live(self, entries: Iterable[tuple[str, Raw]]) -> frozenset[str]:
        """The digests of all blobs that entries of the index lead to.

        Raises:
            OSError: Something is there and cannot be read.
        """
        roots = (digest for _, raw in entries for digest in indices.digests_in(raw))
        return frozenset().union(*map(self.blobs.references, roots))

    def sweep(self, *, older_than: float) -> None:
        """Remove blobs that nothing names, and what killed processes left; needs the lock.

        Args:
            older_than: Seconds since 1970: later blobs stay, someone may be about to name them.

        Raises:
            OSError: Something cannot be read or removed.
        """
        live = self.live(self.index().entries)
        for path, mtime in self.blobs.others(live):
            if mtime < older_than:
                path.unlink(missing_ok=True)
        clear_abandoned(self.blobs.folder)
        atomic.clear_leftovers((self._index_path, self._layout_path))

    def _parsed(self) -> Index | StoreError:
        try:
            self._check_version()
            return indices.read_index(read_regular(self._index_path, limit=INDEX_LIMIT))
        except IrregularFileError as error:
            return MalformedIndexError(f"{error}")
        except StoreError as error:
            return error

    def _check_version(self) -> None:
        """Raise StoreError if the layout says that it is of another version."""
        try:
            _VERSION.decode(read_regular(self._layout_path, limit=4096))
        except FileNotFoundError:
            return  # whoever copied a store by hand may have left it out
        except (msgspec.DecodeError, ValueError, IrregularFileError) as error:
            raise StoreError(
                f"oci-layout is malformed or of an unknown version: {error}"
            ) from error
