"""Accuracy: whether a lowered model still computes what its original does.

Both models run on the same samples and their outputs are compared; what differs is measured and
held against tolerances. This module has the vocabulary and imports nothing heavy; `compare` does
the work, in a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..errors import BackboneSpecError


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far an output is from what it should be; `metrics.measure` has the formulas.

    Attributes:
        kind: "float", or "integer" for integers and truth values.
        elements: How many elements were compared, over all samples.
        max_abs: Largest absolute error, in the output's own unit; None where shapes differ.
        max_rel: Largest relative error, a ratio; None where shapes differ.
        cosine: Cosine similarity, -1 to 1; None where shapes differ.
        snr_db: Signal-to-noise ratio in dB; None where there is no noise or shapes differ.
        equal: Share of equal elements, 0 to 1.
        nonfinite: Elements that are NaN or infinite in one output and not the same in the other.
        shapes: How the shapes differ, in words; None where they do not.
    """

    kind: Literal["float", "integer"]
    elements: int
    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    snr_db: float | None
    equal: float
    nonfinite: int = 0
    shapes: str | None = None


class Tolerances(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far an output may be from what it should be; a bound that is None is not looked at.

    Attributes:
        max_abs: Largest absolute error allowed, in the output's own unit.
        max_rel: Largest relative error allowed, a ratio.
        min_cosine: Smallest cosine similarity allowed, -1 to 1.
        min_snr_db: Smallest signal-to-noise ratio allowed, in dB.
        min_equal: Smallest share of equal elements allowed, 0 to 1. It is for integers and truth
            values and their only bound, since the distance between two labels means nothing.
    """

    max_abs: Annotated[float, Meta(ge=0)] | None = None
    max_rel: Annotated[float, Meta(ge=0)] | None = None
    min_cosine: Annotated[float, Meta(ge=-1, le=1)] | None = None
    min_snr_db: Annotated[float, Meta(ge=-1000)] | None = None
    min_equal: Annotated[float, Meta(ge=0, le=1)] | None = None

    def as_dict(self) -> dict[str, float]:
        """Name to value of the bounds that there are; an infinite one is none."""
        bounds = msgspec.structs.asdict(self).items()
        return {name: bound for name, bound in bounds if bound is not None and math.isfinite(bound)}


# No default bounds the absolute error, which has the unit of the output; the ratio of energies is
# what decides. The bound on the single worst element is loose: the worst of a million is far out.
DEFAULTS: Mapping[str, Tolerances] = {
    "fp32": Tolerances(max_abs=0.0, min_equal=1.0),
    "fp16": Tolerances(max_rel=0.1, min_cosine=0.999, min_snr_db=40.0, min_equal=0.98),
    "bf16": Tolerances(max_rel=0.5, min_cosine=0.99, min_snr_db=22.0, min_equal=0.9),
    "int8": Tolerances(max_rel=1.0, min_cosine=0.98, min_snr_db=14.0, min_equal=0.8),
}
"""Precision to the tolerances that hold where nobody gives others."""

REASONS: Mapping[str, str] = {
    "fp32": "the model is taken as it is, so nothing may differ",
    "fp16": "11 significant bits: one rounding leaves 74 dB, a hundred that add up leave 54 dB; "
    "14 dB are for networks that amplify their noise",
    "bf16": "8 significant bits: 3 bits, or 18 dB, less than fp16",
    "int8": "256 steps over a calibrated range: about 40 dB for one layer and 20 dB for a network; "
    "below 14 dB the noise has a fifth of the signal's amplitude",
}
"""Precision to why its default tolerances are what they are."""


def tolerances_for(precision: str, given: Mapping[str, Any]) -> Tolerances:
    """The tolerances in force: those given, and the precision's defaults for the rest.

    A bound is switched off with infinity (or -1 for `min_cosine`, 0 for `min_equal`).

    Raises:
        BackboneSpecError: A name is unknown, a value is no number, or there is no default.
    """
    known = ", ".join(Tolerances.__struct_fields__)
    try:
        own = msgspec.convert(dict(given), Tolerances)
    except msgspec.ValidationError as error:
        raise BackboneSpecError(
            f"the tolerances cannot be used: {error}; known are {known}", field="tolerances"
        ) from error
    if precision not in DEFAULTS and own == Tolerances():
        raise BackboneSpecError(
            f"{precision} has no default tolerances; give some of {known}", field="tolerances"
        )
    given_bounds = {name: bound for name, bound in msgspec.structs.asdict(own).items()
                    if bound is not None}  # fmt: skip
    return msgspec.structs.replace(DEFAULTS.get(precision, Tolerances()), **given_bounds)


def judge_metrics(metrics: Metrics, tolerances: Tolerances) -> list[str]:
    """What an output missed, in words, one phrase per bound; empty where it is good."""
    if metrics.shapes is not None:
        return [metrics.shapes]
    missed = []
    if metrics.nonfinite:
        missed.append(f"{metrics.nonfinite} elements are NaN or infinite")
    upper: dict[str, tuple[float | None, float | None]] = {}
    lower: dict[str, tuple[float | None, float | None]]
    if metrics.kind == "integer":
        lower = {"share of equal elements": (metrics.equal, tolerances.min_equal)}
    else:
        upper = {
            "absolute error": (metrics.max_abs, tolerances.max_abs),
            "relative error": (metrics.max_rel, tolerances.max_rel),
        }
        lower = {
            "cosine similarity": (metrics.cosine, tolerances.min_cosine),
            "signal-to-noise ratio in dB": (metrics.snr_db, tolerances.min_snr_db),
        }
    for what, (value, bound) in upper.items():
        if value is not None and bound is not None and value > bound:
            missed.append(f"{what} {value:.4g} is above {bound:.4g}")
    for what, (value, bound) in lower.items():
        if value is not None and bound is not None and value < bound:
            missed.append(f"{what} {value:.4g} is below {bound:.4g}")
    return missed
