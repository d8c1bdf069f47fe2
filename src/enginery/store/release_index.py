"""A release in a registry: an OCI index of its engines, and of the document that names them.

The index is tagged `release-<SHA-256 of the document>`. Its first entry is the release itself, an
artifact whose layers are the document and its envelope; the others are the engines' manifests, as
each is tagged by its fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct

from ..digest import sha256_bytes
from ..errors import RemoteError, StoreError
from .manifest import (
    CONFIG,
    ENVELOPE,
    INDEX,
    KIND,
    MANIFEST,
    MANIFEST_LIMIT,
    REF_NAME,
    Descriptor,
    Stored,
    describe,
    read_manifest,
    write_config,
    write_manifest,
)

RELEASE = "application/vnd.enginery.release+json"

# A release names thousands of engines and its index as many manifests.
LIMIT = 16 << 20


class PackedRelease(Struct, frozen=True):
    """A release made ready to be pushed.

    Attributes:
        tag: The tag of its index.
        blobs: The small blobs: config, document, envelope.
        manifest: The manifest of the release itself.
        index: The index.
    """

    tag: str
    blobs: tuple[tuple[Descriptor, bytes], ...]
    manifest: bytes
    index: bytes


class _Index(Struct, frozen=True, rename="camel"):
    """OCI image index, as much of it as matters."""

    schema_version: Literal[2]
    manifests: tuple[Descriptor, ...]


def tag_of(document: bytes) -> str:
    """The tag of a release's index."""
    return f"release-{sha256_bytes(document)}"


def pack_release(
    document: bytes, envelope: bytes | None, engines: Iterable[Stored]
) -> PackedRelease:
    """Index, manifest and blobs of a release.

    Args:
        document: The release.
        envelope: Its DSSE envelope.
        engines: Its engines, which are in the registry already.

    Raises:
        StoreError: It is too large.
    """
    small = [(describe(RELEASE, document, title="release.json"), document)]
    if envelope is not None:
        small.append((describe(ENVELOPE, envelope, title="release.json.dsse.json"), envelope))
    layers = tuple(descriptor for descriptor, _ in small)
    said = {KIND: "release", "enginery.release": sha256_bytes(document)}
    config = write_config(layers, said)
    manifest = write_manifest(describe(CONFIG, config), layers, said)
    own = msgspec.structs.replace(describe(MANIFEST, manifest), annotations={KIND: "release"})
    entries = [own] + [
        msgspec.structs.replace(one.described, annotations={REF_NAME: one.fingerprint})
        for one in engines
    ]
    index = msgspec.json.encode(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, "annotations": said},
        order="sorted",
    )
    if len(index) > MANIFEST_LIMIT:
        raise StoreError(f"an index of {len(index)} bytes is over the limit of {MANIFEST_LIMIT}")
    blobs = ((describe(CONFIG, config), config), *small)
    return PackedRelease(tag_of(document), blobs, manifest, index)


def manifest_of(index: bytes) -> Descriptor:
    """The manifest of the release itself, from its index.

    Raises:
        RemoteError: It is no index of a release.
    """
    try:
        entries = msgspec.json.decode(index, type=_Index).manifests
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RemoteError(f"the index of the release is malformed: {error}") from error
    for entry in entries:
        if entry.annotations.get(KIND) == "release" and 0 < entry.size <= MANIFEST_LIMIT:
            return entry
    raise RemoteError("the index is not that of a release")


def documents_of(manifest: bytes) -> tuple[Descriptor, Descriptor | None]:
    """Document and envelope of a release, from its manifest.

    Raises:
        RemoteError: It is no manifest of a release.
    """
    try:
        layers = read_manifest(manifest).layers
    except StoreError as error:
        raise RemoteError(f"the release's {error}") from error
    found = {layer.media_type: layer for layer in layers if 0 < layer.size <= LIMIT}
    if RELEASE not in found:
        raise RemoteError("the manifest of the release names no release")
    return found[RELEASE], found.get(ENVELOPE)
