"""Sending a blob: as one piece, and where that breaks or is too much, the rest in others.

The protocol is that of the OCI distribution specification, as docker and skopeo use it: PATCH
sends bytes, PUT says that this was all. After a break the registry is asked how much it has. A
proxy that limits the size of a request says 413, and from then on it gets chunks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import BinaryIO, Final
from urllib.parse import urlencode

from urllib3 import BaseHTTPResponse

from ..errors import StoreError
from .authorization import PUSH
from .faults import TransientError, UnavailableError
from .manifest import Descriptor
from .patience import Patience
from .transport import Call, Transport

PIECE: Final = 64 << 10
"""Bytes that must pass within the patience, in either direction."""

_CHUNK = 8 << 20

# What was handed to the kernel last is not sent yet, and a registry may hash and move all that it
# got before it answers: bytes, and bytes a second.
_IN_KERNEL, _SENDING = 4 << 20, 500e3
_DIGESTING = 10e6

OpenBlob = Callable[[Descriptor], BinaryIO]


class Upload:
    """One blob on its way to a registry."""

    def __init__(
        self,
        transport: Transport,
        blob: Descriptor,
        open_blob: OpenBlob,
        *,
        is_there: Callable[[], bool],
        patience: Patience,
    ) -> None:
        self._transport = transport
        self._blob = blob
        self._source = _Source(blob, open_blob, patience)
        self._is_there = is_there
        self._patience = patience
        self._location: str | None = None
        self._offset = 0
        self._chunk: int | None = None

    def run(self) -> None:
        """Send it.

        Raises:
            UnavailableError: The registry does not take it.
            StoreError: What is to be sent is not the blob; nothing is published then.
        """
        with closing(self._source):
            self._run()

    def _run(self) -> None:
        pauses = self._patience.pauses()
        furthest = 0
        while True:
            try:
                if self._advance():
                    return
            except TransientError as error:
                self._locate()
                if self._offset > furthest:
                    furthest, pauses = self._offset, self._patience.pauses()
                pause = next(pauses, None)
                if pause is None:
                    raise
                if not self._patience.pause(max(pause, error.wait), str(error)):
                    raise
                if self._location is None and self._is_there():
                    return

    def _advance(self) -> bool:
        """One request forward; whether that was the last."""
        if self._location is None:
            self._start()
        elif self._offset < self._blob.size:
            self._send()
        else:
            self._commit(self._location)
            return True
        return False

    def _start(self) -> None:
        url = f"{self._transport.reference.url}/blobs/uploads/"
        call = Call("POST", url, {"Content-Length": "0"}, rights=PUSH, expected=(202,))
        response = self._transport.send(call, self._patience)
        self._transport.read(response)
        self._take_location(response, url)
        self._offset = 0
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        if self._chunk is not None and re.fullmatch(r"[0-9]{1,10}", least):
            self._chunk = max(_CHUNK, int(least))

    def _commit(self, location: str) -> None:
        digest = urlencode({"digest": self._blob.digest})
        grace = _grace(self._blob.size)
        self._patience.renew(grace)
        call = Call(
            "PUT",
            f"{location}{'&' if '?' in location else '?'}{digest}",
            {"Content-Length": "0"},
            rights=PUSH,
            expected=(201, 204),
            answer_timeout=self._patience.seconds + grace,
            retried=False,
        )
        self._transport.read(self._transport.send(call, self._patience))

    def _send(self) -> None:
        start = self._offset
        stop = self._blob.size if self._chunk is None else start + self._chunk
        stop = min(stop, self._blob.size)
        call = Call(
            "PATCH",
            str(self._location),
            {
                "Content-Length": str(stop - start),
                "Content-Range": f"{start}-{stop - 1}",
                "Content-Type": "application/octet-stream",
            },
            body=lambda: self._pieces(start, stop),
            rights=PUSH,
            expected=(202, 204, 413),
            answer_timeout=self._patience.seconds + _grace(stop - start),
            retried=False,
        )
        response = self._transport.send(call, self._patience)
        self._transport.read(response)
        if response.status == 413:
            if self._chunk is not None:
                raise UnavailableError(
                    f"{self._transport.reference} takes no chunk of {self._chunk} bytes (413): "
                    "the limit of a proxy before it must be raised"
                )
            self._location, self._chunk = None, _CHUNK
            return
        self._take_location(response, str(self._location))
        self._offset = stop

    def _pieces(self, start: int, stop: int) -> Iterator[bytes]:
        yield from self._source.pieces(start, stop)
        self._patience.renew(_grace(stop - start))

    def _locate(self) -> None:
        """Ask how much arrived; if nobody knows, it starts anew."""
        location, self._location, self._offset = self._location, None, 0
        if location is None:
            return
        call = Call("GET", location, rights=PUSH, expected=(204, 200), retried=False)
        try:
            response = self._transport.send(call, self._patience)
            self._transport.read(response)
        except UnavailableError:
            return
        arrived = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,15})", response.headers.get("Range", ""))
        # "0-0" is what a registry says that has nothing.
        if arrived is not None and 0 < int(arrived[1]) < self._blob.size:
            self._offset = int(arrived[1]) + 1
            self._location = location
            self._take_location(response, location)

    def _take_location(self, response: BaseHTTPResponse, base: str) -> None:
        location = response.headers.get("Location")
        if location is not None:
            self._location = self._transport.resolve(location, base)
        elif self._location is None:
            raise UnavailableError(f"{self._transport.reference} does not say where to send a blob")


def _grace(size: int) -> float:
    """Seconds that a registry has for its answer to so many bytes, besides our patience."""
    return min(size, _IN_KERNEL) / _SENDING + size / _DIGESTING


class _Source:
    """The bytes of a blob, hashed on the way; the last are not given out if they are not it."""

    def __init__(self, blob: Descriptor, open_blob: OpenBlob, patience: Patience) -> None:
        self._blob = blob
        self._open = open_blob
        self._patience = patience
        self._stream: BinaryIO | None = None
        self._position = 0
        self._hasher = hashlib.sha256()

    def close(self) -> None:
        """Close the file; the next bytes are read from its start."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None
        self._position = 0
        self._hasher = hashlib.sha256()

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to `stop`.

        Raises:
            StoreError: They are not the blob's.
        """
        if start != self._position:
            self.close()
        while self._position < start:  # it was sent, but the digest is that of the whole
            self._read(start)
        while self._position < stop:
            yield self._read(stop)

    def _read(self, stop: int) -> bytes:
        try:
            if self._stream is None:
                self._stream = self._open(self._blob)
            piece = self._stream.read(min(PIECE, stop - self._position))
        except OSError as error:
            raise StoreError(f"{self._blob} cannot be read: {error}") from error
        self._patience.renew()  # what was read before is sent, or need not be
        self._hasher.update(piece)
        self._position += len(piece)
        whole = self._position == self._blob.size
        if not piece or (whole and self._hasher.hexdigest() != self._blob.sha256_hex):
            raise StoreError(f"{self._blob} is damaged here and was not pushed")
        return piece
