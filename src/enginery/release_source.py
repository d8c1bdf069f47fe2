"""Where the engines of a release come from: a folder that was copied over, or a store.

What a source gives is not believed because it gave it: the bytes are hashed while they are
written, and whoever asked verifies what came with them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from . import provenance
from .digest import open_regular, read_regular, short
from .envelope import read_envelope
from .errors import (
    EngineIntegrityError,
    EngineryError,
    IrregularFileError,
    ProvenanceError,
    StoreError,
)
from .release import ReleaseEngine
from .store.clone import clone
from .store.manifest import Stored

_LIMIT = 4 << 20


class Documents(msgspec.Struct, frozen=True):
    """What belongs to an engine, byte for byte: provenance and, if it is signed, envelope."""

    provenance: bytes
    envelope: bytes | None


class Source(Protocol):
    """Something that has the engines of a release."""

    def documents(self, engine: ReleaseEngine) -> Documents:
        """What belongs to an engine.

        Raises:
            EngineryError: It has no such engine.
        """

    def copy(self, engine: ReleaseEngine, output: Path) -> None:
        """Write an engine to a new file, whose digest is then that of the release.

        Raises:
            EngineryError: It has no such engine, or not one that is what the release names.
            OSError: The output cannot be written.
        """


class Store(Protocol):
    """What a local store and a registry have in common."""

    def find(self, fingerprint: str) -> Stored | None:
        """The engine of a fingerprint, if it is there."""

    def fetch(self, stored: Stored, output: Path) -> str:
        """Write its bytes to a new file; their SHA-256."""


class FolderSource:
    """A folder with engines under their own names, each with its provenance beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def documents(self, engine: ReleaseEngine) -> Documents:
        """What lies beside an engine; see `Source`."""
        path = self._folder / engine.name
        try:
            document = read_regular(provenance.path_for(path), limit=_LIMIT, follow_symlinks=True)
        except FileNotFoundError as error:
            raise self._missing(provenance.path_for(path).name) from error
        except (OSError, IrregularFileError) as error:
            raise ProvenanceError(
                f"the provenance of {engine.name} cannot be read: {error}"
            ) from error
        return Documents(document, read_envelope(path, follow_symlinks=True))

    def copy(self, engine: ReleaseEngine, output: Path) -> None:
        """Copy an engine; see `Source`."""
        path = self._folder / engine.name
        try:
            fd, _ = open_regular(path, follow_symlinks=True)
        except FileNotFoundError as error:
            raise self._missing(engine.name) from error
        except (OSError, IrregularFileError) as error:
            raise EngineIntegrityError(f"{path} cannot be read: {error}") from error
        try:
            actual = clone(fd, output)
        except StoreError as error:
            raise EngineIntegrityError(f"{path} was not copied: {error}") from error
        finally:
            os.close(fd)
        _agree(engine, actual, f"the folder {self._folder}")

    def _missing(self, name: str) -> EngineryError:
        return EngineryError(
            f"the folder {self._folder} has no {name}, which the release names; copy it there too"
        )


class StoreSource:
    """A store: an OCI image layout that was copied over, or a registry."""

    def __init__(self, store: Store, name: str, reasons: Mapping[str, str] | None = None) -> None:
        """A source.

        Args:
            store: The store.
            name: What to call it in a message: its folder or reference.
            reasons: Where the store says why it does not believe what it has: `LocalStore.reasons`.
        """
        self._store = store
        self._name = name
        self._reasons = {} if reasons is None else reasons

    def documents(self, engine: ReleaseEngine) -> Documents:
        """What the store has beside an engine; see `Source`."""
        stored = self._found(engine)
        return Documents(stored.document, stored.envelope)

    def copy(self, engine: ReleaseEngine, output: Path) -> None:
        """Restore or download an engine; see `Source`."""
        stored = self._found(engine)
        _agree(engine, self._store.fetch(stored, output), self._name)

    def _found(self, engine: ReleaseEngine) -> Stored:
        stored = self._store.find(engine.fingerprint)
        if stored is None:
            reason = self._reasons.get(engine.fingerprint)
            raise EngineryError(
                f"{self._name} has no {engine.name} (fingerprint {short(engine.fingerprint)}), "
                f"which the release names{f' ({reason})' if reason else ''}; "
                "push or copy the release again"
            )
        # Two builds of one recipe need not have the same bytes: this one is not the release's.
        _agree(engine, stored.engine.sha256_hex, self._name)
        return stored


def source_of(folder: Path) -> Source:
    """A folder as a source: an OCI image layout if it is one, else the engines that lie there.

    Raises:
        EngineryError: There is no such folder.
    """
    if not folder.is_dir():
        raise EngineryError(f"there is no folder {folder} to install from; correct the path")
    if (folder / "oci-layout").is_file():
        from .store.layout import LocalStore

        store = LocalStore(folder)
        return StoreSource(store, f"the folder {folder}", store.reasons)
    return FolderSource(folder)


def _agree(engine: ReleaseEngine, actual: str, where: str) -> None:
    if actual != engine.sha256:
        raise EngineIntegrityError(
            f"{engine.name} of {where} is not the engine that the release names: its bytes are "
            f"{short(actual)}, not {short(engine.sha256)}"
        )
