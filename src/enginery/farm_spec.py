"""Where the farm of a corpus is, and how long it is waited for."""

from __future__ import annotations

from pathlib import Path

import msgspec


class FarmSpec(msgspec.Struct, frozen=True):
    """A scheduler, and what this side shows to it.

    Attributes:
        scheduler: Its address, "tls://build.example.com:8786"; "tcp://" on this machine only.
        ca: PEM file of the authority that signed everybody's certificates.
        cert: PEM file of this side's certificate.
        key: PEM file of its private key.
        wait_for_worker: Seconds for which a worker of the right kind is waited for, and a
            scheduler that was lost.
        retries: How often a build is tried again whose worker died.
    """

    scheduler: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    wait_for_worker: float = 60.0
    retries: int = 2
