"""Looking for ONNX models below a folder, in an order that does not change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

MODELS = 100
"""How many models are taken at most."""

FOLDERS = 10_000
"""How many folders are looked at at most."""

_SUFFIX = ".onnx"

# What a virtual environment, or conda's, has in its folder.
_ENVIRONMENT = frozenset({"pyvenv.cfg", "conda-meta"})
_NOT_OURS = frozenset({"__pycache__", "node_modules", "site-packages"})
_ENGINE = ".engine.sha256"


class Found(msgspec.Struct, frozen=True):
    """What is below a folder.

    Attributes:
        models: Paths relative to the folder, with "/", of what is called *.onnx.
        remarks: What was not looked at, in words.
    """

    models: tuple[str, ...]
    remarks: tuple[str, ...]


def discover(folder: Path) -> Found:
    """The ONNX models below a folder: its own, then those of its subfolders by name.

    Left alone are hidden folders, virtual environments, folders of engines and folders without
    permission. A folder that several links lead to is looked at once.
    """
    models: list[str] = []
    remarks: list[str] = []
    for looked, (where, files) in enumerate(_folders(folder, remarks)):
        if looked == FOLDERS:
            remarks.append(f"only {FOLDERS} folders were looked at")
            break
        models += [where + name for name in files]
        if len(models) > MODELS:
            remarks.append(f"there are more than {MODELS} models; only the first were taken")
            break
    return Found(tuple(models[:MODELS]), tuple(remarks))


def _folders(folder: Path, remarks: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Every folder, as a prefix of paths, and the names of the models in it."""
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        where = waiting.pop()
        try:
            info = (folder / where).stat()
            with os.scandir(folder / where) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            remarks.append(f"{where} cannot be read ({error.strerror})")
            continue
        if (info.st_dev, info.st_ino) in seen or (where and _is_not_ours(inside)):
            continue
        seen.add((info.st_dev, info.st_ino))
        below = [entry.name for entry in inside if _is_folder(entry)]
        models = [entry.name for entry in inside if _is_model(entry) and entry.name not in below]
        waiting += [f"{where}{name}/" for name in reversed(below)]
        yield where, models


def _is_model(entry: os.DirEntry[str]) -> bool:
    # macOS keeps "._name" beside files on foreign disks.
    return entry.name.lower().endswith(_SUFFIX) and not entry.name.startswith(".")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or entry.name in _NOT_OURS:
        return False
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_not_ours(inside: list[os.DirEntry[str]]) -> bool:
    return any(entry.name in _ENVIRONMENT or entry.name.endswith(_ENGINE) for entry in inside)
