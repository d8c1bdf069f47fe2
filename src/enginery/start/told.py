"""What a person is told of a corpus that was begun."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import TYPE_CHECKING

from .guess import guess

if TYPE_CHECKING:
    from . import Started
    from .models import Model

_RUNTIMES = {"rtx": "TensorRT-RTX", "host": "TensorRT", "cpu": "ONNX Runtime"}


def told(started: Started) -> Iterator[str]:
    """What was found, what was guessed and what comes next, line by line."""
    yield f"{', '.join(started.files)} written in {started.folder.resolve()}"
    for model in started.models:
        yield f"  {model.name}  {model.path}  {'; '.join(map(str, model.inputs))}"
        yield from _guessed(model)
    for path, reason in started.left_out.items():
        yield f"  left out: {path}: {reason}"
    for remark in started.found.remarks:
        yield f"  {remark}"
    yield _target(started)
    here = started.folder.resolve() == started.folder.cwd()
    go = "" if here else f"cd {quote(str(started.folder))} && "
    yield f"next: {go}doit (builds the engines), doit corpus (shows them)"


def _guessed(model: Model) -> Iterator[str]:
    profile = guess(model.inputs)
    if profile:
        yield f"    guessed, see corpus.toml: {', '.join(profile.guesses)}"


def _target(started: Started) -> str:
    target = started.target
    runtime = _RUNTIMES[target.name]
    where = f", SM {', '.join(map(str, target.sm))}" if target.sm else ""
    if target.version is None:
        return f"target {target.name}: {target.lacking[target.name]}"
    return f"target {target.name}: {runtime} {target.version}{where}, fp32"
