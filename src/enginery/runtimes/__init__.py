"""Runtimes: what builds engines, found by name.

A runtime is a class with the methods of `protocol.Runtime`. It is found through the entry-point
group `enginery.runtimes`, so that another package can bring one:

    [project.entry-points."enginery.runtimes"]
    my_runtime = "my_package:MyRuntime"
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points

from ..errors import RuntimeUnavailableError
from .protocol import Runtime

GROUP = "enginery.runtimes"


@cache
def load_runtime(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        RuntimeUnavailableError: No package brings a runtime of this name, or it cannot be loaded.
    """
    # Our own first: looking through every distribution takes milliseconds on every run.
    for points in (_own_points, _all_points):
        found = {point.name: point for point in points()}
        if name in found:
            return _load(found[name])
    from ..corpus_tables import nearest  # only where something is wrong

    names = ", ".join(sorted(found)) or "none; install enginery itself again"
    guess = nearest(name, found)
    hint = f"{guess}; " if guess else ""
    raise RuntimeUnavailableError(f"there is no runtime {name!r}; {hint}known: {names}")


def known() -> list[str]:
    """The names of all runtimes that installed packages bring, our own first."""
    return list(
        dict.fromkeys(point.name for points in (_own_points, _all_points) for point in points())
    )


def _own_points() -> Iterable[EntryPoint]:
    try:
        return distribution("enginery").entry_points.select(group=GROUP)
    except PackageNotFoundError:
        return ()


def _all_points() -> Iterable[EntryPoint]:
    return entry_points(group=GROUP)


def _load(point: EntryPoint) -> Runtime:
    try:
        runtime = point.load()()
    except Exception as error:
        raise RuntimeUnavailableError(
            f"the runtime {point.name!r} cannot be loaded from {point.value}: {error}"
        ) from error
    if not isinstance(runtime, Runtime):
        raise RuntimeUnavailableError(
            f"the runtime {point.name!r}, {point.value}, is no enginery.Runtime; make it one"
        )
    return runtime
