"""Publishing: an artifact is there whole, with its proof, or it is not believed.

The artifact is renamed into place first, then comes the provenance, and the sidecar last: it is
the commit point, because until it names the new digest nothing is believed. Removal goes the
other way round.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from . import atomic, provenance, sidecar
from .signing import SUFFIX as ENVELOPE
from .signing import envelope_path


def publish(
    built: Path,
    path: Path,
    sha256_hex: str,
    document: bytes | None,
    envelope: bytes | None = None,
) -> None:
    """Publish a finished artifact with its provenance, signature and sidecar.

    Args:
        built: The artifact, complete, in the same folder; it is gone afterwards.
        path: Where it is to be.
        sha256_hex: Digest of its bytes.
        document: Provenance, or None where someone else records the inputs.
        envelope: The signature of the provenance; one that is there goes where there is none.

    Raises:
        OSError: The folder is not writable or is full; what is there then is not believed.
    """
    atomic.commit(built, path)
    if document is not None:
        atomic.write_atomically(provenance.path_for(path), document)
    if envelope is not None:
        atomic.write_atomically(envelope_path(path), envelope)
    else:
        # It is about another artifact.
        atomic.clear(envelope_path(path))
    atomic.write_atomically(sidecar.path_for(path), sidecar.line(path.name, sha256_hex))
    atomic.sync(path.parent)


def remove(path: Path, *, dry_run: bool = False) -> Iterator[Path]:
    """Remove an artifact: sidecar, signature, provenance, then itself; yields each that goes.

    What a killed build left of it goes too. A directory in the place of one of them is not ours
    and stays.
    """
    owned = all_paths(path)
    there = [
        one for one in owned if os.path.lexists(one) and (one.is_symlink() or not one.is_dir())
    ]
    for one in (*there, *atomic.leftovers(owned)):
        if not dry_run:
            one.unlink(missing_ok=True)
        yield one


def clear_abandoned(folder: Path) -> None:
    """Remove the temporary files and locks of artifacts that nobody is working on.

    Whoever builds an artifact clears what a killed process left of it; this is for those that
    are not built again. What is in use has a lock that is held, and stays.
    """
    abandoned: set[str] = set()
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith((".tmp", ".lock")):
                name = atomic.staged_for(entry.name) or entry.name[1:].removesuffix(".lock")
                abandoned.add(_artifact_of(name))
    for name in sorted(abandoned):
        from .locks import locked_now  # rarely needed, and slow to import

        with suppress(OSError), locked_now(folder / name) as free:
            if free:
                atomic.clear_leftovers(all_paths(folder / name))


def owned_paths(path: Path) -> tuple[Path, Path, Path]:
    """The files that every artifact has, in the order in which they are removed."""
    return sidecar.path_for(path), provenance.path_for(path), path


def all_paths(path: Path) -> tuple[Path, Path, Path, Path]:
    """The files that an artifact may have, in the order in which they are removed."""
    return sidecar.path_for(path), envelope_path(path), provenance.path_for(path), path


def _artifact_of(name: str) -> str:
    for suffix in (provenance.SUFFIX, sidecar.SUFFIX, ENVELOPE):
        name = name.removesuffix(suffix)
    return name
