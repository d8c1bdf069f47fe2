"""Recorded machines, and C stubs of the vendor's libraries that answer as recorded."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from enginery.probing.root import Root

RECORDED = Path(__file__).with_name("recorded")

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def recorded(machine: str) -> Root:
    """The root directory of a recorded machine."""
    folder = RECORDED / machine
    assert folder.is_dir(), folder
    return Root(folder)


def compile_library(folder: Path, name: str, source: str) -> Path:
    """A shared library from C source."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.c"
    file.write_text(source, encoding="utf-8")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / name, file], check=True)
    return folder / name
