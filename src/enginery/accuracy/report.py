"""The report of a check, in a process of its own: compares, decides, writes it down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..digest import sha256_file, write_hashed
from .compare import compare

FORMAT = 1


def check(request: dict[str, Any]) -> dict[str, Any]:
    """Compare the request's models and write a report to its output; digest and versions."""
    bounds = {name: float(bound) for name, bound in request["tolerances"].items()}
    found = compare({**request, "tolerances": bounds})
    report = {
        "format": FORMAT,
        "original_sha256": sha256_file(Path(request["original"]), follow_symlinks=True),
        "lowered_sha256": sha256_file(Path(request["lowered"]), follow_symlinks=True),
        **found,
    }
    data = json.dumps(report, indent=2).encode() + b"\n"
    return {"sha256": write_hashed(Path(request["output"]), data), "versions": found["versions"]}
