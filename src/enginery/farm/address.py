"""Where a scheduler is, and what makes a connection to it one that can be believed."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import msgspec

from ..errors import FarmError
from ..store.reference import is_loopback

_ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_EXAMPLE = "write one such as tls://build.example.com:8786"


class Tls(msgspec.Struct, frozen=True):
    """What one side shows, and whom it believes; all three are PEM files.

    Attributes:
        ca: The authority that signed both sides' certificates.
        cert: This side's certificate.
        key: Its private key.
    """

    ca: Path
    cert: Path
    key: Path

    def for_role(self, role: str) -> dict[str, str]:
        """What `distributed.Security` calls them, for "worker", "client" or "scheduler"."""
        return {
            "tls_ca_file": str(self.ca),
            f"tls_{role}_cert": str(self.cert),
            f"tls_{role}_key": str(self.key),
        }


def checked_address(address: str, *, encrypted: bool) -> str:
    """A scheduler's address.

    Args:
        address: Its address.
        encrypted: Whether certificates are given.

    Raises:
        FarmError: It is none, or it is plain and not on this machine, or it is encrypted and there
            are no certificates.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[3]) < 1 << 16:
        raise FarmError(f"{address!r} is no address of a scheduler; {_EXAMPLE}")
    if match[1] == "tcp" and not is_loopback(match[2]):
        raise FarmError(
            f"{address} is not encrypted, and whoever reaches a farm can run code on it; use "
            "tls:// with certificates"
        )
    if match[1] == "tls" and not encrypted:
        raise FarmError(f"{address} needs certificates; give all three of ca, cert and key")
    if match[1] == "tcp" and encrypted:
        raise FarmError(f"{address} uses no certificates; write tls://, or leave them out")
    return address


def tls_of(ca: Path | None, cert: Path | None, key: Path | None) -> Tls | None:
    """Three files or none.

    Raises:
        FarmError: Only some are given.
    """
    if ca is None or cert is None or key is None:
        missing = [n for n, file in (("ca", ca), ("cert", cert), ("key", key)) if file is None]
        if len(missing) < 3:
            raise FarmError(f"{' and '.join(missing)} missing; TLS takes all of ca, cert and key")
        return None
    return Tls(ca, cert, key)


def checked_tls(tls: Tls) -> Tls:
    """Files that are what they should be.

    Raises:
        FarmError: One is missing or unreadable, or the certificate is not that of the key.
    """
    for file in (tls.ca, tls.cert, tls.key):
        try:
            file.read_bytes()
        except OSError as error:
            raise FarmError(f"{file} cannot be read: {error.strerror}") from error
    try:
        context = ssl.create_default_context(cafile=str(tls.ca))
    except ssl.SSLError as error:
        raise FarmError(f"{tls.ca} holds no certificate of an authority: {_why(error)}") from error
    try:
        # Asked for the password of an encrypted key, OpenSSL would wait for a person.
        context.load_cert_chain(tls.cert, tls.key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise FarmError(
            f"{tls.cert} and {tls.key} are no certificate and its private key, without a "
            f"password: {_why(error)}"
        ) from error
    return tls


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)
