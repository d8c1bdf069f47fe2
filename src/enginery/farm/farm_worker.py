"""Dask's worker, made to do one thing: run `enginery.farm.build:build`.

A worker of Dask runs whatever a client sends it. This one refuses every task that is not a build,
and every handler by which code or files of somebody's would get in. What it cannot refuse: Dask
unpickles a task before this class sees it. Mutual TLS is what keeps strangers out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from dask._task_spec import Task
from distributed import Worker
from distributed.core import Status, error_message
from distributed.worker_state_machine import (
    ExecuteFailureEvent,
    RescheduleMsg,
    StateMachineEvent,
)

from ..digest import is_sha256, short
from ..errors import EngineryError, FarmError
from .blobs import PIECE_LIMIT
from .build import Builds, build
from .telling import Link

_KEPT_HANDLERS = frozenset(
    {
        "call_stack",
        "connection_stream",
        "free_keys",
        "get_data",
        "get_logs",
        "get_monitor_info",
        "get_story",
        "identity",
        "keys",
        "ping",
        "terminate",
        "versions",
    }
)


class _TaskLink(msgspec.Struct, frozen=True):
    """A running task's way back to whoever submitted it."""

    worker: Any
    key: str
    address: str

    def tell(self, message: dict[str, object]) -> None:
        """Send a message under the task's key; where nobody listens, it is lost."""
        self.worker.log_event(self.key, message)

    def is_awaited(self) -> bool:
        """Whether the scheduler is there and the task was not given up."""
        task = self.worker.state.tasks.get(self.key)
        running = self.worker.status in (Status.running, Status.closing_gracefully)
        return running and task is not None and task.state == "executing"


class FarmWorker(Worker):
    """A worker that takes builds and nothing else.

    Attributes:
        builds: What it builds with.
    """

    def __init__(
        self,
        scheduler: str,
        *,
        builds: Builds,
        about: Mapping[str, Any],
        say: Callable[[str], None],
        **options: Any,
    ) -> None:
        """Make a worker; it connects when it is awaited.

        Args:
            scheduler: The scheduler's address.
            builds: What it builds with.
            about: What it says of itself.
            say: Told what was refused.
            options: Those of `distributed.Worker`.
        """
        super().__init__(scheduler, memory_limit=0, extensions={}, **options)
        self.builds, self._about, self._say = builds, dict(about), say
        self._last_read = 0.0
        self._keeping: dict[tuple[str, str], asyncio.Future[None]] = {}
        self.handlers = {
            name: handler if name in _KEPT_HANDLERS else self._refusal(name)
            for name, handler in self.handlers.items()
        }
        self.handlers.update(
            enginery_missing=self._missing,
            enginery_look=self._look,
            enginery_put=self._put,
            enginery_blob=self._blob,
            enginery_about=self._tell_about,
        )

    def link(self) -> Link:
        """The way back from the task that this thread runs."""
        key = str(self.get_current_task())
        return _TaskLink(self, key, self.address)

    async def execute(self, key: Any, *, stimulus_id: str) -> StateMachineEvent:
        """Run a build; anything else fails without being run."""
        task = self.state.tasks[key]
        fault = _fault(task.run_spec, task.annotations, actor=key in self.state.actors)
        if fault is None:
            return await super().execute(key, stimulus_id=stimulus_id)
        self._say(f"a task is refused: {fault}")
        return ExecuteFailureEvent.from_exception(
            FarmError(f"{self.name} takes builds of enginery and nothing else: {fault}"),
            key=key,
            run_id=task.run_id,
            stimulus_id=f"enginery-refused-{time.time()}",
        )

    def drain(self) -> None:
        """Take no new build, and give back those that wait here."""
        self.status = Status.closing_gracefully
        for task in [*self.state.constrained, *self.state.ready]:
            message = RescheduleMsg(key=task.key, stimulus_id=f"enginery-drain-{time.time()}")
            self.batched_send(message.to_dict())

    def is_wanted(self, quiet_s: float) -> bool:
        """Whether a result is still held by somebody, or was read from moments ago."""
        return bool(self.state.tasks) or time.monotonic() - self._last_read < quiet_s

    @property
    def last_read(self) -> float:
        """When a piece of an engine was read, by the monotonic clock."""
        return self._last_read

    async def close(  # type: ignore[override]
        self,
        timeout: float = 30,
        executor_wait: bool = False,  # noqa: ARG002
        nanny: bool = True,
        reason: str = "worker-close",
    ) -> str | None:
        """Close without waiting for a build: it goes on, and its engine is kept."""
        return await super().close(timeout, executor_wait=False, nanny=nanny, reason=reason)

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """No dashboard, and no port for one."""

    async def plugin_add(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]
        """Plugins are code; a scheduler offers its own to every worker."""
        return _answer(FarmError(f"{self.name} takes no plugins"))

    def _refusal(self, name: str) -> Callable[..., dict[str, Any]]:
        def refuse(comm: Any = None, **_: Any) -> dict[str, Any]:
            return self._refused(f"{name} from {getattr(comm, 'peer_address', 'somebody')}")

        return refuse

    def _refused(self, what: str) -> dict[str, Any]:
        self._say(f"refused: {what}")
        return _answer(FarmError(f"{self.name} takes builds of enginery and nothing else"))

    async def _missing(self, comm: Any = None, *, digests: Any = ()) -> Any:  # noqa: ARG002
        if not isinstance(digests, list | tuple) or not all(map(_is_digest, digests)):
            return _answer(FarmError("digests are wanted, and this is something else"))
        return self.builds.blobs.missing(digests)

    async def _look(
        self,
        comm: Any = None,  # noqa: ARG002
        *,
        digests: Any,
        uploader: Any,
        there: Any,
    ) -> Any:
        asked = isinstance(digests, list | tuple) and all(map(_is_digest, digests))
        if not (asked and type(uploader) is str and type(there) is bool):
            return _answer(FarmError("digests are wanted, and this is something else"))
        return self.builds.remote.look(uploader, digests, there=there)

    async def _put(
        self, comm: Any = None, *, sha256: Any, size: Any, offset: Any, data: Any
    ) -> Any:
        if not (
            _is_digest(sha256)
            and type(size) is type(offset) is int
            and isinstance(data, bytes | bytearray | memoryview)
        ):
            return _answer(FarmError("a piece of a file is wanted, and this is something else"))
        sender = str(getattr(comm, "peer_address", ""))
        key = sender, sha256
        before = self._keeping.pop(key, None)
        try:
            if before is not None:
                await before
            keep = self.builds.blobs.expect(sender, sha256, size, offset, bytes(data))
            keeping = asyncio.ensure_future(asyncio.to_thread(keep))
            if offset + len(data) < size:
                # It is hashed and written while the next one comes, which hears of a failure.
                self._keeping[key] = keeping
                return None
            await keeping
        except (EngineryError, OSError) as error:
            self._say(f"refused: a piece of {short(sha256)} from {sender}: {error}")
            return _answer(error if isinstance(error, EngineryError) else FarmError(str(error)))
        return None

    async def _blob(
        self,
        comm: Any = None,  # noqa: ARG002
        *,
        sha256: Any,
        offset: Any = 0,
        length: Any = PIECE_LIMIT,
    ) -> Any:
        if not (_is_digest(sha256) and type(offset) is type(length) is int and offset >= 0):
            return _answer(FarmError("a piece of an engine is wanted, and this is something else"))
        try:
            data = await asyncio.to_thread(
                self.builds.read_blob, sha256, offset, min(max(length, 0), PIECE_LIMIT)
            )
        except (EngineryError, OSError) as error:
            return _answer(FarmError(f"{short(sha256)} cannot be read: {error}"))
        self._last_read = time.monotonic()
        return data

    async def _tell_about(self, comm: Any = None) -> dict[str, Any]:  # noqa: ARG002
        return self._about


def _fault(spec: Any, annotations: Mapping[str, Any] | None, *, actor: bool) -> str | None:
    """Why a task is no build, or None where it is one; looks at nothing that could run code."""
    if type(spec) is not Task or spec.func is not build:
        return "it calls another function"
    if spec.kwargs or len(spec.args) != 1 or type(spec.args[0]) is not str:
        return "it has other arguments than a request"
    if actor or "executor" in (annotations or {}):
        return "it wants to be run in another way"
    return None


def _is_digest(value: Any) -> bool:
    return type(value) is str and is_sha256(value)


def _answer(error: Exception) -> dict[str, Any]:
    """An error as Dask carries it to whoever called; raised, it would be logged here as a fault."""
    return dict(error_message(error, status="uncaught-error"))
