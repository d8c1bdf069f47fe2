"""Requests to one registry: retried, authorized, redirected, and never hung on for long."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers

from ..errors import RemoteError
from ..version import __version__
from . import faults
from .authorization import PULL, Authorization
from .faults import TransientError, UnavailableError
from .patience import Patience
from .reference import Reference, is_loopback

CONNECT_TIMEOUT: Final = 4.0
"""Seconds until a connection must be there; a request as a whole is bounded by its patience."""

_REDIRECTS = (301, 302, 303, 307, 308)
_REDIRECTS_KEEPING_BODY = (307, 308)
_MAX_REDIRECTS = 5
_SMALL = 1 << 20

Body = Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        method: HTTP's method.
        url: Where it goes.
        headers: What is sent besides authorization.
        body: Makes the body, anew for each try.
        rights: What it needs: `PULL` or `PUSH`.
        expected: Statuses that the caller knows what to do with.
        answer_timeout: Seconds that the answer may take once the body is sent, if that is long.
        retried: Whether to try again; not if whoever calls does so.
    """

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: Body | None = None
    rights: str = PULL
    expected: tuple[int, ...] = (200,)
    answer_timeout: float | None = None
    retried: bool = True


class Transport:
    """Sends requests to the registry of a reference, and on to where it redirects them."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._authorization = Authorization(reference)
        self._pools: dict[tuple[int, str | None], PoolManager] = {}

    def send(self, call: Call, patience: Patience) -> BaseHTTPResponse:
        """The answer to a request, its body not yet read.

        Raises:
            TransientError: The connection or the server fails, after a few tries too.
            UnavailableError: The status is not one of the expected.
        """
        for pause in patience.pauses():
            try:
                return self._try(call, patience)
            except TransientError as error:
                hopeless = not call.retried or not error.reached
                if hopeless or not patience.pause(max(pause, error.wait), str(error)):
                    raise
        return self._try(call, patience)

    def read(self, response: BaseHTTPResponse, limit: int = _SMALL) -> bytes:
        """The body of an answer, which may not be larger than that.

        Raises:
            TransientError: The connection broke.
            RemoteError: It is larger.
        """
        found = bytearray()
        for piece in self.pieces(response, 1 << 16):
            found += piece
            if len(found) > limit:
                response.close()
                raise RemoteError(f"{self.reference} sends more than {limit} bytes: refused")
        return bytes(found)

    def pieces(self, response: BaseHTTPResponse, size: int) -> Generator[bytes, None, None]:
        """The body of an answer as it comes, undecoded.

        Raises:
            TransientError: The connection broke.
        """
        try:
            while piece := response.read1(size, decode_content=False):
                yield piece
        except (HTTPError, OSError) as error:
            raise faults.of_connection(self.reference, error) from None
        finally:
            response.close()  # unless it was read to its end: then it is in the pool by now

    def resolve(self, location: str, base: str) -> str:
        """The URL that a header `Location` means.

        Raises:
            UnavailableError: It leads from TLS to a place without it, or nowhere.
        """
        try:
            url = urljoin(base, location)
            scheme = urlsplit(url).scheme
        except ValueError:
            scheme = ""
        if scheme == "https" or (scheme == "http" and base.startswith("http:")):
            return url
        raise UnavailableError(
            f"{self.reference} leads to a place without TLS: refused; a registry behind a proxy "
            "must be told its own address (X-Forwarded-Proto)"
        )

    def _try(self, call: Call, patience: Patience) -> BaseHTTPResponse:
        response = self._follow(call, patience)
        if response.status == 401:
            response = self._authorize(call, response, patience)
        is_page = response.headers.get("Content-Type", "").lower().startswith("text/html")
        if is_page:
            response.close()
            raise faults.of_page(self.reference, response.status)
        if response.status in call.expected:
            return response
        raise faults.of_answer(
            self.reference,
            response.status,
            faults.code_in(self.read(response)),
            what="pull" if call.rights == PULL else "push",
            retry_after=response.headers.get("Retry-After", ""),
        )

    def _authorize(
        self, call: Call, refused: BaseHTTPResponse, patience: Patience
    ) -> BaseHTTPResponse:
        challenges = refused.headers.getlist("WWW-Authenticate")
        self.read(refused)

        def ask(
            method: str, url: str, headers: dict[str, str], body: bytes | None
        ) -> tuple[int, bytes]:
            answer = self._send(Call(method, url, headers), body, patience)
            return answer.status, self.read(answer)

        try:
            self._authorization.answer(challenges, call.rights, ask, timeout=patience.left())
            response = self._follow(call, patience)
            if response.status == 401:
                response.close()
                raise self._authorization.refused()
        except UnavailableError:
            raise
        except RemoteError as error:  # a file of credentials or a helper is not as it should be
            raise UnavailableError(f"{self.reference}: {error}") from error
        return response

    def _follow(self, call: Call, patience: Patience) -> BaseHTTPResponse:
        url = call.url
        for _ in range(_MAX_REDIRECTS + 1):
            headers = dict(call.headers)
            authorization = self._authorization.header(call.rights)
            if authorization is not None and _origin(url) == _origin(self.reference.origin):
                headers["Authorization"] = authorization
            body = None if call.body is None else call.body()
            hop = Call(call.method, url, headers, answer_timeout=call.answer_timeout)
            response = self._send(hop, body, patience)
            followed = _REDIRECTS if call.body is None else _REDIRECTS_KEEPING_BODY
            target = response.headers.get("Location")
            if response.status not in followed or target is None:
                return response
            response.close()
            url = self.resolve(target, url)
        raise UnavailableError(f"{self.reference} redirects without end")

    def _send(
        self, call: Call, body: bytes | Iterable[bytes] | None, patience: Patience
    ) -> BaseHTTPResponse:
        standing = {"User-Agent": f"enginery/{__version__}", "Accept-Encoding": "identity"}
        # Patience ends first; the timeout of a read is for the thread that is then left alone.
        read = 1.0 + (call.answer_timeout or patience.seconds)
        timeout = Timeout(connect=min(CONNECT_TIMEOUT, patience.seconds), read=read)
        try:
            return self._pool(call.url).urlopen(
                call.method,
                call.url,
                body=body,
                headers=standing | call.headers,
                redirect=False,
                retries=False,
                timeout=timeout,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError) as error:
            raise faults.of_connection(self.reference, error) from None

    def _pool(self, url: str) -> PoolManager:
        parts = urlsplit(url)
        host = parts.hostname or ""
        proxy = None
        if not is_loopback(host) and not proxy_bypass(host):
            proxies = getproxies()
            proxy = proxies.get(parts.scheme, proxies.get("all"))
        # No connection outlives a fork: two processes would read each other's answers.
        key = os.getpid(), proxy
        if key not in self._pools:
            self._pools[key] = PoolManager() if proxy is None else _through(proxy)
        return self._pools[key]


def _through(proxy: str) -> ProxyManager:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    headers = None
    if parts.username is not None:
        headers = make_headers(proxy_basic_auth=f"{parts.username}:{parts.password or ''}")
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return ProxyManager(address, proxy_headers=headers)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port
