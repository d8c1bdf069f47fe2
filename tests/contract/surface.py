"""Print, as JSON, what a vendor's module shows: python surface.py tensorrt

`names` has a list for every name: functions and classes, "Class.member" and "Class.Member.name" of
nested classes. `values` has the number of every member of an enum. `settable` has the properties
that can be set.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any


def surface(module: Any) -> dict[str, Any]:
    """See the module."""
    names: list[str] = []
    values: dict[str, int] = {}
    settable: list[str] = []
    for name, found in _public(module):
        names.append(name)
        if isinstance(found, property) and found.fset:
            settable.append(name)
        elif hasattr(type(found), "__members__"):
            values[name] = int(found)
    return {
        "version": module.__version__,
        "names": sorted(names),
        "values": values,
        "settable": sorted(settable),
    }


def _public(holder: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, found in vars(holder).items():
        if name.startswith("_"):
            continue
        yield prefix + name, found
        if isinstance(found, type) and found is not holder:
            yield from _inherited(found, f"{prefix}{name}.")


def _inherited(kind: type, prefix: str) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for base in kind.__mro__[:-1]:
        for name, found in _public(base, ""):
            if name not in seen:
                seen.add(name)
                yield prefix + name, found


if __name__ == "__main__":
    json.dump(surface(importlib.import_module(sys.argv[1])), sys.stdout)
