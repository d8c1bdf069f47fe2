"""What Dask says has become of a build, in the terms of who asked for it."""

from __future__ import annotations

import asyncio
from typing import Any

from ..errors import EngineryError, FarmError
from .link import CONNECT_S, LostError


class KilledError(Exception):
    """Dask gave it up: too many workers died while they had it, in work or only in their queue."""


async def outcome_of(future: Any) -> str:
    """The reply to a build.

    Raises:
        LostError: The scheduler lost it, or the worker that had it is gone.
        KilledError: Too many workers died.
        FarmError: A worker fails in its own code.
    """
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker

    try:
        return str(await future)
    except FutureCancelledError as error:
        # It would cancel whoever waits.
        raise LostError("the scheduler lost it") from error
    except KilledWorker as error:
        raise KilledError from error
    except OSError as error:
        raise LostError("the worker that had it is gone") from error
    except EngineryError:
        raise
    except Exception as error:
        # Whatever a worker's code raises arrives here.
        raise FarmError(f"a worker failed in its own code: {error!r}") from error


async def holder_of(client: Any, key: Any) -> str:
    """The worker that has a reply: the scheduler knows, the reply may say anything.

    Raises:
        LostError: There is none, or the scheduler does not answer.
    """
    try:
        found = await asyncio.wait_for(client.scheduler.who_has(keys=[key]), CONNECT_S)
    except (OSError, AttributeError, asyncio.TimeoutError) as error:
        raise LostError("the scheduler does not answer") from error
    holders = [str(one) for one in found.get(key) or ()]
    if not holders:
        raise LostError("the worker that built it is gone")
    return holders[0]
