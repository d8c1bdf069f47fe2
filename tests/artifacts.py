"""Artifacts as a build leaves them, tiny, and what may lie in their place."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from enginery import atomic, provenance
from enginery.publish import publish
from enginery.recipe import Recipe

NAME = "light_sm86-89_nojp_trt1.7.1.116_fp16.engine"
OTHER_NAME = "light_sm120_nojp_trt1.7.1.116_fp16.engine"
DATA = b"a plan, as TensorRT serializes it\n" * 3
STARTED = datetime(2025, 11, 24, 12, 0, tzinfo=timezone.utc)

IRREGULAR = ("directory", "FIFO", "symlink", "dangling symlink")


def make_recipe(**changes: Any) -> Recipe:
    """A recipe as the compiler makes it, with some of its sections changed."""
    sections: dict[str, Any] = {
        "kind": "engine",
        "inputs": {"onnx": "1" * 64, "external_data/weights.bin": "2" * 64},
        "build": {"precision": "fp16", "workspace_mb": 64, "tf32": True},
        "toolchain": {"runtime": "tensorrt_rtx", "tensorrt": "1.7.1.116"},
        "target": {"sm": [86, 89], "jetpack": None},
    }
    return Recipe(**{**sections, **changes})


def make_document(path: Path, data: bytes, recipe: Recipe) -> bytes:
    """The provenance of an artifact with these bytes, the same whenever it is asked for."""
    written = provenance.write_statement(
        path,
        hashlib.sha256(data).hexdigest(),
        recipe,
        dependencies={"light.onnx": "1" * 64},
        versions={"enginery": "0.1.0"},
        started=STARTED,
    )
    finished = b'"finishedOn": "2025-11-24T12:00:01.500000Z"'
    document, count = re.subn(rb'"finishedOn": "[^"]*"', finished, written)
    assert count == 1
    return document


def publish_artifact(
    folder: Path, *, name: str = NAME, data: bytes = DATA, recipe: Recipe | None = None
) -> Path:
    """An artifact with sidecar and provenance, published as a build does."""
    path = folder / name
    with atomic.staged(path) as built:
        built.write_bytes(data)
        document = make_document(path, data, recipe or make_recipe())
        publish(built, path, hashlib.sha256(data).hexdigest(), document)
    return path


def sidecar_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def provenance_of(path: Path) -> Path:
    return path.with_name(path.name + ".provenance.json")


def replace_by(kind: str, path: Path) -> None:
    """Put something irregular where a file is; a symlink leads to that file's own bytes."""
    moved = path.with_name("moved." + path.name)
    if path.exists():
        path.rename(moved)
    if kind == "directory":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to(moved)
    else:
        path.symlink_to(path.with_name("nowhere"))


def flip_bit(path: Path, position: int) -> None:
    """Flip one bit, counted from the first byte's lowest, and leave size and mtime alone."""
    info = path.stat()
    data = bytearray(path.read_bytes())
    data[position // 8] ^= 1 << position % 8
    path.write_bytes(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def snapshot(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Name to inode, mode, mtime and bytes of whatever lies in a folder, links not followed."""
    found = {}
    for entry in folder.rglob("*"):
        info = entry.lstat()
        data = entry.read_bytes() if entry.is_file() else b""
        found[entry.name] = (info.st_ino, info.st_mode, info.st_mtime_ns, data)
    return found


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail, instead of waiting for ever, where something blocks."""

    def too_late(*_: object) -> None:
        raise AssertionError(f"still running after {seconds} seconds")

    previous = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
