"""An engine in the store as a list of them shows it."""

from __future__ import annotations

from msgspec import Struct

from .image_layout import ImageLayout
from .manifest import Descriptor, Stored


class Entry(Struct, frozen=True):
    """An engine in the store.

    Attributes:
        fingerprint: What it is found by.
        name: Its file name.
        annotations: What its manifest says of it.
        size: Bytes of all that it consists of.
        added: When it came into the store, in seconds since 1970.
        used: When it was last restored, or added.
        reason: Why it goes, where it goes.
    """

    fingerprint: str
    name: str
    annotations: dict[str, str]
    size: int
    added: float
    used: float
    reason: str = ""


def entry_of(layout: ImageLayout, stored: Stored, manifest: Descriptor) -> Entry:
    """The entry of an engine.

    When it was used is the mtime of its manifest, when it was added that of its config: neither
    blob ever changes, and no index has to be written again for a restore.
    """
    used = layout.blobs.mtime(manifest)
    return Entry(
        fingerprint=stored.fingerprint,
        name=stored.name,
        annotations=stored.manifest.annotations,
        size=manifest.size + sum(blob.size for blob in stored.blobs),
        added=min(layout.blobs.mtime(stored.manifest.config) or used, used),
        used=used,
    )
