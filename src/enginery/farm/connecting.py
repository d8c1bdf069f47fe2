"""A worker's connection to its scheduler: what it shows, and why there is none."""

from __future__ import annotations

from typing import Any

from .address import Tls

_REASONS = {
    "has expired": "its certificate has expired",
    "CERTIFICATE_VERIFY_FAILED": "the authority of --ca did not sign its certificate",
    "UNKNOWN_CA": "it does not accept this certificate: another authority signed it",
    "CERTIFICATE_EXPIRED": "it does not accept this certificate: it has expired",
    "ALERT": "it does not accept this certificate",
    "EOF occurred": "it closed the connection; its log says why",
    "reset by peer": "it closed the connection; does it use TLS, and this worker not?",
    "WRONG_VERSION_NUMBER": "it does not use TLS; is it a scheduler of Dask with certificates?",
    "not idle; cannot convert": "it does not use TLS; is it a scheduler of Dask with certificates?",
    "CancelledError": "what listens there does not answer",
    "name taken": "a worker of this name is connected; give another --name",
    "refused": "nothing listens there",
}
"""What Dask or OpenSSL says, and what it means."""


def security_of(tls: Tls | None, role: str) -> Any:
    """Dask's name for it; the role is "worker" or "client"."""
    from distributed import Security

    make: Any = Security
    given = tls.for_role(role) if tls else {}
    return make(require_encryption=tls is not None, **given)


def reason_of(error: BaseException) -> str:
    """Why there is no connection, in words that a person can do something with."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error) or type(error).__name__
    return next((words for part, words in _REASONS.items() if part in text), text)
