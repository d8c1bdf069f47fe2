"""Lowering to fp16, in a process of its own: weights and arithmetic in half precision."""

from __future__ import annotations

from typing import Any

from ..config import PrecisionMode
from .floats import lower as lower_to


def lower(request: dict[str, Any]) -> dict[str, Any]:
    """Write the request's model in fp16 to its output; returns digest, data files and versions.

    Raises:
        EngineBuildError: The model cannot be loaded, lowered or saved.
    """
    return lower_to(request, PrecisionMode.FP16)
