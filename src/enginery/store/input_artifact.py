"""The inputs of a build in a registry: an artifact that names them, so that they are kept there.

A registry's garbage collection drops blobs that no manifest names. This one is tagged
`inputs-<fingerprint>`, which is no fingerprint, so that nobody who asks for an engine meets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from .manifest import CONFIG, KIND, MANIFEST, Descriptor, Manifest, describe, write_config

INPUTS: Final = "application/vnd.enginery.inputs.v1"


class PackedInputs(Struct, frozen=True):
    """The artifact, made ready to be pushed.

    Attributes:
        tag: Its tag.
        config: Its config, and the bytes of that.
        manifest: Its manifest.
    """

    tag: str
    config: tuple[Descriptor, bytes]
    manifest: bytes


class _Inputs(Manifest, frozen=True, kw_only=True):
    """OCI 1.1 says what a manifest is for; the engines' are of 1.0."""

    artifact_type: str


def pack_inputs(fingerprint: str, files: Sequence[Descriptor]) -> PackedInputs:
    """The artifact of files, which are in the registry; the same for the same arguments.

    Args:
        fingerprint: What is built from them.
        files: The files.
    """
    said = {KIND: "inputs", "enginery.inputs": fingerprint}
    config = write_config(tuple(files), said)
    described = describe(CONFIG, config)
    manifest = msgspec.json.encode(
        _Inputs(
            schema_version=2,
            media_type=MANIFEST,
            artifact_type=INPUTS,
            config=described,
            layers=tuple(files),
            annotations=said,
        ),
        order="sorted",
    )
    return PackedInputs(f"inputs-{fingerprint}", (described, config), manifest)
