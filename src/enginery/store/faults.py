"""What is wrong with a registry, in words that name it and say what to do.

No message carries a URL, since those of uploads and of redirected blobs are credentials, nor what
the other side wrote, since it may repeat a secret.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from ..errors import RemoteError
from .reference import Reference

# 400 is what docker's registry says to the same manifest pushed twice in the same instant.
_TRANSIENT = (400, 408, 416, 429, 500, 502, 503, 504)


class UnavailableError(RemoteError):
    """A registry as a whole cannot be used now: down, slow, not ours to use, not a registry."""


class TransientError(UnavailableError):
    """Something that may go better at once: a connection that broke, a server in trouble.

    Attributes:
        wait: Seconds that the registry asked to wait.
        reached: Whether anybody was there at all.
    """

    def __init__(self, message: str, *, wait: float = 0.0, reached: bool = True) -> None:
        super().__init__(message)
        self.wait = wait
        self.reached = reached


def of_connection(reference: Reference, error: Exception) -> TransientError:
    """What is to be said of a connection that is not there."""
    reached = isinstance(error, ReadTimeoutError | ProtocolError | TimeoutError)
    return TransientError(f"{reference}: {_because(error)}", reached=reached)


def of_answer(
    reference: Reference, status: int, code: str, *, what: str, retry_after: str
) -> UnavailableError:
    """What is to be said of an answer that helps nobody.

    Args:
        reference: Whose answer it is.
        status: Its status.
        code: The registry's own code for the error, if it gave one.
        what: What it was asked for: "pull" or "push".
        retry_after: The header `Retry-After`.
    """
    said = f"{status} {code}".strip()
    if status in _TRANSIENT:
        wait = _seconds(retry_after)
        refused = f"refuses to {what}"
        texts = {400: refused, 416: refused, 429: "is asked too often"}
        text = texts.get(status, "has trouble of its own")
        later = f"in {wait:.0f} s" if wait else "later"
        return TransientError(f"{reference} {text} ({said}): try again {later}", wait=wait)
    if status == 403:
        text = (
            f"does not let this login {what} ({said}), or has no such repository: "
            f"`docker login {reference.host}` as someone who may"
        )
    elif status == 404:
        text = f"has no such repository ({said}): it may have to be created first"
    else:
        text = f"refuses to {what} ({said})"
    return UnavailableError(f"{reference} {text}")


def of_page(reference: Reference, status: int) -> UnavailableError:
    """What is to be said of a web page where a registry should be."""
    return UnavailableError(
        f"{reference} answers with a web page ({status}), not as a registry does: "
        "is the name right, is there a login page in between?"
    )


def code_in(body: bytes) -> str:
    """The code of a registry's error, or nothing; its message may say anything and is left out."""
    try:
        answer = msgspec.json.decode(body, type=_Errors)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
    codes = (error.code for error in answer.errors)
    return next((code for code in codes if re.fullmatch(r"[A-Z_]{1,40}", code)), "")


class _Error(Struct, frozen=True):
    code: str = ""


class _Errors(Struct, frozen=True):
    errors: tuple[_Error, ...] = ()


def _seconds(retry_after: str) -> float:
    """What `Retry-After` says in seconds; a date is rare and taken for an hour."""
    if not retry_after:
        return 0.0
    return float(retry_after) if re.fullmatch(r"[0-9]{1,6}", retry_after) else 3600.0


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (NameResolutionError, "its name cannot be resolved: is it right, is there a network?"),
    (ConnectTimeoutError, "no connection in time: is it up, is there a network?"),
    (NewConnectionError, "no connection: is it up, is there a network?"),
    (ReadTimeoutError, "it stopped answering"),
    (TimeoutError, "it stopped answering"),
    (ProtocolError, "the connection broke"),
)


def _because(error: Exception) -> str:
    if isinstance(error, ProxyError):
        return f"the proxy is of no help: {_because(error.original_error)}"
    if isinstance(error, SSLError):
        found = re.search(r"certificate verify failed: ([\w ']+)", str(error))
        words = found[1].strip() if found else "no version in common; is the port right?"
        return f"TLS failed: {words}"
    cause = error.__cause__
    if type(error) is NewConnectionError and isinstance(cause, OSError) and cause.strerror:
        return f"no connection ({cause.strerror}): is it up, is there a network?"
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    return f"the connection failed ({type(error).__name__})"
