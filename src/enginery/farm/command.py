"""The command `enginery worker`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from ..errors import FarmError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def add_to(whole: Any) -> None:
    """Add the command to those of `enginery`."""
    worker = whole.command(
        "worker",
        summary="build engines for others on this machine",
        description="Build engines for whoever asks through a scheduler, on this machine's\n"
        "hardware, until SIGTERM.",
        example="enginery worker --scheduler tls://build.example.com:8786 --ca ca.pem "
        "--cert worker.pem --key worker.key",
    )
    add = worker.add_argument
    add("--scheduler", required=True, metavar="ADDRESS", help="tls://host:port of the scheduler")
    add("--ca", type=Path, metavar="PEM", help="certificate of the farm's authority")
    add("--cert", type=Path, metavar="PEM", help="certificate of this worker")
    add("--key", type=Path, metavar="PEM", help="its private key, without a password")
    add("--slots", type=_count, default=1, metavar="N", help="builds at a time (1)")
    add("--folder", type=Path, metavar="DIR", help="where it works (in the user's cache folder)")
    add("--store", type=Path, metavar="DIR", help="where it keeps engines (in its folder)")
    add("--sign-with", type=Path, metavar="PEM", help="private key to sign engines with")
    add("--max-input", type=_size, default="32G", metavar="SIZE",
        help="what the inputs of one build may have (32G)")  # fmt: skip
    add("--keep", type=_size, default="64G", metavar="SIZE",
        help="how much of inputs, and of engines, is kept for the next time (64G)")  # fmt: skip
    add("--drain-timeout", type=_seconds, default=3600.0, metavar="SECONDS",
        help="how long a build may go on after SIGTERM (3600)")  # fmt: skip
    add("--listen", type=_listen, metavar="HOST:PORT", help="where submitters reach it")
    add("--remote", metavar="REGISTRY/REPOSITORY",
        help="remote store where inputs are looked for, as under [store]")  # fmt: skip
    add("--insecure", action="store_true", help="plain HTTP will do for it")
    add("--name", help="what it is called, in provenance, too (the host's name)")
    add("--tag", dest="tags", action="append", default=[], metavar="TAG",
        help="declare a hardware tag instead of finding out; for tests")  # fmt: skip


def run(asked: argparse.Namespace) -> int:
    """Be a worker until SIGTERM; the exit code.

    Raises:
        EngineryError: It cannot be one.
    """
    from .address import tls_of
    from .tags import check_tag

    try:
        import distributed  # noqa: F401 - a clear word where it is missing

        from .serve import WorkerSpec, serve
    except ModuleNotFoundError as error:
        raise FarmError(
            f"a worker needs {error.name}; install it with: pip install 'enginery[farm]'"
        ) from error
    return serve(
        WorkerSpec(
            scheduler=asked.scheduler,
            tls=tls_of(asked.ca, asked.cert, asked.key),
            folder=(asked.folder or _default_folder()).absolute(),
            store=asked.store and asked.store.absolute(),
            sign_with=asked.sign_with,
            slots=asked.slots,
            max_input=asked.max_input,
            keep=asked.keep,
            drain_s=asked.drain_timeout,
            tags=tuple(map(check_tag, asked.tags)),
            name=asked.name,
            listen=asked.listen,
            remote=asked.remote,
            insecure=asked.insecure,
        )
    )


def _default_folder() -> Path:
    from ..store_spec import default_store

    store = default_store()
    if store is None:
        raise FarmError("this user has no home for a cache; give --folder")
    return store.with_name("worker")


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of builds, 1 to 64")
    return int(text)


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,6})([KMGT]?)", text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write one such as 32G")
    return int(match[1]) * _UNITS[match[2]]


def _seconds(text: str) -> float:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return float(text)


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write host:port")
    return text
