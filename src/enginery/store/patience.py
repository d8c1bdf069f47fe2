"""How long to wait for someone else's machine.

A socket's timeout bounds one read of one connection. It does not bound the resolution of a name,
a host with five addresses that are all dead, or a server that sends a byte a second. What may
hang so is therefore done in a thread, and the caller waits for a sign of progress, no longer.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TypeVar

_T = TypeVar("_T")

# Items that wait for a slow consumer; a piece of a blob is 256 KiB.
_DEPTH = 8

# Pauses between tries, of all patience: the fourth try is the last.
_PAUSES = (0.05, 0.2, 0.5)

_END = object()


class Patience:
    """The time that may pass without progress; for one operation.

    Attributes:
        seconds: That time.
    """

    def __init__(self, seconds: float, *, first: float | None = None) -> None:
        """Start to wait; `first`, if given, is the time until the first sign of progress."""
        self.seconds = seconds
        self._until = time.monotonic() + (seconds if first is None else first)
        self._given_up = threading.Event()
        self._reason = ""

    def left(self) -> float:
        """Seconds until patience is over, never below zero."""
        return max(0.0, self._until - time.monotonic())

    def renew(self, extra: float = 0.0) -> None:
        """There was progress: wait for the next, with so many seconds more.

        Raises:
            TimeoutError: Nobody waits any more.
        """
        if self._given_up.is_set():
            raise TimeoutError
        self._until = time.monotonic() + self.seconds + extra
        self._reason = ""

    def pauses(self) -> Iterator[float]:
        """Seconds between the tries of something that failed for no lasting reason."""
        return (self.seconds * part for part in _PAUSES)

    def pause(self, seconds: float, reason: str) -> bool:
        """Sleep before another try; False at once if patience would not outlast it.

        The reason for the pause is what a `TimeoutError` says, should that come next.
        """
        self._reason = reason
        if seconds >= self.left():
            return False
        return not self._given_up.wait(seconds)

    def wait(self, work: Callable[[], _T]) -> _T:
        """The result of work that may hang.

        Raises:
            TimeoutError: Patience was over first; the work is left to its thread.
        """
        (result,) = self.items(work() for _ in range(1))
        return result

    def items(self, source: Generator[_T, None, None]) -> Generator[_T, None, None]:
        """The items of a source that may hang, which runs ahead in a thread.

        Raises:
            TimeoutError: Patience was over before the next item came.
        """
        ready: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(_DEPTH)
        threading.Thread(target=self._work, args=(source, ready), daemon=True).start()
        working = True
        try:
            while True:
                try:
                    item, error = ready.get(timeout=self.left())
                except queue.Empty:
                    if self.left():
                        continue  # the work itself had reported progress
                    raise TimeoutError(self._reason) from None
                working = item is not _END
                if error is not None:
                    raise error
                if not working:
                    return
                yield item  # type: ignore[misc]  # what `source` gave
        finally:
            if working:
                self._given_up.set()

    def _work(
        self,
        source: Generator[_T, None, None],
        ready: queue.Queue[tuple[object, BaseException | None]],
    ) -> None:
        try:
            with closing(source):  # also if nobody waits any more: it may hold a connection
                for item in source:
                    if not self._offer(ready, (item, None)):
                        return
            self._offer(ready, (_END, None))
        except BaseException as error:
            self._offer(ready, (_END, error))

    def _offer(
        self,
        ready: queue.Queue[tuple[object, BaseException | None]],
        item: tuple[object, BaseException | None],
    ) -> bool:
        while not self._given_up.is_set():
            try:
                ready.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False
