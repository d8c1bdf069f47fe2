"""The blobs of a store: files that are called by the SHA-256 of their bytes.

A name is a claim, never a proof: what is read is hashed, and what lies there is reused only after
it was hashed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from .. import atomic
from ..digest import is_sha256, open_regular, read_regular, sha256_bytes, sha256_file
from ..errors import IrregularFileError, StoreError
from .index import INDEX_LIMIT, digests_in
from .manifest import ENGINE, FINGERPRINT, MANIFEST, MANIFEST_LIMIT, Descriptor, read_manifest


class Blobs:
    """The folder `blobs/sha256` of an OCI image layout."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "blobs" / "sha256"
        self._references: dict[str, frozenset[str]] = {}

    def path(self, descriptor: Descriptor) -> Path:
        """Where a blob is, if it is there.

        Raises:
            StoreError: It is not called by a SHA-256.
        """
        return self.folder / descriptor.sha256_hex

    def read(self, descriptor: Descriptor) -> bytes:
        """The bytes of a manifest or document, verified.

        Raises:
            StoreError: It is missing, damaged, too large or no regular file.
            PermissionError: It may not be read, which says nothing of what it is.
        """
        limit = max(0, min(descriptor.size, MANIFEST_LIMIT))
        try:
            data = read_regular(self.path(descriptor), limit=limit)
        except FileNotFoundError as error:
            raise StoreError(f"{descriptor} is missing") from error
        except PermissionError:
            raise
        except (OSError, IrregularFileError) as error:
            raise StoreError(f"{descriptor} cannot be read: {error}") from error
        return descriptor.verify(data)

    def write(self, descriptor: Descriptor, data: bytes) -> None:
        """Write a small blob, unless it is there.

        Raises:
            OSError: It cannot be written.
        """
        if not self.intact(descriptor):
            atomic.write_atomically(self.path(descriptor), data)

    def intact(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there with the bytes that its name says, hashed now."""
        try:
            return self.present(descriptor) and (
                sha256_file(self.path(descriptor)) == descriptor.sha256_hex
            )
        except (OSError, IrregularFileError):
            return False

    def present(self, descriptor: Descriptor) -> bool:
        """Whether there is a regular file of the right size; its bytes are not looked at."""
        try:
            info = self.path(descriptor).lstat()
        except OSError:
            return False
        return stat.S_ISREG(info.st_mode) and info.st_size == descriptor.size

    def remove(self, digests: Iterable[str]) -> None:
        """Remove what is there of these; a directory in their place is someone's own and stays.

        Raises:
            OSError: One cannot be removed.
        """
        for path in map(self.folder.joinpath, digests):
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)

    def mtime(self, descriptor: Descriptor) -> float:
        """When the blob's file was written or touched, in seconds since 1970; 0 if it is gone."""
        try:
            return self.path(descriptor).lstat().st_mtime
        except OSError:
            return 0.0

    def references(self, sha256_hex: str) -> frozenset[str]:
        """The digests of a blob and of all that it leads to, whoever put it there.

        Of an engine's manifest these are the blobs that it names. Of anything else, every digest
        that is spelled in it or in what it leads to: rather too many are kept than too few.

        Raises:
            OSError: Something is there and cannot be read.
        """
        known = self._references.get(sha256_hex)
        if known is not None:
            return known
        data = self._json(sha256_hex)
        named = _engine_references(data)
        if named is None:
            return self._reachable(sha256_hex)
        if sha256_bytes(data) == sha256_hex:  # it cannot change
            self._references[sha256_hex] = named | {sha256_hex}
        return named | {sha256_hex}

    def others(self, live: frozenset[str]) -> Iterator[tuple[Path, float]]:
        """Blobs that are not among these, with their mtimes; directories are someone's own."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if is_sha256(entry.name) and entry.name not in live:
                    info = entry.stat(follow_symlinks=False)
                    if not stat.S_ISDIR(info.st_mode):
                        yield Path(entry.path), info.st_mtime

    def small(self) -> Iterator[tuple[Descriptor, bytes]]:
        """Every blob that may be a manifest, verified, the oldest first."""
        found: list[tuple[float, str, int]] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if is_sha256(entry.name):
                    info = entry.stat(follow_symlinks=False)
                    found.append((info.st_mtime, entry.name, info.st_size))
        for _, name, size in sorted(found):
            descriptor = Descriptor(MANIFEST, f"sha256:{name}", size)
            if size <= MANIFEST_LIMIT:
                with suppress(StoreError):
                    yield descriptor, self.read(descriptor)

    def _reachable(self, sha256_hex: str) -> frozenset[str]:
        seen: set[str] = set()
        ahead = [sha256_hex]
        while ahead:
            one = ahead.pop()
            if one not in seen:
                seen.add(one)
                ahead += digests_in(self._json(one))
        return frozenset(seen)

    def _json(self, sha256_hex: str) -> bytes:
        """The bytes of a blob that may be JSON; none of one that is not there or is no JSON."""
        try:
            fd, _ = open_regular(self.folder / sha256_hex, follow_symlinks=False)
        except (FileNotFoundError, IrregularFileError):
            return b""
        with os.fdopen(fd, "rb") as stream:
            if not stream.peek()[:64].lstrip().startswith(b"{"):
                return b""
            return stream.read(INDEX_LIMIT)


def _engine_references(data: bytes) -> frozenset[str] | None:
    """What an engine's manifest names, if it is one."""
    try:
        manifest = read_manifest(data)
    except StoreError:
        return None
    if FINGERPRINT not in manifest.annotations:
        return None
    if all(layer.media_type != ENGINE for layer in manifest.layers):
        return None
    named = (manifest.config, *manifest.layers)
    return frozenset(one.digest.removeprefix("sha256:") for one in named)
