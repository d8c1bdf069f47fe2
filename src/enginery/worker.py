"""Work in a fresh process of its own.

A failed TensorRT build leaks into the next one of the same process, its logger is global, it
swallows Ctrl-C inside callbacks, and a model takes several times its size in memory. So every
build and every lowering runs in a process that does one thing and ends. It ends with its parent
too, however the parent ends.

The child gets its request as a line of JSON on its standard input and gives its reply as JSON on
what was its standard output; anything that a library prints goes to standard error, which the
parent keeps for the case of a crash.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO

from . import errors
from .errors import BackboneSpecError, EngineBuildError, EngineryError

# Not `-m`: that puts the current folder first on the path, where a user's onnx.py may lie.
_START = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; import enginery.worker as w; w.main()"
)

_PR_SET_PDEATHSIG = 1

# No library begins a line of its log with this.
_REPORT = b"\x1eenginery: "
_LAST_LINES = 100


def run(entry: str, request: Mapping[str, Any], *, environment: Mapping[str, str]) -> Any:
    """Call a function in a fresh process and return what it returns; see `started`."""
    with started(entry, environment=environment) as call:
        return call(request)


@contextmanager
def started(
    entry: str,
    *,
    environment: Mapping[str, str],
    label: str = "",
    preload: str = "",
    show: Callable[[str], None] | None = None,
) -> Iterator[Callable[[Mapping[str, Any]], Any]]:
    """Start a fresh process that loads its libraries, and yield how to call it, once.

    Whatever happens between the start and the call, happens while the libraries load.

    Args:
        entry: The function, as "module:name"; it takes the request and returns JSON's types.
        environment: Variables set for the child on top of this process's own.
        label: What it works on, for a person who looks at the list of processes.
        preload: A module that the function is going to import.
        show: Called, in a thread, with what the function says through `report`. An error of it
            goes to `threading.excepthook` when the child has ended, and ends the calls.

    The call takes the request in JSON's types and returns what the function returns.

    Raises:
        EngineryError: What the child raised, of the same class.
        EngineBuildError: The child died or failed in a way that it did not foresee; the message
            carries its last words.
    """
    command = [sys.executable, "-c", _START, entry, str(os.getpid()), preload, label]
    # The child reads its request from this pipe and then waits for the end of it, which comes
    # when this process is gone.
    lifeline, held = os.pipe()
    try:
        with subprocess.Popen(
            command,
            stdin=lifeline,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_clean_environment(), **environment},
        ) as child:
            try:
                yield partial(_call, child, held, show)
            finally:
                child.kill()
    finally:
        os.close(lifeline)
        os.close(held)


def _call(
    child: subprocess.Popen[bytes],
    held: int,
    show: Callable[[str], None] | None,
    request: Mapping[str, Any],
) -> Any:
    with suppress(BrokenPipeError), open(held, "wb", closefd=False) as stream:
        stream.write(json.dumps(request).encode() + b"\n")
    words: list[bytes] = []
    listener = threading.Thread(target=_listen, args=(child.stderr, words, show), daemon=True)
    listener.start()
    assert child.stdout is not None  # noqa: S101 - it is a pipe
    reply = child.stdout.read()
    listener.join()
    if child.wait() != 0 or not reply:
        raise EngineBuildError(_last_words(child.returncode, b"".join(words)))
    return _unwrap(json.loads(reply))


def _listen(stream: BinaryIO, words: list[bytes], show: Callable[[str], None] | None) -> None:
    """Read the child's standard error to its end, whatever `show` raises."""
    try:
        _sort(stream, words, show)
    except BaseException:
        # Nobody else reads the pipe, and a child that finds it full waits for ever.
        _sort(stream, words, None)
        raise


def _sort(stream: BinaryIO, words: list[bytes], show: Callable[[str], None] | None) -> None:
    """What the child reports goes on, the last of the rest is kept."""
    for line in stream:
        if line.startswith(_REPORT):
            if show:
                show(line.removeprefix(_REPORT).decode("utf-8", "replace").rstrip())
        else:
            words.append(line)
            del words[:-_LAST_LINES]


def report(text: str) -> None:
    """In the child: say how far the work is, in one line that the parent may show."""
    sys.stderr.write(f"{_REPORT.decode()}{text}\n")
    sys.stderr.flush()


def main() -> None:
    """Run as the child: arguments are the entry, the parent's process number and a module."""
    entry, parent, preload = sys.argv[1:4]
    replies = os.dup(1)
    os.dup2(2, 1)
    # The builder swallows KeyboardInterrupt, so Ctrl-C must not become one here.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent(int(parent))
    module, _, name = entry.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        if preload:
            importlib.import_module(preload)
    except ModuleNotFoundError as error:
        sys.exit(f"{error}; install what is missing with: pip install 'enginery[build]'")
    with open(0, "rb", closefd=False) as stream:
        line = stream.readline()
    if not line:
        os._exit(1)
    threading.Thread(target=_end_with_lifeline, daemon=True).start()
    try:
        reply = {"value": function(json.loads(line))}
    except EngineryError as error:
        # A runtime of another package may raise a kind of its own.
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        reply = {"error": kind.__name__, "message": str(error)}
        if isinstance(error, BackboneSpecError):
            reply["field"] = error.field
    with os.fdopen(replies, "w", encoding="utf-8") as answer:
        json.dump(reply, answer)
    # What the libraries would still tear down, the kernel does faster.
    sys.stderr.flush()
    os._exit(0)


def end_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this process when the one that started it is gone (Linux only).

    Args:
        parent: The parent's process number, to notice that it went before the asking.
    """
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def _end_with_lifeline() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _clean_environment() -> dict[str, str]:
    # Polygraphy takes settings from its environment, installing packages among them.
    return {name: value for name, value in os.environ.items() if not name.startswith("POLYGRAPHY_")}


def _unwrap(reply: dict[str, Any]) -> Any:
    if "error" not in reply:
        return reply["value"]
    if "field" in reply:
        raise BackboneSpecError(reply["message"], field=reply["field"])
    raise getattr(errors, reply["error"])(reply["message"])


def _last_words(returncode: int, words: bytes) -> str:
    lines = words.decode("utf-8", "replace").strip().splitlines()
    last = f": {lines[-1]}" if lines else ""
    if returncode < 0:
        known = -returncode in {number.value for number in signal.Signals}
        name = signal.Signals(-returncode).name if known else f"signal {-returncode}"
        return f"the build process was killed by {name}{last}"
    if returncode == 0:
        return f"the build process ended without an answer{last}"
    return f"the build process failed with exit code {returncode}{last}"
