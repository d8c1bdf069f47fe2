"""What no schedule is done before: the longest job, and work by capacity.

Jobs that only some kinds of workers can do must share those workers, so the work of any such jobs
by the workers that can do some of them is a bound, and the largest over all choices of jobs is the
best of its kind: the end of a schedule whose jobs could be cut into pieces (the linear relaxation
of scheduling with assignment restrictions). It is found by a few minimum cuts, after Dinkelbach's
method for a ratio (W. Dinkelbach, "On Nonlinear Fractional Programming", Management Science 13
(1967), 492-498).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

_Set = frozenset[str]

_SMALL = 1e-9
"""Shares of the whole work that are rounding and no work."""


class Bound(msgspec.Struct, frozen=True):
    """What no schedule is done before, in seconds.

    Attributes:
        longest: The longest job, where it is done fastest.
        work: The most work by capacity, each job counted where it is done fastest.
    """

    longest: float
    work: float

    @property
    def seconds(self) -> float:
        """The larger of both."""
        return max(self.longest, self.work)


def most_by_capacity(work: Mapping[_Set, float], slots: Mapping[str, int]) -> float:
    """The largest work by capacity over all choices of jobs.

    Args:
        work: Kinds of workers to the seconds of the jobs that these kinds and no others can do.
        slots: Kind of worker to its slots.
    """
    most = max((_ratio([able], work, slots) for able in work), default=0.0)
    while True:
        chosen = _gaining(most, work, slots)
        ratio = _ratio(chosen, work, slots) if chosen else 0.0
        if ratio <= most * (1 + _SMALL):
            return most
        most = ratio


def _ratio(chosen: list[_Set], work: Mapping[_Set, float], slots: Mapping[str, int]) -> float:
    kinds: _Set = frozenset().union(*chosen)
    return sum(work[able] for able in chosen) / sum(slots[kind] for kind in kinds)


def _gaining(seconds: float, work: Mapping[_Set, float], slots: Mapping[str, int]) -> list[_Set]:
    """Those jobs that have most more work than their workers do in so many seconds.

    The source's side of a minimum cut in the network of source, jobs, kinds and sink.
    """
    source, sink = "source", "sink"
    room: dict[object, dict[object, float]] = {source: {}, sink: {}}
    for able, amount in work.items():
        room[source][able] = amount
        room[able] = {("kind", kind): float("inf") for kind in able}
        room[able][source] = 0.0
        for kind in able:
            edges = room.setdefault(("kind", kind), {sink: seconds * slots[kind]})
            edges[able] = 0.0
            room[sink][("kind", kind)] = 0.0
    small = _SMALL * sum(work.values())
    while (reached := _reached(room, source, small)) and sink in reached:
        _fill(room, reached, sink)
    return [able for able in work if able in reached]


def _reached(
    room: Mapping[object, Mapping[object, float]], source: object, small: float
) -> dict[object, object]:
    """Nodes that the source still reaches, each with the one before it on a shortest way."""
    before: dict[object, object] = {source: source}
    waiting = deque([source])
    while waiting:
        node = waiting.popleft()
        for other, left in room[node].items():
            if left > small and other not in before:
                before[other] = node
                waiting.append(other)
    return before


def _fill(
    room: Mapping[object, dict[object, float]], before: Mapping[object, object], sink: object
) -> None:
    """Send as much as there is room for along the way to the sink."""
    way, node = [], sink
    while before[node] is not node:
        way.append((before[node], node))
        node = before[node]
    amount = min(room[one][other] for one, other in way)
    for one, other in way:
        room[one][other] -= amount
        room[other][one] += amount
