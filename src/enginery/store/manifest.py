"""What an engine is to OCI: a manifest that names its bytes, its provenance and its signature.

The manifest is the same on disk and in a registry, byte for byte, and follows from what it names:
the same engine with the same documents has the same manifest everywhere. Its config is an image
config whose labels repeat the annotations: skopeo inspects nothing else. docs/formats.md is the
specification; the format it builds on is the OCI image specification 1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ..digest import is_sha256, sha256_bytes, short
from ..errors import StoreError
from .subject import fingerprint_of

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
ENGINE = "application/vnd.enginery.engine.v1"
PROVENANCE = "application/vnd.in-toto+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
ONNX = "application/vnd.onnx"

TITLE = "org.opencontainers.image.title"
REF_NAME = "org.opencontainers.image.ref.name"
FINGERPRINT = "enginery.fingerprint"
KIND = "enginery.kind"
"""Annotations: a layer's file name, an index entry's name, and the two that every engine has."""

MANIFEST_LIMIT = 4 << 20
DOCUMENT_LIMIT = 4 << 20
ENGINE_LIMIT = 1 << 40
"""Largest sizes in bytes that are read at all; a guard against a wrong or hostile file."""


class _Part(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Base of the parts of a manifest: immutable, and open to fields of later OCI versions."""


class Descriptor(_Part, frozen=True):
    """OCI descriptor: a blob by media type, digest and size.

    Attributes:
        media_type: What it is.
        digest: `sha256:` and 64 lower-case hex digits; other algorithms exist and are not ours.
        size: Its size in bytes.
        annotations: What else is said of it.
    """

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}

    @property
    def sha256_hex(self) -> str:
        """The digest without its algorithm.

        Raises:
            StoreError: It is no SHA-256.
        """
        algorithm, _, encoded = self.digest.partition(":")
        if algorithm != "sha256" or not is_sha256(encoded):
            raise StoreError(f"{self.digest!r} is no SHA-256 digest")
        return encoded

    def verify(self, data: bytes) -> bytes:
        """Bytes that are this blob, returned as they are.

        Raises:
            StoreError: Their size or digest is another.
        """
        if len(data) != self.size:
            raise StoreError(f"{self} has {len(data)} bytes, not {self.size}")
        actual = sha256_bytes(data)
        if actual != self.sha256_hex:
            raise StoreError(f"{self} is damaged: its bytes are {short(actual)}")
        return data

    def __str__(self) -> str:
        return f"blob {self.digest[:19]}"


class Manifest(_Part, frozen=True):
    """OCI image manifest."""

    schema_version: Literal[2]
    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: Literal["application/vnd.oci.image.manifest.v1+json"] | UnsetType = UNSET
    annotations: dict[str, str] = {}


class Stored(Struct, frozen=True):
    """An engine as a store has it: documents read and checked, the engine's bytes not yet.

    Attributes:
        fingerprint: What it was asked for by.
        manifest: Its manifest.
        manifest_bytes: The manifest as it is stored; what a registry must get, byte for byte.
        document: Its provenance, byte for byte.
        envelope: Its DSSE envelope, byte for byte, where there is one.
        engine: Digest and size of its bytes.
        name: Its file name.
    """

    fingerprint: str
    manifest: Manifest
    manifest_bytes: bytes
    document: bytes
    envelope: bytes | None
    engine: Descriptor
    name: str

    @property
    def described(self) -> Descriptor:
        """The descriptor of the manifest itself."""
        return describe(MANIFEST, self.manifest_bytes)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All blobs that the manifest names, in the order in which they are best sent."""
        return (*self.manifest.layers, self.manifest.config)


class Packed(Struct, frozen=True):
    """An engine made ready to be stored.

    Attributes:
        manifest: The manifest's bytes.
        blobs: The small blobs that it names: config, provenance, envelope.
        engine: The engine.
        fingerprint: What it is found by.
    """

    manifest: bytes
    blobs: tuple[tuple[Descriptor, bytes], ...]
    engine: Descriptor
    fingerprint: str

    @property
    def described(self) -> Descriptor:
        """The descriptor of the manifest itself."""
        return describe(MANIFEST, self.manifest)


def describe(media_type: str, data: bytes, *, title: str | None = None) -> Descriptor:
    """The descriptor of bytes in memory, with a file name if it is a layer."""
    annotations = {} if title is None else {TITLE: title}
    return Descriptor(media_type, f"sha256:{sha256_bytes(data)}", len(data), annotations)


def pack(
    *,
    name: str,
    sha256_hex: str,
    size: int,
    document: bytes,
    envelope: bytes | None,
    annotations: Mapping[str, str],
) -> Packed:
    """The manifest of an engine, and the small blobs that it names.

    Args:
        name: The engine's file name.
        sha256_hex: Digest of its bytes.
        size: Their number.
        document: Its provenance, which says the fingerprint.
        envelope: Its DSSE envelope.
        annotations: What a person looks for; the fingerprint and the kind are added.

    Raises:
        StoreError: The provenance is malformed, too large or about another engine.
    """
    for data in (document, envelope or b""):
        if len(data) > DOCUMENT_LIMIT:
            raise StoreError(f"a document of {name} is larger than {DOCUMENT_LIMIT} bytes")
    fingerprint = fingerprint_of(document, name=name, sha256_hex=sha256_hex)
    engine = Descriptor(ENGINE, f"sha256:{sha256_hex}", size, {TITLE: _plain(name)})
    small = [(describe(PROVENANCE, document, title=f"{name}.provenance.json"), document)]
    if envelope is not None:
        small.append((describe(ENVELOPE, envelope, title=f"{name}.dsse.json"), envelope))
    layers = (engine, *(descriptor for descriptor, _ in small))
    said = {**annotations, FINGERPRINT: fingerprint, KIND: "engine"}
    config = write_config(layers, said)
    described = describe(CONFIG, config)
    manifest = write_manifest(described, layers, said)
    return Packed(manifest, ((described, config), *small), engine, fingerprint)


def write_config(layers: tuple[Descriptor, ...], annotations: Mapping[str, str]) -> bytes:
    """An image config that says what the manifest says: skopeo shows its labels."""
    return msgspec.json.encode(
        {
            "architecture": "unknown",
            "config": {"Labels": dict(annotations)},
            "os": "unknown",
            "rootfs": {"diff_ids": [layer.digest for layer in layers], "type": "layers"},
        },
        order="sorted",
    )


def write_manifest(
    config: Descriptor, layers: tuple[Descriptor, ...], annotations: Mapping[str, str]
) -> bytes:
    """The bytes of a manifest; the same for the same arguments.

    Raises:
        StoreError: It is larger than a manifest may be.
    """
    data = msgspec.json.encode(
        Manifest(
            schema_version=2,
            media_type=MANIFEST,
            config=config,
            layers=layers,
            annotations=dict(annotations),
        ),
        order="sorted",
    )
    if len(data) > MANIFEST_LIMIT:
        raise StoreError(f"a manifest of {len(data)} bytes is over the limit of {MANIFEST_LIMIT}")
    return data


def read_manifest(data: bytes) -> Manifest:
    """A manifest, strictly: OCI's fields are what OCI says, others are ignored.

    Raises:
        StoreError: It is malformed, too large or of an unknown version.
    """
    if len(data) > MANIFEST_LIMIT:
        raise StoreError(f"a manifest of {len(data)} bytes is over the limit of {MANIFEST_LIMIT}")
    try:
        return _MANIFEST.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise StoreError(f"its manifest is malformed: {error}") from error


def unpack(fingerprint: str, data: bytes, read: Callable[[Descriptor], bytes]) -> Stored:
    """What a manifest says, checked: the documents are read and are about this engine.

    Args:
        fingerprint: What was asked for.
        data: The manifest.
        read: Reads a small blob, at most as many bytes as its descriptor says; what it returns
            is verified here.

    Raises:
        StoreError: Something is malformed, damaged or about another engine; also whatever
            `read` raises.
    """
    manifest = read_manifest(data)
    manifest.config.sha256_hex  # noqa: B018 - raises for what is no SHA-256
    engine = _one(manifest, ENGINE, ENGINE_LIMIT)
    provenance = _one(manifest, PROVENANCE, DOCUMENT_LIMIT)
    if engine is None or provenance is None:
        raise StoreError("its manifest names no engine or no provenance")
    signature = _one(manifest, ENVELOPE, DOCUMENT_LIMIT)
    name = _plain(engine.annotations.get(TITLE, ""))
    document = provenance.verify(read(provenance))
    said = manifest.annotations.get(FINGERPRINT)
    meant = fingerprint_of(document, name=name, sha256_hex=engine.sha256_hex)
    if not said == meant == fingerprint:
        raise StoreError(f"it is for another fingerprint, {short(str(said))} or {short(meant)}")
    envelope = None if signature is None else signature.verify(read(signature))
    return Stored(fingerprint, manifest, data, document, envelope, engine, name)


_MANIFEST = msgspec.json.Decoder(Manifest)


def _one(manifest: Manifest, media_type: str, limit: int) -> Descriptor | None:
    """The layer of a media type, if there is one; two are one too many."""
    found = [layer for layer in manifest.layers if layer.media_type == media_type]
    if len(found) > 1:
        raise StoreError(f"its manifest names two layers of type {media_type}")
    for layer in found:
        layer.sha256_hex  # noqa: B018 - raises for what is no SHA-256
        if not 0 <= layer.size <= limit:
            raise StoreError(f"{layer} cannot have {layer.size} bytes")
    return found[0] if found else None


def _plain(name: str) -> str:
    """A file name that leads nowhere else."""
    if name in ("", ".", "..") or len(name.encode(errors="replace")) > 255:
        raise StoreError(f"{name[:80]!r} is no file name")
    if not name.isprintable() or any(separator in name for separator in "/\\"):
        raise StoreError(f"{name[:80]!r} is no plain file name")
    return name
