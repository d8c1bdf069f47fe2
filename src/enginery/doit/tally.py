"""What a run has come to so far: the engines by outcome, and the tasks that are under way."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from ..figures import duration

OUTCOMES = ("reused", "restored", "built", "failed", "skipped")
"""What becomes of an engine, in the order in which it is told."""

_NAMED = 8


@dataclass(slots=True)
class Running:
    """A task that is under way.

    Attributes:
        name: As it is shown.
        began: When it began, by the clock `time.monotonic`.
        phase: What it is at, where nobody told more.
        engine: Whether it makes an engine.
        phases: Phases that are open, each with steps done and steps that there are.
        building_since: When an engine's build began.
        expected_s: How long that is going to take; None where nothing compares.
        outcome: What it said of its end.
    """

    name: str
    began: float
    phase: str = ""
    engine: bool = False
    phases: dict[str, tuple[int, int]] = field(default_factory=dict)
    building_since: float | None = None
    expected_s: float | None = None
    outcome: str | None = None

    def progress(self, kv: dict[str, Any]) -> None:
        """Take what the runtime told."""
        if kv["done"]:
            self.phases.pop(kv["phase"], None)
        else:
            self.phases[kv["phase"]] = (kv["step"], kv["steps"])

    @property
    def began_at(self) -> datetime:
        """When it began, by the clock on the wall."""
        return datetime.now(timezone.utc) - timedelta(seconds=time.monotonic() - self.began)

    @property
    def now(self) -> tuple[str, int, int]:
        """What it is at: the phase that began last and is open, steps done, steps in all."""
        if not self.phases:
            return self.phase, 0, 0
        phase, (step, steps) = next(reversed(self.phases.items()))
        return phase, step, steps


class Tally:
    """Counts what becomes of every engine, once.

    Attributes:
        began: When the run began, by the clock `time.monotonic`.
        running: The tasks that are under way, by name, in the order in which they began.
        others: How many tasks that make no engine have run.
        saved_s: How long the engines that were not built took once.
    """

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._engines: dict[str, str | None] = {}
        self.running: dict[str, Running] = {}
        self.others = 0
        self.saved_s = 0.0

    def expect(self, engine: str) -> None:
        """An engine is a part of this run."""
        self._engines.setdefault(engine, None)

    def engine(self, task: str, outcome: str, saved_s: float = 0.0) -> None:
        """Something became of an engine."""
        self._engines[task] = outcome
        self.saved_s += saved_s

    def outcome(self, task: str) -> str | None:
        """What became of an engine."""
        return self._engines.get(task)

    def count(self, outcome: str) -> int:
        """How many engines had this outcome."""
        return sum(one == outcome for one in self._engines.values())

    @property
    def total(self) -> int:
        """How many engines this run is about."""
        return len(self._engines)

    @property
    def hit_ratio(self) -> float | None:
        """Share of the engines that did not have to be built; None where there was none."""
        hits = self.count("reused") + self.count("restored")
        wanted = hits + self.count("built") + self.count("failed")
        return hits / wanted if wanted else None

    @property
    def waiting(self) -> list[str]:
        """Engines that were neither begun nor found fresh."""
        return [
            task
            for task, outcome in self._engines.items()
            if outcome is None and task not in self.running
        ]

    def names(self, outcome: str) -> list[str]:
        """Engines with this outcome."""
        return [task for task, one in self._engines.items() if one == outcome]

    def summary(self, wall_s: float, *, interrupted: bool) -> dict[str, Any]:
        """The figures of `c10.engine.compile.summary`."""
        ratio = self.hit_ratio
        return {
            **{f"engines_{outcome}": self.count(outcome) for outcome in OUTCOMES},
            "cache_hit_ratio": None if ratio is None else round(ratio, 4),
            "total": self.total,
            "wall_s": round(wall_s, 3),
            "saved_s": round(self.saved_s, 3),
            "interrupted": interrupted,
            "unfinished": [*self.running, *self.waiting],
        }

    def so_far(self, now: float) -> str:
        """One line on how far the run is."""
        counts = [f"{self.count(one)} {one}" for one in OUTCOMES if self.count(one)]
        if self.others:
            counts.append(f"{self.others} other {'task' if self.others == 1 else 'tasks'} done")
        counts.append(f"{len(self.running)} running")
        if self.waiting:
            counts.append(f"{len(self.waiting)} waiting")
        head = f"{_engines(self.total)}: " if self.total else ""
        return f"{head}{', '.join(counts)}; {duration(now - self.began)}"

    def lines(self, wall_s: float, *, interrupted: bool) -> list[str]:
        """The end of a run in words; nothing where it was about no engine."""
        if not self.total:
            return []
        counts = ", ".join(f"{self.count(outcome)} {outcome}" for outcome in OUTCOMES)
        ratio = self.hit_ratio
        hits = "" if ratio is None else f" (hit ratio {ratio:.2f})"
        saved = f"; {duration(self.saved_s)} of building saved" if self.saved_s else ""
        found = [f"{_engines(self.total)}: {counts}{hits} in {duration(wall_s)}{saved}"]
        rest = []
        if interrupted:
            rest.append(("finished", [*self.names("built"), *self.names("restored")]))
        rest += [("not finished", list(self.running)), ("not begun", self.waiting)]
        if any(names for what, names in rest if what != "finished"):
            found.append("; ".join(f"{what}: {_listed(names)}" for what, names in rest if names))
        return found


def _engines(count: int) -> str:
    return f"{count} engine" if count == 1 else f"{count} engines"


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
