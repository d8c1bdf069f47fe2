"""What the report shows of an output's metrics: the figures, each with the bound it was held to."""

from __future__ import annotations

import msgspec

from ..accuracy import Metrics
from .words import figure_text

NAMES = ("snr_db", "cosine", "max_rel", "max_abs", "equal")
"""The metrics in the order of the report's columns."""

_BOUNDS = {
    "snr_db": ("min_snr_db", "≥"),
    "cosine": ("min_cosine", "≥"),
    "max_rel": ("max_rel", "≤"),
    "max_abs": ("max_abs", "≤"),
    "equal": ("min_equal", "≥"),
}

_LARGE = 1e6
"""From here on a figure has an exponent: no sane one does, and a damaged one has 300 digits."""


class Measure(msgspec.Struct, frozen=True):
    """A metric of an output.

    Attributes:
        name: Which it is, one of `NAMES`.
        value: What was measured; None where there is no such figure.
        bound: What it was held to, such as "≥ 45"; empty where it was not looked at.
        missed: Whether it is out of bounds.
    """

    name: str
    value: float | None
    bound: str
    missed: bool

    @property
    def text(self) -> str:
        """The figure in words."""
        return "\u2013" if self.value is None else _written(self.name, self.value)


def _written(name: str, value: float) -> str:
    """A figure to a place that tells a good one from a very good one."""
    places = {"snr_db": ".1f", "cosine": ".6f"}
    plain = name in places and abs(value) < _LARGE
    return format(value, places[name]) if plain else figure_text(value)


def measures(metrics: Metrics, tolerances: dict[str, float]) -> list[Measure]:
    """The metrics of an output, in the order of `NAMES`.

    As in `accuracy.judge_metrics`, what is integer has one bound, and a float has all but that.
    """
    found = []
    for name in NAMES:
        key, sign = _BOUNDS[name]
        looked_at = (name == "equal") == (metrics.kind == "integer")
        bound = tolerances.get(key) if looked_at else None
        value: float | None = getattr(metrics, name)
        missed = False
        if value is not None and bound is not None:
            missed = value < bound if sign == "≥" else value > bound
        held = "" if bound is None else f"{sign} {figure_text(bound)}"
        found.append(Measure(name, value, held, missed))
    return found
