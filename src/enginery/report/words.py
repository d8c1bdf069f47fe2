"""Words and figures of the report that `enginery.figures` has no use for."""

from __future__ import annotations

from datetime import datetime, timezone

from ..figures import duration


def moment_text(moment: datetime) -> str:
    """A moment in UTC, as a page is read in other time zones than where it was made."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


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


def printable(text: str) -> str:
    """Text without what XML and UTF-8 have no place for; each such character becomes U+FFFD."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
