"""The workers that are connected to a scheduler now, asked for once and without joining in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import FarmError
from ..farm_spec import FarmSpec
from .link import load, reason_of, security_of

PATIENCE_S = 5.0
"""Seconds after which a scheduler that does not answer is taken to be down."""


class Connected(msgspec.Struct, frozen=True):
    """A worker.

    Attributes:
        address: Its address, which no other worker has.
        name: What it calls itself.
        resources: Tag to slots; see `tags`.
        slots: How many builds it does at a time, whatever their tags.
    """

    address: str
    name: str
    resources: Mapping[str, float]
    slots: int = 1


def connected(spec: FarmSpec, *, patience_s: float = PATIENCE_S) -> list[Connected]:
    """The workers that offer something to build on, in the order of their names.

    Raises:
        FarmError: No scheduler answers there, or a package or a file is missing.
    """
    load()
    try:
        found = asyncio.run(asyncio.wait_for(_identity(spec, patience_s), patience_s))
    except FarmError:
        raise  # a file that is missing or wrong
    except Exception as error:
        # Who answers may be no scheduler, and what Dask reads out of its words raises anything.
        raise FarmError(
            f"the scheduler {spec.scheduler} cannot be asked: {reason_of(error)}; is it running?"
        ) from error
    workers = found.get("workers", {}) if isinstance(found, dict) else {}
    return sorted(
        (
            _worker(address, info)
            for address, info in workers.items()
            if info.get("status", "running") == "running" and info.get("resources")
        ),
        key=lambda worker: (worker.name, worker.address),
    )


async def _identity(spec: FarmSpec, patience_s: float) -> Any:
    # A client would register, and be one more that the scheduler keeps track of.
    from distributed import core

    connect = _untyped(core.rpc)
    security = security_of(spec)
    arguments = {} if security is None else security.get_connection_args("client")
    async with connect(spec.scheduler, timeout=patience_s, connection_args=arguments) as scheduler:
        return await scheduler.identity()


def _worker(address: str, info: Mapping[str, Any]) -> Connected:
    return Connected(
        address=address,
        name=str(info.get("name") or address),
        resources={str(tag): float(slots) for tag, slots in info["resources"].items()},
        slots=max(int(info.get("nthreads") or 1), 1),
    )


def _untyped(what: Any) -> Any:
    return what
