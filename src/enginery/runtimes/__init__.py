"""Runtimes: what builds engines, found by name.

A runtime is a class with the methods of `protocol.Runtime`. It is found through the entry-point
group `enginery.runtimes`, so that another package can bring one:

    [project.entry-points."enginery.runtimes"]
    my_runtime = "my_package:MyRuntime"
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from ..errors import RuntimeUnavailableError
from .protocol import Runtime

GROUP = "enginery.runtimes"


@cache
def load_runtime(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        RuntimeUnavailableError: No package brings a runtime of this name, or it cannot be loaded.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none; install enginery itself again"
        raise RuntimeUnavailableError(f"there is no runtime {name!r}; known: {known}")
    try:
        runtime: Runtime = found[name].load()()
    except (ImportError, AttributeError) as error:
        raise RuntimeUnavailableError(
            f"the runtime {name!r} cannot be loaded from {found[name].value}: {error}"
        ) from error
    return runtime
