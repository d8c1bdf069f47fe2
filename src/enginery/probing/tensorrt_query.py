"""Prints the version that a TensorRT library says of itself, such as 10.3.0.30.

A program of its own: the library has gigabytes and is not to be loaded into a process that has
nothing to do with it. Run by path with the library as its argument.
"""

from __future__ import annotations

import ctypes
import sys

# NvInferRuntime.h of TensorRT 10 and 11; the library of TensorRT-RTX has them too.
_PARTS = ("Major", "Minor", "Patch", "Build")

if __name__ == "__main__":
    library = ctypes.CDLL(sys.argv[1])
    parts = (getattr(library, f"getInferLib{part}Version")() for part in _PARTS)
    print(".".join(map(str, parts)))  # noqa: T201 - the one thing that this program is for
