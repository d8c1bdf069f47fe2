"""One build that was asked for: submitted, watched, asked for again where it must be.

Dask brings the request to a worker with the right tag and the reply back, and one key is one build
whoever asks for it. What is decided here is whom to ask, how often, and what to make of a reply.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from concurrent.futures import Future as Promise
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ..build import BuildProgress
from ..errors import BackboneSpecError, EngineBuildError, EngineryError, FarmError, StoreError
from ..store.manifest import Descriptor, Stored, unpack
from ..store_spec import StoreSpec
from .fetching import small_blob
from .link import Link, LostError
from .outcome import KilledError, holder_of, outcome_of
from .reply import BuildReply, read_reply
from .request import KEY, BuildRequest
from .sending import send
from .uploading import Uploading

_LOOK_S = 1.0
_ATTEMPTS = 50
"""How often one build is asked for at most, whatever comes in between."""


class Made(msgspec.Struct, frozen=True):
    """An engine that a worker has.

    Attributes:
        stored: Its documents, checked; its bytes are to be fetched.
        address: The worker.
        host: What the worker calls itself: its host's name, where nobody gave it another.
        built: Whether it was built because it was asked for.
    """

    stored: Stored
    address: str
    host: str
    built: bool


class Listener(Protocol):
    """Whoever waits for a build; a queue is one."""

    def put(self, item: BuildProgress | str, /) -> None:
        """Take what happens: progress, or a line for a person."""


class _NextError(Exception):
    """This one is asked no more for this build; another is."""

    def __init__(self, address: str, reason: str = "") -> None:
        super().__init__(reason)
        self.address, self.reason = address, reason


class Asked:
    """A build that was asked for. What is not said to be for any thread is for the link's.

    Attributes:
        request: What was asked for.
        made: What came of it.
    """

    def __init__(
        self,
        link: Link,
        request: BuildRequest,
        files: Mapping[str, Path],
        tag: str,
        priority: float,
        before: Asked | None = None,
        store: StoreSpec | None = None,
    ) -> None:
        """Say what is asked for.

        Args:
            link: The connection.
            request: The build.
            files: SHA-256 to file, for every input.
            tag: What a worker must have.
            priority: Who goes first where there are fewer workers than builds.
            before: The same build as it was asked for in vain before.
            store: The corpus's stores, for inputs that go over the remote one.
        """
        self.request, self.made = request, Promise[Made]()
        self._link, self._files, self._tag, self._priority = link, files, tag, priority
        self._text = request.encode()
        self._excluded: dict[str, str] = {}
        self._deaths: list[str] = []
        self._given_up = 0
        self._begun = False
        self._listeners: list[Listener] = []
        self._said: list[str] = [] if before is None else list(before._said)
        self._sending: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._stop: asyncio.Future[None] | None = None
        self._uploading = Uploading(
            link, request, files, tag, store, say=self._say, send=self._send, end=self._end
        )

    def listen(self, listener: Listener) -> None:
        """Have it told what happens, and what was said before. For any thread."""
        self._listeners.append(listener)
        for text in self._said:
            listener.put(text)

    def is_out_of_date(self) -> bool:
        """Whether the farm could not do it, and may now. For any thread."""
        return self.made.done() and isinstance(self.made.exception(), FarmError)

    def died(self, address: str, *, alone: bool) -> None:
        """A worker died that had this build, alone or among others."""
        if not (self._begun or alone):
            return  # it waited there for another one, whose fault it may be
        self._begun = False
        self._deaths.append(address)
        if len(self._deaths) > self._link.spec.retries:
            self._end(self._death())
        else:
            self._say(f"the worker {address} died in the midst of it; it is built again elsewhere")

    async def run(self) -> None:
        """Have it built; `made` gets what comes of it."""
        try:
            self.made.set_result(await self._made())
        except BaseException as error:
            self.made.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._uploading.stop()
            for task in self._sending.values():
                task.cancel()

    async def _made(self) -> Made:
        for _ in range(_ATTEMPTS):
            try:
                client = await self._link.client()
                await self._wait_for_worker()
                return await self._attempt(client)
            except LostError as error:
                if self._link.closed:
                    # This process ends, and that its builds are lost is no news.
                    raise FarmError(f"{self.request.model_name}: the run ended") from error
                self._say(f"{error}; it is asked for again")
            except _NextError as error:
                if error.reason:
                    self._excluded[error.address] = error.reason
                    self._say(error.reason)
            except KilledError:
                # It may have waited where others died of something else.
                self._given_up += 1
                if len(self._deaths) > self._link.spec.retries or self._given_up > 1:
                    raise self._death() from None
            # Until the scheduler has forgotten it: while another submitter holds the outcome, the
            # same key gets the same again, and two who ask again must not do so in step.
            await asyncio.sleep(_LOOK_S * random.uniform(0.2, 1.0))  # noqa: S311
        raise FarmError(f"{self.request.model_name}: the farm lost it {_ATTEMPTS} times")

    async def _attempt(self, client: Any) -> Made:
        from .build import build  # with all that builds

        key = KEY + self.request.fingerprint
        self._stop = asyncio.get_running_loop().create_future()
        self._begun = False
        client.subscribe_topic(key, self._hear)
        client.subscribe_topic("all", self._link.hear)
        usable, left_out = self._sorted(await self._link.workers(self._tag))
        future = client.submit(
            build,
            self._text,
            key=key,  # of whoever asks: they ask for one build
            resources={self._tag: 1},
            workers=sorted(usable) if left_out else None,
            priority=self._priority,
            retries=0,
            pure=False,
        )
        outcome = asyncio.ensure_future(outcome_of(future))
        try:
            await self._watch(outcome)
            text = outcome.result()
            return await self._judged(await holder_of(client, key), text)
        finally:
            outcome.cancel()
            future.release()
            if client.status == "running":
                client.unsubscribe_topic(key)

    async def _watch(self, outcome: asyncio.Future[str]) -> None:
        """Wait until there is an outcome, or nobody left who could bring one."""
        assert self._stop is not None  # noqa: S101 - made with the attempt
        while not outcome.done():
            await asyncio.wait(
                (outcome, self._stop), timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
            )
            if self._stop.done():
                self._stop.result()
            if not outcome.done():
                # One that takes no new build may be at this one.
                await self._is_hopeful(await self._link.workers(self._tag, leaving=True))

    async def _judged(self, address: str, text: str) -> Made:
        """What a reply comes to."""
        if address in self._link.bad:
            raise _NextError(address)  # which was told
        names = await self._link.workers(self._tag, leaving=True)
        name = names.get(address, "a worker")
        who = f"{name} ({address})"
        try:
            reply = read_reply(text)
            stored = None
            if reply.failed is None and reply.refused is None:
                stored = await self._unpacked(address, reply)
        except (StoreError, FarmError) as error:
            self._link.bad[address] = f"{who} sent what was not asked for: {error}"
            raise _NextError(
                address,
                f"{who} sent what was not asked for, and is not used again in this run: {error}",
            ) from error
        if reply.failed is not None:
            raise _on(name, reply.failed.error())
        if stored is None:
            raise _NextError(address, f"{who} refuses it: {reply.refused}")
        return Made(stored, address, name, reply.built)

    async def _unpacked(self, address: str, reply: BuildReply) -> Stored:
        """The documents of an engine, fetched and checked."""

        def read(blob: Descriptor) -> bytes:
            return self._link.call(small_blob(self._link, address, blob))

        return await asyncio.to_thread(
            unpack, self.request.fingerprint, reply.manifest.encode(), read
        )

    async def _wait_for_worker(self) -> None:
        """Return when somebody can build it; see `_is_hopeful`."""
        while not await self._is_hopeful(await self._link.workers(self._tag)):
            await asyncio.sleep(min(_LOOK_S, self._link.spec.wait_for_worker))

    async def _is_hopeful(self, there: Mapping[str, str]) -> bool:
        """Whether one of these workers may build it.

        Raises:
            FarmError: None could for too long, or none that is left.
        """
        usable, left_out = self._sorted(there)
        if usable:
            self._link.lacking.pop(self._tag, None)
            return True
        name = self.request.model_name
        if left_out:
            raise FarmError(f"{name}: no other worker can build it; {'; '.join(left_out.values())}")
        patience = self._link.spec.wait_for_worker
        since = self._link.lacking.setdefault(self._tag, time.monotonic())
        lack = self._lack(await self._link.tags())
        if time.monotonic() - since >= patience:
            raise FarmError(f"{name}: {lack}, and none came within {patience:g} s")
        self._say(f"{lack}; waiting for one, {patience:g} s at the most")
        return False

    def _sorted(self, there: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Of these workers, those that can be asked, and those that are left out, and why."""
        out = {**self._excluded, **self._link.bad}
        return (
            {address: name for address, name in there.items() if address not in out},
            {address: out[address] for address in there if address in out},
        )

    def _lack(self, tags: Mapping[str, int]) -> str:
        there = ", ".join(f"{count} of {tag}" for tag, count in sorted(tags.items()))
        return (
            f"no worker is connected that builds {self.request.runtime} engines for "
            f"{self.request.target} "
            f"({self._tag}); connected are {there or 'none at all'}"
        )

    def _hear(self, event: tuple[float, Any]) -> None:
        """Take what a worker says of this build."""
        said = event[1]
        if not isinstance(said, dict):
            return
        self._begun = True
        if isinstance(need := said.get("need"), (list, tuple)):
            address, digests = str(said.get("at")), list(map(str, need))
            if not self._uploading.takes(address, said.get("remote"), digests):
                for digest in digests:
                    self._send(address, digest)
        elif "say" in said:
            self._say(str(said["say"]))
        elif "phase" in said:
            try:
                progress = msgspec.convert(said, BuildProgress)
            except msgspec.ValidationError:
                return  # a worker of another version; the build does not rest on it
            for listener in self._listeners:
                listener.put(progress)

    def _send(self, address: str, sha256: str) -> None:
        """Begin to send an input to who builds, unless that is under way."""
        path = self._files.get(sha256)
        under_way = self._sending.get((address, sha256))
        if path is None or (under_way is not None and not under_way.done()):
            return
        work = self._sent(address, sha256, path)
        self._sending[address, sha256] = asyncio.ensure_future(work)

    async def _sent(self, address: str, sha256: str, path: Path) -> None:
        try:
            # Inputs go to workers of this farm only, whatever an event says. One that has just
            # come may not be known yet.
            if address not in await self._link.workers(self._tag, leaving=True):
                await asyncio.sleep(_LOOK_S)
            if address in await self._link.workers(self._tag, leaving=True):
                size = next(one.size for one in self.request.inputs if one.sha256 == sha256)
                await send(self._link, address, sha256, size, path)
        except (FarmError, LostError):
            return  # a worker that still needs it asks again
        except EngineryError as error:
            self._end(error)

    def _end(self, error: EngineryError) -> None:
        if self._stop is not None and not self._stop.done():
            self._stop.set_exception(error)

    def _death(self) -> EngineryError:
        return EngineBuildError(
            f"{self.request.model_name}: every worker that built it died, {len(self._deaths)} in "
            f"all ({', '.join(self._deaths)}); it was not tried again. Is their memory enough?"
        )

    def _say(self, text: str) -> None:
        line = f"{self.request.model_name}: {text}"
        if line in self._said:
            return
        self._said.append(line)
        for listener in self._listeners:
            listener.put(line)


def _on(host: str, error: EngineryError) -> EngineryError:
    """An error of a worker, with the worker named."""
    if isinstance(error, BackboneSpecError):
        return error
    return type(error)(f"{error} (on {host})")
