"""Signing: `<file>.dsse.json`, a DSSE envelope over the exact bytes of a document.

For an engine the document is its provenance, which names the engine's file, digest and
fingerprint; for a release it is the release. Envelope and signatures are securesystemslib's, the
keys are PEM files as `openssl genpkey` writes them. Who is believed is decided in trust.py.
docs/security.md says what a signature is worth; the envelope is specified by the DSSE project,
https://github.com/secure-systems-lab/dsse.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .digest import read_regular, sha256_bytes
from .errors import EngineryError, IrregularFileError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

SUFFIX = ".dsse.json"
PROVENANCE_TYPE = "application/vnd.in-toto+json"
"""What an envelope over a provenance says its payload is."""

PASSWORD_VARIABLE = "ENGINERY_KEY_PASSWORD"  # noqa: S105 - the variable's name
KEY_LIMIT = 64 << 10


def envelope_path(path: Path) -> Path:
    """Where the envelope of an engine or a release is."""
    return Path(f"{path}{SUFFIX}")


class SigningKey:
    """A private key, read once and ready to sign."""

    def __init__(self, signer: CryptoSigner) -> None:
        self._signer = signer

    @classmethod
    def read(
        cls,
        path: Path,
        *,
        password: Callable[[], str] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> SigningKey:
        """An Ed25519 or P-256 key from a PEM file.

        Args:
            path: The file; a symlink to one will do, as secrets are often mounted so.
            password: Asked if the key is encrypted; None takes `ENGINERY_KEY_PASSWORD`.
            warn: Told if other users of this machine may read the key.

        Raises:
            EngineryError: The file is missing, holds no such key, or is encrypted and the
                password is missing or wrong; or a package that signing needs is missing.
        """
        try:
            import cryptography  # noqa: F401 - a clear word where a package is missing
            from securesystemslib.signer import CryptoSigner, SSlibKey
        except ImportError as error:
            raise EngineryError(
                f"signing needs a package that is not there ({error.name}); "
                "pip install 'enginery[sign]'"
            ) from error
        data = read_key_file(path, "openssl genpkey -algorithm ed25519 -out")
        if b"-----BEGIN" in data and b"PRIVATE KEY-----" not in data:
            raise EngineryError(f"{path} is no private key; sign with the private half of the pair")
        key = _load(path, data, password)
        if warn and os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            warn(f"other users may read the private key {path}; run: chmod 600 {path}")
        public = supported(path, key.public_key())
        return cls(CryptoSigner(key, SSlibKey.from_crypto(public, key_id(spki(public)))))

    @property
    def key_id(self) -> str:
        """Which key it is: see `key_id`."""
        return self._signer.public_key.keyid

    def sign(self, document: bytes, payload_type: str = PROVENANCE_TYPE) -> bytes:
        """The envelope over a document, as it is written to a file."""
        from securesystemslib.dsse import Envelope

        envelope = Envelope(document, payload_type, {})
        envelope.sign(self._signer)
        return msgspec.json.encode(envelope.to_dict()) + b"\n"


def sign(
    document: bytes,
    key: Path,
    *,
    password: Callable[[], str] | None = None,
    payload_type: str = PROVENANCE_TYPE,
) -> bytes:
    """The envelope over one document; `SigningKey` reads the key once for many.

    Raises:
        EngineryError: The key cannot be used; see `SigningKey.read`.
    """
    return SigningKey.read(key, password=password).sign(document, payload_type)


def key_id(der: bytes) -> str:
    """SHA-256 of a public key in DER: `openssl pkey -pubin -outform DER | sha256sum`."""
    return sha256_bytes(der)


def spki(public: Any) -> bytes:
    """A public key as DER, SubjectPublicKeyInfo of RFC 5280."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


def supported(path: Path, public: Any) -> Any:
    """A public key of cryptography's, if it is of a kind that is used here.

    Raises:
        EngineryError: It is of another kind; the message says which.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if isinstance(public, Ed25519PublicKey):
        return public
    kind = type(public).__name__.removesuffix("PublicKey").strip("_")
    if isinstance(public, EllipticCurvePublicKey):
        if isinstance(public.curve, SECP256R1):
            return public
        kind = f"elliptic curve ({public.curve.name})"
    raise EngineryError(
        f"the key {path} is of the kind {kind}; use Ed25519 or P-256: "
        "openssl genpkey -algorithm ed25519"
    )


def read_key_file(path: Path, remedy: str) -> bytes:
    """The bytes of a key file.

    Args:
        path: The file.
        remedy: The command that makes one, up to the path.

    Raises:
        EngineryError: It is missing or cannot be read.
    """
    try:
        return read_regular(path, limit=KEY_LIMIT, follow_symlinks=True)
    except FileNotFoundError as error:
        raise EngineryError(
            f"the key {path} is not there; correct the path, or make one: {remedy} {path}"
        ) from error
    except (OSError, IrregularFileError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EngineryError(f"the key {path} cannot be read: {reason}") from error


def _load(path: Path, data: bytes, password: Callable[[], str] | None) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    secret = _secret(path, password) if b"ENCRYPTED" in data else None
    try:
        return load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if secret is not None:
            raise EngineryError(
                f"the key {path} cannot be decrypted: the password is wrong, or the file is damaged"
            ) from error
        raise EngineryError(
            f"{path} holds no private key that can be read; make one in PEM: "
            "openssl genpkey -algorithm ed25519"
        ) from error


def _secret(path: Path, password: Callable[[], str] | None) -> bytes:
    secret = os.environ.get(PASSWORD_VARIABLE, "") if password is None else password()
    if not secret:
        raise EngineryError(f"the key {path} is encrypted; set its password in {PASSWORD_VARIABLE}")
    return os.fsencode(secret)
