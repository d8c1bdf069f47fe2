"""The report of a check, in a process of its own: compares, decides, writes it down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..digest import sha256_file, write_hashed
from .compare import compare

FORMAT = 1


def check(request: dict[str, Any]) -> dict[str, Any]:
    """Compare the request's models and write a report to its output; digest and versions."""
    return _written(request, "lowered", compare)


def check_engine(request: dict[str, Any]) -> dict[str, Any]:
    """Compare the request's engine with its model, likewise."""
    from .engine import compare_engine  # Polygraphy reads its settings when it is imported

    return _written(request, "engine", compare_engine)


def _written(
    request: dict[str, Any], what: str, compared: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    bounds = {name: float(bound) for name, bound in request["tolerances"].items()}
    found = compared({**request, "tolerances": bounds})
    report = {
        "format": FORMAT,
        "original_sha256": sha256_file(Path(request["original"]), follow_symlinks=True),
        f"{what}_sha256": sha256_file(Path(request[what])),
        **found,
    }
    data = json.dumps(report, indent=2).encode() + b"\n"
    return {"sha256": write_hashed(Path(request["output"]), data), "versions": found["versions"]}
