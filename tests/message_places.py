"""Where messages stand in the source of enginery, besides the errors that it makes.

Whoever tells people something in a new way adds it here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeGuard

from message_syntax import FunctionNode, last_name

SINKS: dict[str, int | None] = {  # a function -> where the message is among its arguments
    "ArgumentTypeError": 0,
    "CmdParseError": 0,
    "Finding": 2,
    "InvalidCommand": 0,
    "InvalidDodoFile": 0,
    "Target": 3,
    "TaskError": 0,
    "TaskFailed": 0,
    "Verdict": 1,
    "_NextError": 1,  # a worker's address is the first
    "_link.tell": None,  # progress, and words of the build that are warnings already
    "_log": 2,
    "_warn": 0,
    "_warn_once": 1,
    "missed.append": 0,
    "overlook": 0,
    "remarks.append": 0,
    "remarks.extend": 0,
    "stderr.write": 0,
    "sys.exit": 0,
    "tell": 0,
    "warn": 0,
    "wire.tell": None,  # an event
}
FIELDS = {"elsewhere", "fault", "reason", "remarks", "remedy", "shapes"}
RESULTS = {  # functions whose results are told by somebody who does not call them by their names
    "lowering/data.py": {"fault_of_data"},
    "probing/visible.py": {"select", "_order_remarks"},
    "recipe.py": {"__str__"},
    "runtimes/tensorrt_options.py": {"_compatibility", "_tactics", "_dla", "_pools"},
}


def is_told(function: FunctionNode, module: str) -> bool:
    """Whether a function is one of `RESULTS`."""
    return function.name in RESULTS.get(module, ())


def in_fields(node: ast.AST) -> Iterator[ast.expr]:
    """What is put into one of `FIELDS`, of an object or a dictionary."""
    match node:
        case ast.keyword(arg=name, value=value) if name in FIELDS:
            yield value
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and key.value in FIELDS:
                    yield value


def makes_an_error(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether this may be an error's class that gives its root the message."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__"),
            args=[_, *_],
        ):
            return True
    return False


def sink(call: ast.Call) -> int | None:
    """The place of the message among the arguments of a call; None where there is none."""
    name = last_name(call.func)
    if isinstance(call.func, ast.Attribute):
        return SINKS.get(f"{last_name(call.func.value)}.{name}", SINKS.get(name))
    return SINKS.get(name)
