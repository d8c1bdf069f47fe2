"""Figures in the words of a person: sizes, durations, ages and moments."""

from __future__ import annotations

from datetime import datetime

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def megabytes(size: int) -> str:
    """A size such as "812.4 MB", or "3.1 kB" where it is less than a tenth of one."""
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
    return _two(round(whole / _MINUTE) * _MINUTE, _HOUR, "h", _MINUTE, "min")


def age(since: datetime, now: datetime) -> str:
    """How long ago a moment is, in its largest unit, such as "3 d"; "now" within a second."""
    seconds = int((now - since).total_seconds())
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return "now"


def moment(when: datetime) -> str:
    """A moment in this machine's time zone, such as "2026-11-25 08:44 UTC"."""
    return f"{when.astimezone():%Y-%m-%d %H:%M %Z}"


def _two(seconds: int, large: int, unit: str, small: int, subunit: str) -> str:
    rest = seconds % large // small
    return f"{seconds // large} {unit}" + (f" {rest} {subunit}" if rest else "")
