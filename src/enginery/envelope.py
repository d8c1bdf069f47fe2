"""Envelopes opened: whether one of several public keys signed what is in a DSSE envelope.

An Ed25519 signature is checked without the package cryptography, by securesystemslib alone: a
device needs no more. The envelope is specified by the DSSE project.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from .digest import read_regular
from .errors import EngineryError, IrregularFileError, SignatureError
from .signing import envelope_path, key_id, read_key_file, spki, supported

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

# A provenance has at most 4 MiB, a release 16 MiB, and Base64 adds a third.
_LIMIT = 24 << 20


class TrustedKey(msgspec.Struct, frozen=True):
    """A public key, read.

    Attributes:
        path: Its file.
        key_id: SHA-256 of the key in DER, in hex.
    """

    path: Path
    key_id: str
    _key: Any

    def made(self, signature: str, message: bytes) -> bool:
        """Whether a signature, in hex, over a message is by this key."""
        from securesystemslib.exceptions import UnverifiedSignatureError
        from securesystemslib.signer import Signature

        try:
            self._key.verify_signature(Signature(self.key_id, signature), message)
        except UnverifiedSignatureError:
            return False
        return True


def read_key(path: Path) -> TrustedKey:
    """An Ed25519 or P-256 public key from a PEM file.

    Raises:
        EngineryError: It is missing, is no public key of a kind that is used here, or a package
            is missing that it takes.
    """
    der = _public_der(path)
    try:
        key = _sslib_key(path, der)
    except ImportError as error:
        package = str(error.name).partition(".")[0]
        extra = "sign" if package == "cryptography" else "verify"
        raise EngineryError(
            f"checking signatures by {path} needs a package that is not there ({package}); "
            f"pip install 'enginery[{extra}]'"
        ) from error
    return TrustedKey(path, key.keyid, key)


def read_envelope(path: Path, *, follow_symlinks: bool = False) -> bytes | None:
    """The envelope that lies beside a file; None where there is none.

    Args:
        path: The file.
        follow_symlinks: Whether a symlink to an envelope will do.

    Raises:
        SignatureError: It cannot be read, or is larger than any envelope of ours.
    """
    try:
        return read_regular(envelope_path(path), limit=_LIMIT, follow_symlinks=follow_symlinks)
    except FileNotFoundError:
        return None
    except (OSError, IrregularFileError) as error:
        raise SignatureError(f"the signature of {path.name} cannot be read: {error}") from error


class _Signature(msgspec.Struct, frozen=True):
    """A signature in Base64. The key id beside it is a hint that nothing vouches for."""

    sig: str


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """As much of a DSSE envelope as is believed; DSSE wants other fields to be ignored."""

    payload: str
    payload_type: str
    signatures: Annotated[tuple[_Signature, ...], Meta(min_length=1, max_length=16)]


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def opened(envelope: bytes, keys: Sequence[TrustedKey], payload_type: str, name: str) -> bytes:
    """The payload of an envelope, if one of the keys signed it.

    Args:
        envelope: The envelope's bytes.
        keys: Whose signature is believed; one signature by one of them is enough.
        payload_type: What the payload must say it is.
        name: What was signed, for a message.

    Raises:
        SignatureError: It is malformed, about something else, or signed by none of them.
    """
    from securesystemslib.dsse import Envelope

    try:
        parsed = _ENVELOPE.decode(envelope)
        # A place in the list instead of the key id: DSSE wants every key to be tried.
        signatures = [
            {"keyid": str(place), "sig": one.sig} for place, one in enumerate(parsed.signatures)
        ]
        dsse = Envelope.from_dict(
            {
                "payload": parsed.payload,
                "payloadType": parsed.payload_type,
                "signatures": signatures,
            }
        )
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SignatureError(f"the signature of {name} is malformed: {error}") from error
    if dsse.payload_type != payload_type:
        raise SignatureError(f"the signature of {name} is about {dsse.payload_type[:80]!r}")
    message = dsse.pae()
    if any(key.made(one.signature, message) for one in dsse.signatures.values() for key in keys):
        payload: bytes = dsse.payload
        return payload
    raise SignatureError(
        f"{name} is signed by no key that is trusted here "
        f"({', '.join(key.path.name for key in keys)}), or was altered"
    )


_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----")

# SubjectPublicKeyInfo of Ed25519 is these bytes and the key, RFC 8410.
_ED25519 = bytes.fromhex("302a300506032b6570032100")


def _public_der(path: Path) -> bytes:
    data = read_key_file(path, "openssl pkey -in PRIVATE -pubout -out")
    if b"PRIVATE KEY-----" in data:
        raise EngineryError(
            f"{path} is a private key, which belongs where engines are signed and nowhere else; "
            f"name its public half: openssl pkey -in {path} -pubout"
        )
    found = _PEM.findall(data)
    if len(found) != 1 or found[0][0] != b"PUBLIC KEY":
        raise EngineryError(
            f"{path} is no file with one public key in PEM; make one: "
            "openssl pkey -in PRIVATE -pubout"
        )
    try:
        return base64.b64decode(b"".join(found[0][1].split()), validate=True)
    except binascii.Error as error:
        raise EngineryError(f"the public key {path} is damaged: {error}; copy it again") from error


def _sslib_key(path: Path, der: bytes) -> SSlibKey:
    from securesystemslib.signer import SSlibKey

    if len(der) == len(_ED25519) + 32 and der.startswith(_ED25519):
        raw = der.removeprefix(_ED25519).hex()
        return SSlibKey(key_id(der), "ed25519", "ed25519", {"public": raw})
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        public = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EngineryError(f"the public key {path} is damaged; copy it again") from error
    public = supported(path, public)
    return SSlibKey.from_crypto(public, key_id(spki(public)))
