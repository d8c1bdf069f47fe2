"""Run calls over stand-ins in this process, and say what each did to the vendor's objects.

Standard input has a list of scenarios in JSON, standard output gets a list of outcomes. A scenario
has an `entry`, as "module:function", its `request` and the `settings` of `behaviour`. An outcome
has the function's `value` or the `error`, and the `calls`: class, name and arguments.

    python tests/contract/bindings.py 10.3 --stand-ins tests/contract/scenarios.py < scenarios.json
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any

import behaviour


def run(scenario: dict[str, Any]) -> dict[str, Any]:
    """See the module."""
    module, _, name = scenario["entry"].partition(":")
    function = getattr(importlib.import_module(module), name)
    (vendor,) = behaviour.VENDORS
    vendor.calls.clear()
    vendor.settings.clear()
    vendor.settings.update(scenario.get("settings", {}))
    outcome: dict[str, Any] = {}
    try:
        outcome["value"] = function(scenario["request"])
    except Exception as error:
        outcome["error"] = f"{type(error).__name__}: {error}"
        outcome["traceback"] = traceback.format_exc()
    outcome["calls"] = [behaviour.shown(call) for call in vendor.calls]
    return outcome


def main() -> None:
    """Keep standard output for the outcomes: Polygraphy prints to it."""
    replies = os.dup(1)
    os.dup2(2, 1)
    importlib.import_module("tensorrt")
    outcomes = [run(scenario) for scenario in json.load(sys.stdin)]
    with os.fdopen(replies, "w") as stream:
        json.dump(outcomes, stream)


if __name__ == "__main__":
    main()
