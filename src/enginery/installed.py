"""Versions of installed distributions, without importing what they hold."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

from .errors import RuntimeUnavailableError

ONNXRUNTIME = ("onnxruntime", "onnxruntime-gpu")
"""ONNX Runtime's distributions: that for a GPU has the same modules under another name."""


@cache
def installed_version(name: str) -> str | None:
    """The version of a distribution, or None where it is not installed."""
    try:
        metadata = distribution(name).read_text("METADATA") or ""
    except PackageNotFoundError:
        return None
    # `version()` parses all of the metadata as an e-mail, which takes milliseconds.
    _, _, rest = metadata.partition("\nVersion:")
    return rest.partition("\n")[0].strip()


def first_installed(names: Iterable[str]) -> str | None:
    """The version of the first of several distributions that is installed."""
    return next((found for name in names if (found := installed_version(name))), None)


def required_version(names: tuple[str, ...]) -> str:
    """The version of the first of several distributions that is installed.

    Raises:
        RuntimeUnavailableError: None is; the message says how to install the first.
    """
    found = first_installed(names)
    if found is None:
        raise RuntimeUnavailableError(
            f"{names[0]} is not installed; install it with: pip install 'enginery[build]'"
        )
    return found
