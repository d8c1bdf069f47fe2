"""Names of backbones, made of the names of files."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from pathlib import PurePosixPath

from ..filename import fold

COMMANDS = frozenset({
    *("clean", "dumpdb", "forget", "help", "ignore", "info", "list", "reset-dep", "run", "strace"),
    *("tabcompletion", "corpus", "graph", "host", "plan", "prune", "pull", "push", "release"),
    *("report", "sign", "why", "lower", "calibrate", "check"),
})  # fmt: skip
"""Words that mean something else to doit in a dodo.py of ours; no backbone may have them."""

# Hardware, versions and precision need the rest of `filename.MAX_LENGTH`.
_LONGEST = 96


def backbone_names(paths: list[str]) -> list[str]:
    """A name for each of several models: valid, told apart, and the same whenever it is made.

    Models of the same name in several folders are told apart by these.
    """
    plain = [_name(PurePosixPath(path).stem) for path in paths]
    times = Counter(name.lower() for name in plain)
    wanted = [
        _name(f"{PurePosixPath(path).parent.name}-{name}") if times[name.lower()] > 1 else name
        for path, name in zip(paths, plain, strict=True)
    ]
    taken: set[str] = set()
    return [_distinct(name, taken) for name in wanted]


def _name(text: str) -> str:
    """Letters, digits, "-" and "_": what needs no quotes in TOML either."""
    ascii_ = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_]+", "-", ascii_).strip("-").lstrip("_") or "model"
    name = _short(name, _LONGEST)
    return f"{name}-model" if name in COMMANDS else name


def _short(name: str, longest: int) -> str:
    while len(fold(name)) > longest:
        name = name[:-1]
    return name


def _distinct(name: str, taken: set[str]) -> str:
    """A name that is none of those taken, in any case; it is taken then."""
    found, number = name, 1
    while found.lower() in taken:
        number += 1
        found = f"{_short(name, _LONGEST)}-{number}"
    taken.add(found.lower())
    return found
