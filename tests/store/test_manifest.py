"""The manifest: one spelling, and nothing odd is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artifacts import DATA, NAME, make_document, make_recipe

from enginery.errors import StoreError
from enginery.store.manifest import (
    CONFIG,
    DOCUMENT_LIMIT,
    ENGINE,
    ENVELOPE,
    MANIFEST_LIMIT,
    PROVENANCE,
    Descriptor,
    Packed,
    Stored,
    describe,
    pack,
    read_manifest,
    unpack,
)

FINGERPRINT = make_recipe().fingerprint
DIGEST = hashlib.sha256(DATA).hexdigest()
DOCUMENT = make_document(Path(NAME), DATA, make_recipe())
SIGNATURE = b'{"payloadType": "application/vnd.in-toto+json"}'


def packed(**changes: Any) -> Packed:
    arguments: dict[str, Any] = {
        "name": NAME,
        "sha256_hex": DIGEST,
        "size": len(DATA),
        "document": DOCUMENT,
        "envelope": SIGNATURE,
        "annotations": {"enginery.model": "light", "enginery.sm": "86-89"},
    }
    return pack(**{**arguments, **changes})


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def unpacked(
    manifest: bytes, *, fingerprint: str = FINGERPRINT, blobs: dict[str, bytes] | None = None
) -> Stored:
    known = {descriptor.digest: data for descriptor, data in packed().blobs} | (blobs or {})
    return unpack(fingerprint, manifest, lambda descriptor: known[descriptor.digest])


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    manifest = json.loads(packed().manifest)
    change(manifest)
    return json.dumps(manifest).encode()


def test_what_was_packed_is_unpacked() -> None:
    stored = unpacked(packed().manifest)
    assert stored.fingerprint == FINGERPRINT
    assert stored.manifest_bytes == packed().manifest
    assert (stored.document, stored.envelope) == (DOCUMENT, SIGNATURE)
    assert (stored.name, stored.engine.sha256_hex, stored.engine.size) == (NAME, DIGEST, len(DATA))
    assert stored.manifest.annotations["enginery.sm"] == "86-89"
    assert stored.described == describe(stored.described.media_type, packed().manifest)


def test_without_an_envelope() -> None:
    assert unpacked(packed(envelope=None).manifest).envelope is None
    assert len(packed(envelope=None).blobs) == 2


def test_the_format() -> None:
    """Version 1, written down: a change here is a change for every store and registry."""
    said = {
        "enginery.fingerprint": FINGERPRINT,
        "enginery.kind": "engine",
        "enginery.model": "light",
        "enginery.sm": "86-89",
    }
    title = "org.opencontainers.image.title"
    config = {
        "architecture": "unknown",
        "config": {"Labels": said},
        "os": "unknown",
        "rootfs": {"diff_ids": [sha256(DATA), sha256(DOCUMENT), sha256(SIGNATURE)], "type": "layers"},
    }  # fmt: skip

    def canonical(value: object) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": sha256(canonical(config)),
            "size": len(canonical(config)),
        },
        "layers": [
            {
                "mediaType": "application/vnd.enginery.engine.v1",
                "digest": sha256(DATA),
                "size": len(DATA),
                "annotations": {title: NAME},
            },
            {
                "mediaType": "application/vnd.in-toto+json",
                "digest": sha256(DOCUMENT),
                "size": len(DOCUMENT),
                "annotations": {title: f"{NAME}.provenance.json"},
            },
            {
                "mediaType": "application/vnd.dsse.envelope.v1+json",
                "digest": sha256(SIGNATURE),
                "size": len(SIGNATURE),
                "annotations": {title: f"{NAME}.dsse.json"},
            },
        ],
        "annotations": said,
    }
    assert packed().manifest == canonical(manifest)
    assert packed().blobs[0][1] == canonical(config)


def test_the_same_engine_has_the_same_manifest_whatever_the_order() -> None:
    turned = packed(annotations={"enginery.sm": "86-89", "enginery.model": "light"})
    assert turned == packed()


def test_annotations_cannot_say_another_fingerprint() -> None:
    said = packed(annotations={"enginery.fingerprint": "0" * 64, "enginery.kind": "image"})
    assert read_manifest(said.manifest).annotations == {
        "enginery.fingerprint": FINGERPRINT,
        "enginery.kind": "engine",
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"document": make_document(Path("x.engine"), DATA, make_recipe())}, "another engine"),
        ({"document": make_document(Path(NAME), b"x", make_recipe())}, "another engine"),
        ({"document": b"{}"}, "malformed"),
        ({"document": b""}, "malformed"),
        ({"document": b"[" * 100_000}, "malformed"),
        ({"document": DOCUMENT.replace(FINGERPRINT.encode(), b"../x")}, "no fingerprint"),
        ({"document": b" " * (DOCUMENT_LIMIT + 1)}, "larger"),
        ({"envelope": b" " * (DOCUMENT_LIMIT + 1)}, "larger"),
        ({"annotations": {"a": "b" * MANIFEST_LIMIT}}, "limit"),
    ],
)
def test_what_is_not_packed(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(StoreError, match=reason):
        packed(**changes)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\\b", "a\nb", "a\0b", "x" * 256])
def test_a_name_leads_nowhere_else(name: str) -> None:
    document = make_document(Path(NAME), DATA, make_recipe())
    document = document.replace(json.dumps(NAME).encode(), json.dumps(name).encode())
    with pytest.raises(StoreError, match="file name"):
        packed(name=name, document=document)

    def rename(manifest: dict[str, Any]) -> None:
        manifest["layers"][0]["annotations"]["org.opencontainers.image.title"] = name
        manifest["layers"][1] |= {"digest": sha256(document), "size": len(document)}

    with pytest.raises(StoreError, match="file name"):
        unpacked(changed(rename), blobs={sha256(document): document})


def no_title(manifest: dict[str, Any]) -> None:
    del manifest["layers"][0]["annotations"]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(schemaVersion=1),
        lambda m: m.update(schemaVersion=3),
        lambda m: m.update(schemaVersion="2"),
        lambda m: m.pop("schemaVersion"),
        lambda m: m.update(mediaType="application/vnd.docker.distribution.manifest.v2+json"),
        lambda m: m.update(mediaType=None),
        lambda m: m.pop("config"),
        lambda m: m["config"].update(digest="sha512:" + "0" * 128),
        lambda m: m["config"].update(size="5"),
        lambda m: m.pop("layers"),
        lambda m: m.update(layers={}),
        lambda m: m.update(layers=[]),
        lambda m: m["layers"].pop(0),
        lambda m: m["layers"].pop(1),
        lambda m: m["layers"].append(m["layers"][0]),
        lambda m: m["layers"].append(m["layers"][1]),
        lambda m: m["layers"].append(m["layers"][2]),
        lambda m: m["layers"].append("layer"),
        lambda m: m["layers"][0].update(mediaType="application/vnd.enginery.engine.v2"),
        lambda m: m["layers"][0].update(digest="sha256:" + "A" * 64),
        lambda m: m["layers"][0].update(digest="sha256:" + "0" * 63),
        lambda m: m["layers"][0].update(digest="sha256:" + "0" * 64 + "\n"),
        lambda m: m["layers"][0].update(digest="sha256:../../../etc/passwd"),
        lambda m: m["layers"][0].update(digest="0" * 64),
        lambda m: m["layers"][0].update(digest=None),
        lambda m: m["layers"][0].update(size=-1),
        lambda m: m["layers"][0].update(size=1 << 41),
        lambda m: m["layers"][0].update(size=1 << 70),
        lambda m: m["layers"][0].update(size=1.5),
        lambda m: m["layers"][1].update(size=DOCUMENT_LIMIT + 1),
        lambda m: m["layers"][1].update(size=m["layers"][1]["size"] - 1),
        lambda m: m["layers"][2].update(size=m["layers"][2]["size"] + 1),
        no_title,
        lambda m: m.pop("annotations"),
        lambda m: m["annotations"].update({"enginery.fingerprint": "0" * 64}),
        lambda m: m["annotations"].update({"enginery.fingerprint": 5}),
        lambda m: m["annotations"].pop("enginery.fingerprint"),
    ],
)
def test_what_is_not_unpacked(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(StoreError):
        unpacked(changed(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("mediaType"),
        lambda m: m.update(artifactType="x", subject={"digest": 5}, unknown=[1]),
        lambda m: m["layers"].append({**m["layers"][0], "mediaType": "x/y", "digest": "sha512:00"}),
        lambda m: m["layers"].reverse(),
        lambda m: m["config"].update(mediaType="application/vnd.oci.empty.v1+json", urls=["x"]),
        lambda m: m["annotations"].update({"org.example": "x"}),
    ],
)
def test_what_others_may_add(change: Callable[[dict[str, Any]], object]) -> None:
    stored = unpacked(changed(change))
    assert (stored.engine.sha256_hex, stored.document) == (DIGEST, DOCUMENT)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 200_000, b" " * (MANIFEST_LIMIT + 1)]
)
def test_garbage_is_no_manifest(data: bytes) -> None:
    with pytest.raises(StoreError, match=r"malformed|limit"):
        read_manifest(data)


def test_a_manifest_for_another_fingerprint() -> None:
    with pytest.raises(StoreError, match="another fingerprint"):
        unpacked(packed().manifest, fingerprint="0" * 64)


def test_a_document_for_another_fingerprint() -> None:
    """The annotation says what was asked for; the provenance, which is what counts, does not."""
    other = make_document(Path(NAME), DATA, make_recipe(build={"other": True}))

    def swap(manifest: dict[str, Any]) -> None:
        manifest["layers"][1] |= {"digest": sha256(other), "size": len(other)}

    with pytest.raises(StoreError, match="another fingerprint"):
        unpacked(changed(swap), blobs={sha256(other): other})


@pytest.mark.parametrize("media_type", [PROVENANCE, ENVELOPE])
def test_documents_that_were_altered(media_type: str) -> None:
    ((digest, data),) = [
        (one.digest, data) for one, data in packed().blobs if one.media_type == media_type
    ]
    for wrong in (data[:-1], data + b" ", data[:-2] + b"!!", b""):
        with pytest.raises(StoreError, match="blob sha256"):
            unpacked(packed().manifest, blobs={digest: wrong})


def test_no_byte_of_a_manifest_can_change_what_engine_it_is() -> None:
    """Refused, or the same engine with the same documents: there is no third."""
    manifest = packed().manifest
    for position in range(len(manifest)):
        for byte in (manifest[position] ^ 1, ord('"'), 0):
            altered = manifest[:position] + bytes([byte]) + manifest[position + 1 :]
            try:
                stored = unpacked(altered)
            except (StoreError, KeyError):  # a KeyError is this test's: no such blob
                continue
            assert (stored.fingerprint, stored.name) == (FINGERPRINT, NAME)
            assert (stored.document, stored.engine.sha256_hex) == (DOCUMENT, DIGEST)


def test_a_descriptor_says_what_it_is_about() -> None:
    descriptor = Descriptor(CONFIG, f"sha256:{DIGEST}", 5)
    assert str(descriptor) == f"blob sha256:{DIGEST[:12]}"
    assert Descriptor(ENGINE, f"sha256:{DIGEST}", len(DATA)).verify(DATA) is DATA
    with pytest.raises(StoreError, match="no SHA-256"):
        Descriptor(CONFIG, "md5:00", 5).verify(b"12345")
