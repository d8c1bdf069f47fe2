"""Entries for test_worker.py: what a child process may do, well or badly."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from enginery import errors

WORDS = "the GPU of this machine is on fire"


class ForeignError(errors.EngineBuildError):
    """An error of a runtime that another package brings."""


def give_back(request: dict[str, Any]) -> Any:
    return request["value"]


def process(request: dict[str, Any]) -> int:
    return os.getpid()


def fail(request: dict[str, Any]) -> None:
    raise getattr(errors, request["error"])(request["message"])


def fail_with_field(request: dict[str, Any]) -> None:
    raise errors.BackboneSpecError(request["message"], field=request["field"])


def fail_in_a_foreign_way(request: dict[str, Any]) -> None:
    raise ForeignError(WORDS)


def fail_unforeseen(request: dict[str, Any]) -> None:
    raise ZeroDivisionError(WORDS)


def give_back_what_is_no_json(request: dict[str, Any]) -> Any:
    return {WORDS}


def leave(request: dict[str, Any]) -> None:
    """What a library does that calls exit()."""
    sys.stderr.write(WORDS + "\n")
    sys.stderr.flush()
    os._exit(request["code"])


def leave_politely(request: dict[str, Any]) -> None:
    sys.exit(0)


def crash(request: dict[str, Any]) -> None:
    sys.stderr.write(WORDS + "\n")
    sys.stderr.flush()
    os.kill(os.getpid(), request["signal"])
    time.sleep(60)


def chatter(request: dict[str, Any]) -> str:
    """Prints in every way there is, and a lot of it."""
    print("a banner")  # noqa: T201 - that is the point
    os.write(1, b'{"value": "forged"}\n')
    os.write(1, b"x" * 1_000_000)
    os.system("echo from a child of the child")  # noqa: S605
    return "the reply"


def environment(request: dict[str, Any]) -> dict[str, str]:
    return dict(os.environ)


def imported_file(request: dict[str, Any]) -> str | None:
    return __import__(request["module"]).__file__


def interrupt_handling(request: dict[str, Any]) -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def linger(request: dict[str, Any]) -> None:
    """Says who it is, then works for longer than any test."""
    path = Path(request["path"])
    path.with_suffix(".part").write_text(str(os.getpid()))
    path.with_suffix(".part").rename(path)
    time.sleep(600)
