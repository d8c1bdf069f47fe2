"""The local store: engines by fingerprint, on this machine.

Nothing that lies there is believed before it was hashed again, and nothing of it is changed in
place. A restored engine is a file of its own: writing to it leaves the store alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from .. import atomic
from ..digest import open_regular, short
from ..errors import IrregularFileError, StoreError
from ..locks import locked
from .clone import clone
from .entry import Entry, entry_of
from .image_layout import ImageLayout
from .index import MalformedIndexError
from .manifest import Descriptor, Packed, Stored, pack

__all__ = ["Entry", "LocalStore", "Stored"]


class LocalStore:
    """A store on this machine. Nothing is made before something is added.

    Attributes:
        root: Its folder.
        reasons: Fingerprint to why what is there was not believed when it was last looked for.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reasons: dict[str, str] = {}
        self._layout = ImageLayout(root)

    def find(self, fingerprint: str) -> Stored | None:
        """The engine of a fingerprint, its documents verified, its own bytes not read yet.

        Never raises for what lies on the disk: what is damaged, malformed or of an unknown
        version is not there, and `reasons` says why.
        """
        self.reasons.pop(fingerprint, None)
        try:
            manifest = self._layout.index().named.get(fingerprint)
            return None if manifest is None else self._layout.read(fingerprint, manifest)
        except (StoreError, OSError) as error:
            self.reasons[fingerprint] = f"{self.root}: {error}"
            return None

    def add(
        self,
        engine: Path,
        *,
        sha256_hex: str,
        document: bytes,
        envelope: bytes | None = None,
        name: str,
        annotations: Mapping[str, str],
    ) -> None:
        """Keep an engine under the fingerprint that its provenance says, in the place of an older.

        Args:
            engine: Its file, which stays as it is; the store has a copy.
            sha256_hex: Digest of its bytes.
            document: Its provenance.
            envelope: Its DSSE envelope.
            name: Its file name, as the provenance says it.
            annotations: What a person looks for: model, hardware, versions.

        Raises:
            StoreError: The store cannot be written or is of an unknown version, or the engine is
                not what digest and provenance say; the store has what it had.
        """
        with _clearly(f"{name} was not added to the store {self.root}"):
            fd, info = open_regular(engine, follow_symlinks=False)
            try:
                packed = pack(
                    name=name,
                    sha256_hex=sha256_hex,
                    size=info.st_size,
                    document=document,
                    envelope=envelope,
                    annotations=annotations,
                )
                if not self._has(packed):
                    self._layout.make()
                    while not self._added(fd, packed):
                        pass
                self._mark_used(packed.described)
            finally:
                os.close(fd)

    def fetch(self, stored: Stored, output: Path) -> str:
        """Restore an engine to a new file; the SHA-256 of the bytes that were written.

        An engine that turns out to be damaged goes from the store.

        Raises:
            StoreError: It is gone or is not what its manifest says, or the output cannot be
                written; there is no output then.
        """
        with _clearly(f"{stored.name} was not restored from the store {self.root}"):
            try:
                digest = self._fetched(stored, output)
            except (StoreError, IrregularFileError):
                with suppress(StoreError, OSError):  # the store may be read-only
                    self._drop_damaged(stored)
                raise
            self._mark_used(stored.described)
            return digest

    def open_blob(self, descriptor: Descriptor) -> BinaryIO:
        """A blob as it lies there, not verified: whoever reads it verifies it.

        Raises:
            StoreError: It is missing, of another size, or no regular file.
        """
        with _clearly(f"{descriptor} of the store {self.root} cannot be read"):
            return os.fdopen(self._opened(descriptor), "rb")

    def remove(self, fingerprint: str) -> bool:
        """Remove an engine and what only it consists of; whether there was one.

        Raises:
            StoreError: The store cannot be written.
        """
        with _clearly(f"{short(fingerprint)} was not removed from the store {self.root}"):
            with suppress(MalformedIndexError):
                if fingerprint not in self._layout.index().named:
                    return False
            with self._layout.locked():
                there = fingerprint in self._layout.sound_index().named
                self._layout.forget({fingerprint})
                return there

    def entries(self) -> Iterator[Entry]:
        """The engines in the store; those that are damaged are left out.

        Raises:
            StoreError: The store cannot be read or is of an unknown version.
        """
        with _clearly(f"the store {self.root} cannot be listed"):
            named = self._layout.index().named
        for fingerprint, manifest in named.items():
            with suppress(StoreError, OSError):
                yield entry_of(self._layout, self._layout.read(fingerprint, manifest), manifest)

    def prune(
        self,
        *,
        max_bytes: int | None,
        max_age_s: float | None,
        keep: Container[str],
        dry_run: bool,
    ) -> list[Entry]:
        """Drop engines, least recently used first, and leftovers; what went, each with the reason.

        Args:
            max_bytes: What the engines may take together.
            max_age_s: For how many seconds an engine may lie unused.
            keep: Fingerprints that stay, whatever their size and age.
            dry_run: Only say what would go.

        Raises:
            StoreError: The store cannot be read or written.
        """
        from .prune import prune  # who builds or restores does not prune

        with _clearly(f"the store {self.root} was not pruned"):
            if not self._layout.blobs.folder.is_dir():
                return []
            with nullcontext() if dry_run else self._layout.locked():
                return prune(
                    self._layout,
                    max_bytes=max_bytes,
                    max_age_s=max_age_s,
                    keep=keep,
                    dry_run=dry_run,
                )

    def _has(self, packed: Packed) -> bool:
        """Whether the store has just this, as far as can be told without reading the engine."""
        try:
            manifest = self._layout.index().named.get(packed.fingerprint)
            if manifest is None or manifest.sha256_hex != packed.described.sha256_hex:
                return False
            stored = self._layout.read(packed.fingerprint, manifest)
        except (StoreError, OSError):
            return False
        return self._layout.blobs.present(stored.manifest.config)

    def _added(self, engine: int, packed: Packed) -> bool:
        """Add it; False if the blob that was to be reused went away meanwhile."""
        blobs = self._layout.blobs
        path = blobs.path(packed.engine)
        with locked(path), atomic.staged(path) as temporary:
            atomic.clear_leftovers((path,))
            reused = blobs.intact(packed.engine)
            if not reused:
                _expect(packed.engine, clone(engine, temporary))
                atomic.sync(temporary)  # not under the lock of the whole store
            with self._layout.locked():
                if not reused:
                    atomic.commit(temporary, path)
                elif not blobs.present(packed.engine):
                    return False
                self._layout.put(packed)
        return True

    def _mark_used(self, manifest: Descriptor) -> None:
        with suppress(OSError):  # the store may be read-only, or the file another user's
            os.utime(self._layout.blobs.path(manifest))

    def _fetched(self, stored: Stored, output: Path) -> str:
        fd = self._opened(stored.engine)
        try:
            digest = clone(fd, output)
        finally:
            os.close(fd)
        try:
            _expect(stored.engine, digest)
        except StoreError:
            output.unlink(missing_ok=True)
            raise
        return digest

    def _opened(self, descriptor: Descriptor) -> int:
        try:
            fd, info = open_regular(self._layout.blobs.path(descriptor), follow_symlinks=False)
        except FileNotFoundError as error:
            raise StoreError(f"{descriptor} is missing") from error
        if info.st_size != descriptor.size:
            os.close(fd)
            raise StoreError(f"{descriptor} has {info.st_size} bytes, not {descriptor.size}")
        return fd

    def _drop_damaged(self, stored: Stored) -> None:
        """Drop an engine, unless it is another by now."""
        with self._layout.locked():
            now = self._layout.index().named.get(stored.fingerprint)
            same = now is not None and now.digest == stored.described.digest
            if same and not self._layout.blobs.intact(stored.engine):
                self._layout.forget({stored.fingerprint})


def _expect(descriptor: Descriptor, digest: str) -> None:
    if digest != descriptor.sha256_hex:
        raise StoreError(f"the bytes are {short(digest)}, not {short(descriptor.sha256_hex)}")


@contextmanager
def _clearly(what: str) -> Iterator[None]:
    """Say what was not done, why, and what to do, whatever the reason is."""
    try:
        yield
    except (StoreError, IrregularFileError) as error:
        raise StoreError(f"{what}: {error}") from error
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "")
        raise StoreError(f"{what}: {error.strerror or error}{remedy}") from error


_REMEDIES = {
    errno.ENOSPC: "; make room, or prune the store",
    errno.EDQUOT: "; make room, or prune the store",
    errno.EACCES: "; look whom it belongs to",
    errno.EPERM: "; look whom it belongs to",
}
