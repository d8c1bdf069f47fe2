"""The index of a store: which manifest each fingerprint has, and whatever else others put there.

An entry that is not ours, and a field that we do not know, is written again byte for byte as it
was read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from ..digest import is_sha256
from ..errors import StoreError
from .manifest import INDEX, REF_NAME, Descriptor

INDEX_LIMIT = 256 << 20

_DIGESTS = re.compile(rb"sha256:([0-9a-f]{64})")


class MalformedIndexError(StoreError):
    """The index is damaged: no version of OCI has such a one."""


class Index(Struct, frozen=True):
    """`index.json`.

    Attributes:
        fields: What it holds beside its entries, as it was read.
        entries: Each entry as it was read, with its name; "" where it has none that we can read.
        named: The first entry of each name that is a fingerprint.
    """

    fields: dict[str, Raw]
    entries: tuple[tuple[str, Raw], ...]
    named: dict[str, Descriptor]

    def with_entry(self, fingerprint: str, manifest: Descriptor) -> Index:
        """The index with this manifest as the only one of its fingerprint."""
        others = [raw for name, raw in self.entries if name != fingerprint]
        return _index(self.fields, (*others, _entry(fingerprint, manifest)))

    def without(self, fingerprints: Iterable[str]) -> Index:
        """The index without the entries of these fingerprints."""
        gone = set(fingerprints)
        return _index(self.fields, (raw for name, raw in self.entries if name not in gone))

    def encode(self) -> bytes:
        """Its bytes."""
        manifests = [raw for _, raw in self.entries]
        return msgspec.json.encode({**self.fields, "manifests": manifests}) + b"\n"


class _Head(Struct, frozen=True, rename="camel"):
    schema_version: Literal[2]
    manifests: tuple[Raw, ...]


_HEAD = msgspec.json.Decoder(_Head)
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_ENTRY = msgspec.json.Decoder(Descriptor)


def new(manifests: Mapping[str, Descriptor]) -> Index:
    """An index of these manifests alone, by fingerprint."""
    fields = {"schemaVersion": Raw(b"2"), "mediaType": Raw(msgspec.json.encode(INDEX))}
    return _index(fields, (_entry(name, one) for name, one in manifests.items()))


def read_index(data: bytes) -> Index:
    """The index, strictly in what OCI says of it as a whole, entry by entry in the rest.

    Raises:
        MalformedIndexError: It is malformed.
        StoreError: It is of an unknown version.
    """
    try:
        fields = _FIELDS.decode(data)
        version = bytes(fields.get("schemaVersion", b"")).decode(errors="replace")
        if version.isdecimal() and version != "2":
            raise StoreError(f"index.json has schemaVersion {version[:20]}, unknown here")
        head = _HEAD.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedIndexError(f"index.json is malformed: {error}") from error
    del fields["manifests"]
    return _index(fields, head.manifests)


def digests_in(data: bytes | Raw) -> frozenset[str]:
    """Every SHA-256 that is spelled as a digest in some JSON."""
    return frozenset(found.decode() for found in _DIGESTS.findall(data))


def _index(fields: dict[str, Raw], entries: Iterable[Raw]) -> Index:
    pairs: list[tuple[str, Raw]] = []
    named: dict[str, Descriptor] = {}
    for raw in entries:
        name, descriptor = _read(raw)
        pairs.append((name, raw))
        if descriptor is not None and is_sha256(name):
            named.setdefault(name, descriptor)
    return Index(fields, tuple(pairs), named)


def _read(raw: Raw) -> tuple[str, Descriptor | None]:
    """The name of an entry and the entry, as far as they can be read."""
    try:
        descriptor = _ENTRY.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return "", None
    return descriptor.annotations.get(REF_NAME, ""), descriptor


def _entry(fingerprint: str, manifest: Descriptor) -> Raw:
    named = msgspec.structs.replace(manifest, annotations={REF_NAME: fingerprint})
    return Raw(msgspec.json.encode(named))
