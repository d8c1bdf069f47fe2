"""Answering a registry that asks who we are: Basic, or a token from where it says.

The scheme is that of docker's registry: a challenge names a realm, and the realm gives a token in
exchange for a password or an identity token. The password goes to the realm that the registry
itself names, as with every other client, and to nobody else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

import msgspec
from msgspec import Struct

from . import credentials
from .credentials import Credentials
from .faults import UnavailableError
from .reference import Reference

PULL = "pull"
PUSH = "pull,push"
"""What a token allows."""


class _Token(Struct, frozen=True):
    token: str = ""
    access_token: str = ""


class AskRealm(Protocol):
    """Asks a realm for a token: status and body, without a redirect followed."""

    def __call__(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        """The answer."""


@dataclass(frozen=True, slots=True)
class _Challenge:
    scheme: str
    parameters: dict[str, str]


class Authorization:
    """The `Authorization` headers of one repository, one for each right."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._headers: dict[str, str] = {}

    def header(self, rights: str) -> str | None:
        """What the registry took last for these rights, if it asked at all."""
        return self._headers.get(rights)

    def answer(
        self, challenges: Iterable[str], rights: str, ask: AskRealm, *, timeout: float
    ) -> None:
        """Get ready to answer a challenge: afterwards `header` has something new.

        Raises:
            UnavailableError: There are no credentials that the registry would take.
        """
        for challenge in map(_parse, challenges):
            if challenge.scheme == "basic":
                self._headers[rights] = self._basic(timeout)
                return
            if challenge.scheme == "bearer":
                self._headers[rights] = self._bearer(challenge, rights, ask, timeout)
                return
        raise UnavailableError(f"{self._reference} wants a login of a kind unknown to enginery")

    def refused(self) -> UnavailableError:
        """The error for a registry that does not take what `answer` made."""
        found = self._credentials(1.0)
        if found is None:
            return self._no_login()
        return UnavailableError(
            f"{self._reference} does not take the login from {found.source}: "
            f"`docker login {self._reference.host}` renews it"
        )

    def _credentials(self, timeout: float) -> Credentials | None:
        reference = self._reference
        return credentials.find(reference.host, reference.repository, timeout=timeout)

    def _no_login(self) -> UnavailableError:
        return UnavailableError(
            f"{self._reference} wants a login and there is none: "
            f"`docker login {self._reference.host}` or `podman login` makes one"
        )

    def _basic(self, timeout: float) -> str:
        found = self._credentials(timeout)
        if found is None or not found.password:
            raise self._no_login()
        return found.basic

    def _bearer(self, challenge: _Challenge, rights: str, ask: AskRealm, timeout: float) -> str:
        found = self._credentials(timeout)
        realm = challenge.parameters.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme != "https" and not self._reference.origin.startswith("http:"):
            raise UnavailableError(
                f"{self._reference} wants the login sent to {parts.hostname} without TLS: refused"
            )
        query = {"scope": f"repository:{self._reference.repository}:{rights}"}
        if service := challenge.parameters.get("service"):
            query["service"] = service
        if found is not None and found.identity_token:
            query |= {
                "client_id": "enginery",
                "grant_type": "refresh_token",
                "refresh_token": found.identity_token,
            }
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            status, body = ask("POST", realm, form, urlencode(query).encode())
        else:
            headers = {} if found is None else {"Authorization": found.basic}
            url = f"{realm}{'&' if parts.query else '?'}{urlencode(query)}"
            status, body = ask("GET", url, headers, None)
        if status in (400, 401, 403):
            raise self._no_login() if found is None else self.refused()
        return f"Bearer {self._token(status, body)}"

    def _token(self, status: int, body: bytes) -> str:
        try:
            token = msgspec.json.decode(body, type=_Token) if status == 200 else _Token()
        except (msgspec.DecodeError, UnicodeError):
            token = _Token()
        text = token.token or token.access_token
        if not text.isascii() or not text.isprintable() or not text:
            raise UnavailableError(f"{self._reference}: its login service gave no token ({status})")
        return text


def _parse(header: str) -> _Challenge:
    scheme, _, rest = header.strip().partition(" ")
    parameters = [item for item in parse_http_list(rest) if "=" in item]
    return _Challenge(scheme.lower(), parse_keqv_list(parameters))
