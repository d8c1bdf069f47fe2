"""Words and figures of the report that `enginery.figures` has no use for."""

from __future__ import annotations

from datetime import datetime, timezone

from ..figures import duration, in_zone


def moment_text(moment: datetime) -> str:
    """A moment in UTC, as a page is read in other time zones than where it was made."""
    return in_zone(moment, timezone.utc).strftime("%Y-%m-%d %H:%M:%S %Z")


def span_text(seconds: float) -> str:
    """A duration; what took less than a tenth of a second is told in milliseconds."""
    if seconds <= 0:
        return "0 s"
    return f"{round(seconds * 1000)} ms" if seconds < 0.0995 else duration(seconds)


def figure_text(value: float) -> str:
    """A measured figure with four significant digits."""
    return f"{value:.4g}"


def count_text(number: int, one: str) -> str:
    """A number with its noun: "1 engine", "16 engines"."""
    return f"{number} {one if number == 1 else one + 's'}"


def clipped(text: str, length: int) -> str:
    """A text that is no longer than this, with its end cut off where it is."""
    return text if len(text) <= length else f"{text[: length - 1]}\u2026"


def lacking(error: ImportError | OSError) -> str:
    """What is missing where a package could not be imported."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return error.name
    return f"packages that can be loaded ({' '.join(str(error).split())})"


def printable(text: str) -> str:
    """Text without what XML and UTF-8 have no place for; each such character becomes U+FFFD."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
