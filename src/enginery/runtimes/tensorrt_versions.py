"""TensorRT's versions and what came, went and came back with them.

The facts are those of NVIDIA's release notes (docs.nvidia.com/deeplearning/tensorrt, Getting
Started, Release Notes) and of the page named beside each.
"""

from __future__ import annotations

import re

FIRST = (10, 3)
"""The TensorRT of JetPack 6.2, and the oldest whose interface is checked."""

END = (12,)
"""The first whose interface is not known."""

TILING = (10, 8)
"""`TilingOptimizationLevel` (release notes 10.8.0)."""

SAME_COMPUTE_CAPABILITY = (10, 9)
"""`HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY` (release notes 10.9.0)."""

NO_CUBLAS = (11,)
"""Without tactics of cuBLAS and cuDNN (Migrating TensorRT from 10.x to 11.x)."""

DLA = (11, 4, 1)
DLA_JETPACK = (7, 2, 2)
"""A DLA that takes strongly typed networks (Working with DLA, 11.4.1): up to 10.7 a DLA took its
precision from builder flags, which strongly typed networks do not have; from 10.8 to 11.3 there
was none, and in 11.4.0 none on Jetson."""


def parts(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparisons; what follows the numbers is left out.

    >>> parts("10.3.0.30"), parts("7.2.2-b12"), parts("DP")
    ((10, 3, 0, 30), (7, 2, 2), ())
    """
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, leading[0].split("."))) if leading else ()


def agrees(found: str, wanted: str) -> bool:
    """Whether a version is the wanted one as far as it says: Jetsons leave the build number out."""
    known = found.split(".")
    return wanted.split(".")[: len(known)] == known
