"""Pruning: which engines go from a store, and why.

The engine that was not used for longest goes first, and only as far as size and age ask for it.
What is damaged goes whatever its age: it can never be used again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Container, Iterator, Mapping

import msgspec
from msgspec import Struct

from ..errors import StoreError
from .entry import Entry, entry_of
from .image_layout import ImageLayout
from .index import Index
from .manifest import ENGINE, MANIFEST, Descriptor, read_manifest

GRACE_S = 3600.0
"""A blob that nothing names stays for so long: another tool may be about to name it."""


class Held(Struct, frozen=True):
    """An engine in the store and the sizes of the blobs that it consists of, by digest."""

    entry: Entry
    blobs: Mapping[str, int]


def prune(
    layout: ImageLayout,
    *,
    max_bytes: int | None,
    max_age_s: float | None,
    keep: Container[str],
    dry_run: bool,
) -> list[Entry]:
    """Drop engines and what nothing names; needs the lock, but for a dry run.

    Raises:
        StoreError: The index is malformed or of an unknown version.
        OSError: The store cannot be read or written.
    """
    index = layout.index() if dry_run else layout.sound_index()
    held = list(_held(layout, index))
    going = choose(held, max_bytes=max_bytes, max_age_s=max_age_s, keep=keep, now=time.time())
    if going and not dry_run:
        layout.forget({entry.fingerprint for entry in going})
    if not dry_run:
        layout.sweep(older_than=time.time() - GRACE_S)
    return going


def choose(
    held: list[Held],
    *,
    max_bytes: int | None,
    max_age_s: float | None,
    keep: Container[str],
    now: float,
) -> list[Entry]:
    """The engines that go, each with the reason.

    A blob that two engines share is counted once, and is freed when the last of them goes.
    """
    users = Counter(digest for one in held for digest in one.blobs)
    total = sum({digest: size for one in held for digest, size in one.blobs.items()}.values())
    going: list[Entry] = []
    for one in sorted(held, key=lambda one: (one.entry.reason == "", one.entry.used)):
        entry = one.entry
        if entry.fingerprint in keep:
            continue
        reason = entry.reason
        if not reason and max_age_s is not None and now - entry.used > max_age_s:
            reason = f"not used for {_days(now - entry.used)}"
        if not reason and max_bytes is not None and total > max_bytes:
            reason = "least recently used"
        if reason:
            going.append(msgspec.structs.replace(entry, reason=reason))
            for digest, size in one.blobs.items():
                users[digest] -= 1
                total -= size if not users[digest] else 0
    return going


def _held(layout: ImageLayout, index: Index) -> Iterator[Held]:
    for fingerprint, manifest in index.named.items():
        try:
            stored = layout.read(fingerprint, manifest)
        except StoreError as error:
            if _is_ours(layout, manifest):
                reason = f"damaged: {error}"
                yield Held(Entry(fingerprint, "", {}, 0, 0.0, 0.0, reason), {})
            continue
        blobs = {blob.digest: blob.size for blob in (*stored.blobs, manifest)}
        yield Held(entry_of(layout, stored, manifest), blobs)


def _is_ours(layout: ImageLayout, manifest: Descriptor) -> bool:
    """Whether what cannot be used is an engine of ours that was damaged, not someone's own."""
    if manifest.media_type != MANIFEST:
        return False
    try:
        data = layout.blobs.read(manifest)
    except StoreError:
        return True
    try:
        return any(layer.media_type == ENGINE for layer in read_manifest(data).layers)
    except StoreError:
        return False


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.0f} days"
