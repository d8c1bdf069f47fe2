"""Figures in the words of a person: sizes, durations, ages and moments."""

from __future__ import annotations

from datetime import datetime, tzinfo

IN_THE_FUTURE = "in the future"

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def megabytes(size: int) -> str:
    """A size such as "812.4 MB"; in kB or in bytes where it is less than a tenth of the larger."""
    if 0 < size < 100:
        return f"{size} B"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 or size == 0 else f"{size / 1e3:.1f} kB"


def duration(seconds: float) -> str:
    """A duration with its two largest units, such as "8 min 3 s"; "0.4 s" below ten seconds."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return _two(whole, _MINUTE, "min", 1, "s")
    minutes = round(whole / _MINUTE) * _MINUTE
    if minutes < _DAY:
        return _two(minutes, _HOUR, "h", _MINUTE, "min")
    return _two(round(whole / _HOUR) * _HOUR, _DAY, "d", _HOUR, "h")


def age(since: datetime, now: datetime) -> str:
    """How long ago a moment is, in its largest unit, such as "3 d"; "now" within a second.

    A moment that is to come is "in the future": a clock was, or is, wrong.
    """
    seconds = int((now - since).total_seconds())
    if seconds < 0:
        return IN_THE_FUTURE
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return "now"


def moment(when: datetime) -> str:
    """A moment in this machine's time zone, such as "2026-11-25 08:44 UTC"."""
    return f"{in_zone(when, None):%Y-%m-%d %H:%M %Z}"


def in_zone(when: datetime, zone: tzinfo | None) -> datetime:
    """A moment in a time zone, None for this machine's; as it is where it has no place there."""
    try:
        return when.astimezone(zone)
    except (OverflowError, ValueError):
        return when  # of the first or last day that there is


def _two(seconds: int, large: int, unit: str, small: int, subunit: str) -> str:
    rest = seconds % large // small
    return f"{seconds // large} {unit}" + (f" {rest} {subunit}" if rest else "")
