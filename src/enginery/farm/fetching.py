"""The way of a worker's blobs to here, piece by piece; whoever gets them verifies them."""

from __future__ import annotations

from ..errors import FarmError
from ..store.manifest import Descriptor
from .link import Link
from .sending import PIECE


async def pieces_of(link: Link, address: str, blob: Descriptor, offset: int) -> bytes:
    """The bytes of a worker's blob from an offset on, a piece at the most.

    Raises:
        FarmError: It does not send them.
        LostError: It is gone.
    """
    wanted = min(PIECE, blob.size - offset)
    data = await link.ask_worker(
        address, "enginery_blob", sha256=blob.sha256_hex, offset=offset, length=wanted
    )
    if not isinstance(data, (bytes, bytearray, memoryview)) or len(data) != wanted:
        raise FarmError(f"{blob} breaks off at {offset} of {blob.size} bytes")
    return bytes(data)


async def small_blob(link: Link, address: str, blob: Descriptor) -> bytes:
    """All bytes of a worker's blob, which is a document; see `pieces_of`."""
    data = b""
    while len(data) < blob.size:
        data += await pieces_of(link, address, blob, len(data))
    return data
