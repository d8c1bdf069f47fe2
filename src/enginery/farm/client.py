"""The farm to who needs an engine: a store that makes what it does not have.

`build` has an engine built and returns its documents, `fetch` writes its bytes, and both check as
a store's are checked. A worker that sends something else is named and left out from then on.
"""

from __future__ import annotations

import hashlib
import queue
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from ..build import BuildProgress
from ..digest import short
from ..errors import FarmError
from ..farm_spec import FarmSpec
from ..plan import EnginePlan
from ..recipe import Recipe
from ..runtimes import load_runtime
from ..store.manifest import Stored
from ..store_spec import StoreSpec
from .asked import Asked, Made
from .fetching import pieces_of
from .link import LostError, link_of
from .request import request_for
from .tags import resource_of

_TIMES_LOST = 3


class Farm:
    """The builds of this process on a farm."""

    def __init__(
        self, spec: FarmSpec, warn: Callable[[str], None], store: StoreSpec | None = None
    ) -> None:
        """Say which farm; nothing is connected yet.

        Args:
            spec: The farm.
            warn: Called with lines for a person, in the thread that waits.
            store: The corpus's stores: a worker that has the same remote one gets inputs there.
        """
        self.spec, self._store = spec, store
        self._warn = warn
        self._link = link_of(spec)
        self._made: dict[str, Made] = {}
        self._lost: Counter[str] = Counter()

    def ask(
        self, plan: EnginePlan, recipe: Recipe, files: Mapping[str, Path], runtime: str
    ) -> Asked:
        """Have an engine built without waiting for it; one that was asked for is not asked twice.

        Args:
            plan: The engine.
            recipe: What it is made from now.
            files: Role to file, for every input of the recipe.
            runtime: Name of its runtime.

        Raises:
            FarmError: It cannot be built on the farm.
            OSError: An input is gone.
        """
        known = self._link.asked.get(recipe.fingerprint)
        if known is not None and not known.is_out_of_date():
            return known
        request = request_for(plan, recipe, files, runtime)
        asked = Asked(
            self._link,
            request,
            {digest: files[role] for role, digest in recipe.inputs.items()},
            resource_of(load_runtime(runtime), plan.request.host),
            # What takes longest goes first, as far as size tells.
            priority=float(request.size),
            before=known,
            store=self._store,
        )
        with self._link.asking:
            now = self._link.asked.get(recipe.fingerprint)
            if now is not known and now is not None:
                return now  # another thread was first
            self._link.asked[recipe.fingerprint] = asked
        self._link.start(asked.run())
        return asked

    def build(
        self,
        plan: EnginePlan,
        recipe: Recipe,
        files: Mapping[str, Path],
        runtime: str,
        progress: Callable[[BuildProgress], None] | None = None,
    ) -> Stored:
        """Have an engine built, and wait; its documents, checked.

        Args:
            plan: The engine.
            recipe: What it is made from now.
            files: Role to file, for every input of the recipe.
            runtime: Name of its runtime.
            progress: Called in this thread with what the worker reports.

        Raises:
            FarmError: The farm is down, or nobody there can build it.
            EngineBuildError: The build failed, its workers died of it, or an input changed.
            CalibrationCacheError: The calibration cache cannot be used.
            OSError: An input is gone.
        """
        asked = self.ask(plan, recipe, files, runtime)
        heard: queue.SimpleQueue[BuildProgress | str | None] = queue.SimpleQueue()
        asked.listen(heard)
        asked.made.add_done_callback(lambda _: heard.put(None))
        while (item := heard.get()) is not None:
            if isinstance(item, str):
                self._warn(item)
            elif progress is not None:
                progress(item)
        try:
            made = asked.made.result()
        finally:
            # Whoever asks again has a reason: the bytes were wrong, or were lost.
            self._link.asked.pop(recipe.fingerprint, None)
        self._made[recipe.fingerprint] = made
        return made.stored

    def fetch(self, stored: Stored, output: Path) -> str:
        """Write an engine to a new file and return its SHA-256, verified on the way.

        Raises:
            FarmError: What the worker sends is not the engine, or it went away meanwhile.
            OSError: The file cannot be written.
        """
        address, engine = self.made(stored).address, stored.engine
        hasher, offset = hashlib.sha256(), 0
        try:
            with output.open("xb", buffering=0) as stream:
                ahead = self._link.start(pieces_of(self._link, address, engine, 0))
                while offset < engine.size:
                    piece = ahead.result()
                    offset += len(piece)
                    if offset < engine.size:
                        # It comes while this one is hashed and written.
                        ahead = self._link.start(pieces_of(self._link, address, engine, offset))
                    hasher.update(piece)
                    view = memoryview(piece)
                    while view.nbytes:
                        view = view[stream.write(view) :]
        except LostError as error:
            raise FarmError(f"it could not be fetched: {error}") from error
        if hasher.hexdigest() != engine.sha256_hex:
            raise FarmError(
                f"its bytes are {short(hasher.hexdigest())}, not {short(engine.sha256_hex)}"
            )
        return engine.sha256_hex

    def made(self, stored: Stored) -> Made:
        """Who made an engine that `build` returned."""
        return self._made[stored.fingerprint]

    def refuse(self, stored: Stored, error: Exception) -> None:
        """Leave out who sent an engine that is not believed; `build` asks another.

        One that only went away is asked again when it is back, a few times.
        """
        made = self.made(stored)
        what = f"{stored.name} is not taken from {made.host} ({made.address})"
        if isinstance(error.__cause__, LostError):
            self._lost[made.address] += 1
            if self._lost[made.address] < _TIMES_LOST:
                self._warn(f"{what}: {error}; it is asked for again")
                return
        self._link.bad[made.address] = f"{made.host} ({made.address}) is not believed: {error}"
        self._warn(f"{what}, which is not used again in this run: {error}")
