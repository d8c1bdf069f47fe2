"""Which TensorRT is installed, from metadata, without importing or loading it.

TensorRT-RTX is another product with versions of its own and is not looked at.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from enginery.installed import first_installed

from . import dpkg
from .root import HERE, Root

# The libraries first: they are what runs. `tensorrt` alone is a name that asks for them, and was
# once met with others than its own number (tensorrt 10.0.1 with libraries 10.1.0).
_DISTRIBUTIONS = (
    *(f"tensorrt_cu{cuda}_libs" for cuda in (13, 12, 11)),
    *(f"tensorrt_cu{cuda}" for cuda in (13, 12, 11)),
    "tensorrt",
)

# TensorRT 8 was the first for JetPack 5; the rest is room for what is to come.
_MAJORS = range(15, 7, -1)
_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/tensorrt/lib",
    "/usr/local/TensorRT/lib",
    "/opt/tensorrt/lib",
)
_TIMEOUT_S = 60


def tensorrt_version(*, ask_library: bool = False, root: Root = HERE) -> str | None:
    """The version of the TensorRT that Python or else the system has; None where there is none.

    It has four parts where metadata have them: Python's have three up to 10.7, Debian's have
    four from 8.6 on, a library's file name has three.

    Args:
        ask_library: Whether a missing fourth part is worth loading the library, which takes
            seconds; done in a process of its own.
        root: Where the files of the system lie.
    """
    version = _metadata_version(root)
    if ask_library and version is not None and version.count(".") < 3:
        return _asked(version) or version
    return version


def _metadata_version(root: Root) -> str | None:
    python = first_installed(_DISTRIBUTIONS)
    # A post-release is another wheel of the same library.
    plain = python.partition(".post")[0] if python else None
    if plain is not None and plain.count(".") >= 3:
        return plain
    debian = _debian(root)
    if plain is None:
        return debian or _file_name(root)
    # Python's TensorRT on a Jetson is Debian's, whose number is the longer.
    return debian if debian and debian.startswith(f"{plain}.") else plain


def _debian(root: Root) -> str | None:
    packages = dpkg.installed(root, "libnvinfer")
    majors = [int(name[1]) for package in packages if (name := _package(package))]
    return packages[f"libnvinfer{max(majors)}"] if majors else None


def _package(name: str) -> re.Match[str] | None:
    return re.fullmatch(r"libnvinfer(\d+)", name, re.ASCII)


def _file_name(root: Root) -> str | None:
    folders = [*filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")), *_FOLDERS]
    for major in _MAJORS:
        for folder in folders:
            library = root.at(folder) / f"libnvinfer.so.{major}"
            if root.exists(str(folder) + f"/{library.name}"):
                version = library.resolve().name.removeprefix("libnvinfer.so.")
                if re.fullmatch(r"\d+\.\d+\.\d+(?:\.\d+)?", version, re.ASCII):
                    return version
    return None


def _asked(version: str) -> str | None:
    """The library's own version, if it is one of this version."""
    import subprocess  # not where nobody asks
    from importlib.util import find_spec

    name = f"libnvinfer.so.{version.partition('.')[0]}"
    wheel = find_spec("tensorrt_libs")  # found, not imported
    folders = wheel.submodule_search_locations if wheel else None
    query = Path(__file__).with_name("tensorrt_query.py")
    try:
        run = subprocess.run(
            [
                sys.executable or "python3",
                "-I",
                "-S",
                query,
                Path(folders[0]) / name if folders else name,
            ],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
            text=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    said = run.stdout.strip()
    return said if said.startswith(f"{version}.") else None
