"""What a worker says of a build, as JSON: made, had already, refused, or failed."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from .. import errors
from ..errors import BackboneSpecError, EngineryError, FarmError

VERSION: Final = 1
LIMIT = 8 << 20
"""Bytes of a reply; what is longer is none."""


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A build that failed as builds do: the model is not one, the shape does not fit it.

    Attributes:
        kind: Name of the error's class in `enginery.errors`.
        message: What it says.
        field: The field of a backbone's description at fault, for `BackboneSpecError`.
    """

    kind: str
    message: str
    field: str | None = None

    def error(self) -> EngineryError:
        """The error as it would have been raised here."""
        kind = getattr(errors, self.kind, None)
        if kind is BackboneSpecError:
            return BackboneSpecError(self.message, field=self.field or "onnx")
        if isinstance(kind, type) and issubclass(kind, EngineryError):
            return kind(self.message)
        return FarmError(self.message)


class BuildReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a request.

    Attributes:
        version: Version of this format.
        fingerprint: What was asked for.
        manifest: The OCI manifest of the engine, byte for byte; empty where there is none.
        worker: Address of the worker; its blobs are there.
        host: The host, for people.
        versions: What the worker runs: enginery, Python, the runtime.
        built: Whether it was built for this; False where the worker had it.
        duration_s: How long that took on the worker.
        refused: Why it was not tried, or None.
        failed: How it failed, or None.
    """

    version: Literal[1] = VERSION
    fingerprint: str
    manifest: str = ""
    worker: str = ""
    host: str = ""
    versions: dict[str, str] = {}
    built: bool = False
    duration_s: float = 0.0
    refused: str | None = None
    failed: Failure | None = None

    def encode(self) -> str:
        """As JSON."""
        return msgspec.json.encode(self).decode()


def read_reply(text: str) -> BuildReply:
    """A reply, checked.

    Raises:
        FarmError: It is none, or of another version.
    """
    if len(text) > LIMIT:
        raise FarmError(f"a worker's reply of {len(text)} bytes is not read")
    try:
        return msgspec.json.decode(text, type=BuildReply)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FarmError(
            f"a worker's reply is malformed: {error}; do both sides have the same enginery?"
        ) from error


def failure_of(error: EngineryError, message: str | None = None) -> Failure:
    """An error of a build as it travels, in its own words or in these."""
    # A runtime of another package may raise a kind of its own.
    kind = next(one for one in type(error).__mro__ if one.__module__ == errors.__name__)
    field = error.field if isinstance(error, BackboneSpecError) else None
    return Failure(kind.__name__, str(error) if message is None else message, field)
