"""`[farm]` of corpus.toml: who builds what this host cannot."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .corpus_tables import beside, mistake, read_table
from .farm_spec import FarmSpec

SCHEDULER = "ENGINERY_FARM"
"""The environment variable that says where the scheduler is; "off" is no farm."""

_ADDRESS = re.compile(r"(tls|tcp)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_FILES = ("ca", "cert", "key")

_Text = Annotated[str, Meta(min_length=1)]


class FarmTable(msgspec.Struct, forbid_unknown_fields=True):
    """`[farm]`: the scheduler, the files for TLS, and patience.

    Attributes:
        scheduler: Its address, such as "tls://build.example.com:8786".
        ca: Certificate of the farm's authority; paths are relative to the file.
        cert: Certificate of who asks.
        key: Its private key.
        wait_for_worker: For how many seconds an engine waits for a worker that can build it.
        retries: How often a build is asked for again where a worker died of it.
    """

    scheduler: _Text | None = None
    ca: _Text | None = None
    cert: _Text | None = None
    key: _Text | None = None
    wait_for_worker: Annotated[float, Meta(ge=0, le=86400)] = 60.0
    retries: Annotated[int, Meta(ge=0, le=100)] = 2


def read_farm(path: Path, table: dict[str, Any]) -> FarmSpec | None:
    """What the table of a corpus file says; None where there is no farm.

    Raises:
        CorpusError: It holds a mistake, or builds would be asked for without TLS off this machine.
    """
    given = read_table(path, "farm", table, FarmTable)
    named = os.environ.get(SCHEDULER)
    scheduler = named or given.scheduler
    if scheduler is None or named == "off":
        return None
    _check_address(path, scheduler, f"{SCHEDULER}, " if named else "")
    files = {
        name: beside(path, f"farm.{name}", os.path.expanduser(value))  # noqa: PTH111
        for name in _FILES
        if (value := getattr(given, name)) is not None
    }
    lacking = [name for name in _FILES if name not in files]
    if scheduler.startswith("tls:") and lacking:
        raise mistake(
            path, f"farm.{lacking[0]}",
            f"{scheduler} needs ca, cert and key, and {' and '.join(lacking)} "
            f"{'is' if len(lacking) == 1 else 'are'} missing; write {lacking[0]} = "
            f'"farm/{lacking[0]}.pem"',
        )  # fmt: skip
    return FarmSpec(
        scheduler=scheduler,
        wait_for_worker=given.wait_for_worker,
        retries=given.retries,
        **files,
    )


def _check_address(path: Path, scheduler: str, origin: str) -> None:
    match = _ADDRESS.fullmatch(scheduler)
    if match is None or int(match[3]) > 65535:
        raise mistake(
            path, "farm.scheduler",
            f"{origin}{scheduler!r} is no address of a scheduler; write one such as "
            '"tls://build.example.com:8786"',
        )  # fmt: skip
    from .store.reference import is_loopback  # not where there is no farm

    if match[1] == "tcp" and not is_loopback(match[2]):
        raise mistake(
            path, "farm.scheduler",
            f"{origin}{scheduler!r} leads off this machine without TLS, and whoever reaches a "
            'scheduler runs code on its workers; write "tls://" with ca, cert and key',
        )  # fmt: skip
