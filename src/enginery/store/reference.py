"""Where engines are kept: `registry.example.com/team/engines`, a repository of an OCI registry."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from ..errors import RemoteError

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(rf"({_HOST})/({_PART}(?:/{_PART})*)")

# Docker's own registry answers on another host than it is named after.
_ALIASES = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository of a registry.

    Attributes:
        host: The registry, with its port if it has one of its own.
        repository: The repository.
        insecure: Whether to speak plain HTTP to a host that is not this one.
    """

    host: str
    repository: str
    insecure: bool = False

    @classmethod
    def parse(cls, text: str, *, insecure: bool = False) -> Reference:
        """A reference as it stands in a configuration.

        Raises:
            RemoteError: It is none. What it holds is not repeated if it may be a password.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None or not re.search(r"[.:]|^localhost$", match[1]) or len(match[2]) > 255:
            shown = "it" if "@" in text else repr(text)
            raise RemoteError(
                f"{shown} names no repository of a registry: write it as "
                "registry.example.com/team/engines, in lower case, without scheme, user or tag"
            )
        return cls(match[1], match[2], insecure)

    @property
    def origin(self) -> str:
        """Scheme, host and port; plain HTTP only on this machine or where it was asked for."""
        plain = self.insecure or is_loopback(self.host)
        return f"{'http' if plain else 'https'}://{_ALIASES.get(self.host, self.host)}"

    @property
    def url(self) -> str:
        """The root of all that a registry says about the repository."""
        return f"{self.origin}/v2/{self.repository}"

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"


def is_loopback(host: str) -> bool:
    """Whether a host, with or without a port, is this machine by name."""
    name = re.sub(r":[0-9]+$", "", host) if not host.endswith("]") else host
    name = name.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
