"""From wherever an action runs to the one place that shows the run: facts and text.

Where doit runs actions in this process, whoever tells something calls that place. doit's worker
processes are forked from this one: there it goes through a pipe, in frames that are shorter than
PIPE_BUF (pipe(7)), so that those of two processes never mix. Where nobody listens, nothing
happens: with doit's other reporters, and in a process that was not forked from this one.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any, TextIO

import msgspec

# PIPE_BUF is 512 at least and 4096 on Linux; the head of a frame is shorter than the difference.
_CHUNK = 400 if getattr(os, "PIPE_BUF", 512) < 4096 else 3900


class Event(msgspec.Struct, frozen=True):
    """Something that happened; docs/events.md lists the kinds.

    Attributes:
        time: When, in UTC, as RFC 3339.
        kind: What.
        kv: More of it.
    """

    time: str
    kind: str
    kv: dict[str, Any]


class Text(msgspec.Struct, frozen=True):
    """Text that someone printed.

    Attributes:
        origin: Process, thread and stream; what has the same origin is of one piece.
        text: The text, with its line ends.
    """

    origin: str
    text: str


Take = Callable[["Event | Text"], None]

_DECODERS: dict[bytes, msgspec.json.Decoder[Any]] = {
    b"e": msgspec.json.Decoder(Event),
    b"t": msgspec.json.Decoder(Text),
}


class Wire:
    """The way to the place that shows the run; one at a time, see `plug`.

    Attributes:
        live: Whether a live view owns the terminal, so that all text has to go through here.
    """

    def __init__(self, take: Take, *, live: bool) -> None:
        self.live = live
        self._take: Take | None = take
        self._begun: dict[bytes, bytes] = {}
        self._rest = b""
        self.source, self._target = os.pipe()
        os.set_blocking(self.source, False)

    def drain(self) -> None:
        """Hand on whatever the worker processes sent. One thread at a time."""
        with suppress(BlockingIOError):
            while data := os.read(self.source, 1 << 16):
                *frames, self._rest = (self._rest + data).split(b"\n")
                for frame in frames:
                    if frame:
                        self._receive(frame)

    def wake(self) -> None:
        """Make `source` readable."""
        os.write(self._target, b"\n")

    def send(self, message: Event | Text) -> bool:
        """Pass something on; False where nobody takes it any more."""
        if self._take is not None:
            self._take(message)
            return True
        try:
            for frame in _frames(message):
                os.write(self._target, frame)
        except OSError:  # whoever listened is gone, and this process goes with it
            return False
        return True

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.source)
        os.close(self._target)

    def enter_child(self) -> None:
        """Send through the pipe from here on, text included where there is a live view."""
        if self._take is not None:
            self._take = None
            os.close(self.source)
            if self.live:
                capture()

    def _receive(self, frame: bytes) -> None:
        head, origin, chunk = frame.split(b" ", 2)
        whole = self._begun.pop(origin, b"") + chunk
        if head[1:] == b"+":
            self._begun[origin] = whole
        elif self._take is not None:
            self._take(_DECODERS[head[:1]].decode(whole))


class Shown(io.TextIOBase):
    """A standard stream whose text goes where the run is shown, and after that where it went."""

    def __init__(self, real: TextIO) -> None:
        self.real = real

    def write(self, text: str) -> int:
        """Show it."""
        origin = f"{os.getpid()}.{threading.get_ident()}.{self.real.fileno()}"
        if _wire is None or not _wire.send(Text(origin, _clean(text))):
            self.real.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the real stream; what was shown is shown."""
        self.real.flush()

    def isatty(self) -> bool:
        """Whether the real stream is a terminal."""
        return self.real.isatty()

    def fileno(self) -> int:
        """The real stream's, for programs that write to it themselves."""
        return self.real.fileno()

    def writable(self) -> bool:
        """Yes."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The real stream's."""
        return self.real.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The real stream's."""
        return self.real.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


_wire: Wire | None = None
_hooked = False
_task: ContextVar[str | None] = ContextVar("task", default=None)


def plug(take: Take, *, live: bool) -> Wire:
    """Have everything told to `take` from here on, whatever thread or forked process it is in."""
    global _wire, _hooked  # noqa: PLW0603 - actions reach it from anywhere
    _wire = Wire(take, live=live)
    if not _hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_enter_child)
        _hooked = True
    return _wire


def unplug() -> None:
    """Have nobody told any more."""
    global _wire
    old, _wire = _wire, None
    release()
    if old is not None:
        old.close()


def is_live() -> bool:
    """Whether a live view shows what is going on, so that no line has to."""
    return _wire is not None and _wire.live


def tell(kind: str, **kv: Any) -> None:
    """Say that something happened to the task that this is a part of, or to the one named."""
    if _wire is not None:
        task = kv.pop("task", None) or _task.get()
        _wire.send(event(kind, **({"task": task} if task else {}), **kv))


def event(kind: str, **kv: Any) -> Event:
    """Something that happens now."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return Event(now.replace("+00:00", "Z"), kind, {key: _cleaned(kv[key]) for key in kv})


@contextmanager
def of_task(name: str) -> Iterator[None]:
    """Whatever is told inside is about this task."""
    token = _task.set(name)
    try:
        yield
    finally:
        _task.reset(token)


def capture() -> None:
    """Put a `Shown` in the place of each standard stream that is a terminal."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Shown) and stream is not None and stream.isatty():
            setattr(sys, name, Shown(stream))


def release() -> None:
    """Undo `capture`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, Shown):
            setattr(sys, name, stream.real)


def _enter_child() -> None:
    if _wire is not None:
        _wire.enter_child()


def _frames(message: Event | Text) -> Iterator[bytes]:
    data = msgspec.json.encode(message)
    kind = b"e" if isinstance(message, Event) else b"t"
    origin = b"%d.%d" % (os.getpid(), threading.get_ident())
    for begin in range(0, len(data), _CHUNK):
        more = b"+" if begin + _CHUNK < len(data) else b"."
        yield b"%s%s %s %s\n" % (kind, more, origin, data[begin : begin + _CHUNK])


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, (list, tuple)):
        return [_cleaned(one) for one in value]
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(one) for key, one in value.items()}
    return value


def _clean(text: str) -> str:
    """Text that UTF-8 can spell: a file name may hold what it cannot."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
