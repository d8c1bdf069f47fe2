"""An OCI registry: manifests by tag, blobs by digest.

The client is urllib3 and the few requests of the OCI distribution specification that engines
need. What it promises beyond the clients that there are: every digest is checked on the way in
and on the way out, what breaks off goes on where it was, nothing is held in memory, and no
question takes longer than the patience that comes with it.
"""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

from urllib3 import BaseHTTPResponse

from ..digest import sha256_bytes
from ..errors import RemoteError
from .authorization import PULL, PUSH
from .faults import TransientError
from .manifest import MANIFEST, MANIFEST_LIMIT, Descriptor
from .partial import Partial
from .patience import Patience
from .reference import Reference
from .transport import Call, Transport
from .upload import PIECE, OpenBlob, Upload

_PIECE_IN = 256 << 10


class Registry:
    """One repository of a registry.

    Every method raises `UnavailableError` where the registry as a whole is of no use, and
    `TimeoutError` where patience was over.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._transport = Transport(reference)

    def manifest(
        self, tag: str, patience: Patience, *, media_type: str = MANIFEST, rights: str = PULL
    ) -> bytes | None:
        """The manifest of a tag, or None if there is none.

        Raises:
            RemoteError: It is too large, or is not what the registry says that it is.
        """
        url = f"{self.reference.url}/manifests/{tag}"
        call = Call("GET", url, {"Accept": media_type}, rights=rights, expected=(200, 404))

        def get() -> bytes | None:
            response = self._transport.send(call, patience)
            data = self._transport.read(response, MANIFEST_LIMIT)
            if response.status == 404:
                return None
            promised = response.headers.get("Docker-Content-Digest", "")
            if promised.startswith("sha256:") and promised != f"sha256:{sha256_bytes(data)}":
                raise RemoteError(f"{self.reference}: a manifest was damaged on its way")
            return data

        return patience.wait(get)

    def put_manifest(
        self, tag: str, data: bytes, patience: Patience, *, media_type: str = MANIFEST
    ) -> None:
        """Give a manifest a tag; all that it names must be there."""
        call = Call(
            "PUT",
            f"{self.reference.url}/manifests/{tag}",
            {"Content-Type": media_type, "Content-Length": str(len(data))},
            body=lambda: [data],
            rights=PUSH,
            expected=(201,),
        )
        patience.wait(lambda: self._transport.read(self._transport.send(call, patience)))

    def small_blob(self, blob: Descriptor, patience: Patience) -> bytes:
        """The bytes of a small blob, which the caller verifies: no more than it has to have."""
        call = Call("GET", self._url(blob), expected=(200, 404))

        def get() -> bytes:
            response = self._transport.send(call, patience)
            return self._transport.read(self._there(response, blob), blob.size)

        return patience.wait(get)

    def download(
        self, blob: Descriptor, output: Path, patience: Patience, *, parking: Path | None
    ) -> None:
        """Write a blob to a new file, hashed on the way.

        Args:
            blob: The blob.
            output: The file; it is not there afterwards unless it is the blob.
            patience: Renewed by whatever arrives.
            parking: Folder for what broke off; another try goes on from there.

        Raises:
            RemoteError: What came is not the blob.
            OSError: The file cannot be written.
        """
        with Partial(blob, output, parking) as part:
            if part.adopted:
                part.take_up()
                patience.renew()  # it was the disk that took the time
            self._fill(part, blob, patience)
            if not part.is_blob() and part.adopted:
                part.restart()
                self._fill(part, blob, patience)
            if not part.is_blob():
                raise RemoteError(
                    f"{blob} is damaged in {self.reference}: its bytes have another digest"
                )

    def has(self, blob: Descriptor, patience: Patience) -> bool:
        """Whether something is there under a blob's digest, of whatever size."""
        return patience.wait(lambda: self._size(blob, patience, rights=PULL)) is not None

    def upload(self, blob: Descriptor, open_blob: OpenBlob, patience: Patience) -> bool:
        """Send a blob unless it is there; whether it was sent.

        Raises:
            StoreError: What is to be sent is not the blob.
            RemoteError: The registry keeps something else under this digest.
        """

        def is_there() -> bool:
            return self._size(blob, patience) == blob.size

        def send() -> bool:
            size = self._size(blob, patience)
            if size == blob.size:
                return False
            Upload(self._transport, blob, open_blob, is_there=is_there, patience=patience).run()
            if size is not None and not is_there():
                raise RemoteError(
                    f"{self.reference} keeps something else as {blob}, of {size} bytes, and does "
                    "not replace it: whoever runs it must delete that"
                )
            return True

        return patience.wait(send)

    def _size(self, blob: Descriptor, patience: Patience, *, rights: str = PUSH) -> int | None:
        """The size of a blob there; None if it is not there."""
        call = Call("HEAD", self._url(blob), rights=rights, expected=(200, 404))
        response = self._transport.send(call, patience)
        self._transport.read(response)
        size = response.headers.get("Content-Length", "")
        if response.status == 404:
            return None
        return int(size) if re.fullmatch(r"[0-9]+", size) else blob.size

    def _fill(self, part: Partial, blob: Descriptor, patience: Patience) -> None:
        """Read what is missing, in as many tries as it takes while there is progress."""
        pauses = patience.pauses()
        furthest = part.size
        while part.size < blob.size:
            try:
                self._continue(part, blob, patience)
            except TransientError as error:
                if part.size > furthest + PIECE:
                    furthest, pauses = part.size, patience.pauses()
                pause = next(pauses, None)
                if pause is None or not patience.pause(max(pause, error.wait), str(error)):
                    raise

    def _continue(self, part: Partial, blob: Descriptor, patience: Patience) -> None:
        headers = {"Range": f"bytes={part.size}-"} if part.size else {}
        expected = (200, 206, 404, 416)
        call = Call("GET", self._url(blob), headers, expected=expected, retried=False)
        response = patience.wait(lambda: self._transport.send(call, patience))
        if not _continues(response, part.size, blob.size):
            restarted = bool(part.size)
            part.restart()
            if response.status in (206, 416) and restarted:
                response.close()
                raise TransientError(f"{self.reference} does not go on with {blob}")
            self._there(response, blob)
        noted = part.size
        pieces = self._transport.pieces(response, _PIECE_IN)
        with closing(patience.items(pieces)) as arriving:
            for piece in arriving:
                if part.size + len(piece) > blob.size:
                    part.restart()
                    longer = f"it is longer there than {blob.size} bytes"
                    raise RemoteError(f"{blob} is damaged in {self.reference}: {longer}")
                part.write(piece)
                if part.size - noted >= PIECE:
                    noted = part.size
                    patience.renew()
        if part.size < blob.size:
            raise TransientError(f"{self.reference}: {blob} ended early")

    def _there(self, response: BaseHTTPResponse, blob: Descriptor) -> BaseHTTPResponse:
        """An answer that is to be a blob from its start."""
        if response.status == 200:
            size = response.headers.get("Content-Length", "")
            if not re.fullmatch(r"[0-9]+", size) or int(size) == blob.size:
                return response
            problem = f"is damaged in {self.reference}: it has {size} bytes there, not {blob.size}"
        else:
            problem = f"is missing in {self.reference} ({response.status})"
        response.close()
        raise RemoteError(f"{blob} {problem}")

    def _url(self, blob: Descriptor) -> str:
        return f"{self.reference.url}/blobs/sha256:{blob.sha256_hex}"


def _continues(response: BaseHTTPResponse, start: int, size: int) -> bool:
    """Whether an answer is what is missing of a blob; a server need not know of ranges."""
    wanted = f"bytes {start}-{size - 1}/{size}"
    return response.status == 206 and response.headers.get("Content-Range", "") == wanted
