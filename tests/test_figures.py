"""Figures in a person's words."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from enginery.figures import IN_THE_FUTURE, age, duration, megabytes, moment

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0.0 MB"),
        (11, "11 B"),
        (437, "0.4 kB"),
        (403_356, "0.4 MB"),
        (812_400_000, "812.4 MB"),
    ],
)
def test_sizes(size: int, said: str) -> None:
    assert megabytes(size) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (483, "8 min 3 s"),
        (3599.7, "1 h"),
        (3600 + 29, "1 h"),
        (7260, "2 h 1 min"),
        (7199, "2 h"),
        (86_340, "23 h 59 min"),
        (86_399, "1 d"),
        (90_000, "1 d 1 h"),
        (172_799, "2 d"),
        (400 * 86_400, "400 d"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("ago", "said"),
    [(-0.5, "now"), (0.5, "now"), (5, "5 s"), (61, "1 min"), (7300, "2 h"), (3 * 86400, "3 d")],
)
def test_ages(ago: float, said: str) -> None:
    assert age(NOW - timedelta(seconds=ago), NOW) == said


@pytest.mark.parametrize("seconds", [1.5, 7200, 400 * 86_400])
def test_a_moment_that_is_to_come(seconds: float) -> None:
    assert age(NOW + timedelta(seconds=seconds), NOW) == IN_THE_FUTURE


def test_a_moment_names_its_zone() -> None:
    assert moment(NOW).startswith("2026-0")
    assert len(moment(NOW)) > len("2026-03-01 12:00 ")
