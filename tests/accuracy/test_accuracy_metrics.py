"""Metrics against their formulas worked out by hand, and the judgement of them."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from enginery.accuracy import DEFAULTS, REASONS, Metrics, Tolerances, judge_metrics, tolerances_for
from enginery.accuracy.metrics import measure, worst
from enginery.config import PrecisionMode
from enginery.errors import BackboneSpecError


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.float32)


def test_the_formulas() -> None:
    found = measure(floats(3, -4, 0, 0), floats(3.5, -4, 0, 0.25))
    rms = math.sqrt(25 / 4)
    assert found.kind == "float"
    assert found.elements == 4
    assert found.max_abs == 0.5
    assert found.max_rel == pytest.approx(max(0.5 / 3, 0.25 / rms))
    assert found.cosine == pytest.approx((10.5 + 16) / (5 * math.sqrt(12.25 + 16 + 0.0625)))
    assert found.snr_db == pytest.approx(10 * math.log10(25 / (0.25 + 0.0625)))
    assert found.equal == 0.5


def test_an_element_near_zero_does_not_dominate() -> None:
    found = measure(floats(1, 1e-30), floats(1, 1e-6))
    assert found.max_rel == pytest.approx(1e-6 * math.sqrt(2))


def test_no_difference() -> None:
    found = measure(floats(1, 2, math.nan, math.inf), floats(1, 2, math.nan, math.inf))
    assert (found.max_abs, found.max_rel, found.cosine) == (0, 0, pytest.approx(1))
    assert found.snr_db is None
    assert (found.equal, found.nonfinite) == (1, 0)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_what_is_no_number_is_counted_and_spoils_no_metric(bad: float) -> None:
    overflowed = measure(floats(1, 2, 3), floats(1, bad, 3))
    assert (overflowed.nonfinite, overflowed.max_abs, overflowed.cosine) == (1, 0, 1)
    assert judge_metrics(overflowed, Tolerances()) == ["1 elements are NaN or infinite"]
    assert measure(floats(bad), floats(1)).nonfinite == 1
    assert measure(floats(math.inf), floats(-math.inf)).nonfinite == 1


@pytest.mark.parametrize("empty", [np.zeros((0, 4), np.float32), np.float32(3) + np.zeros(())])
def test_arrays_of_nothing_and_of_no_dimension(empty: np.ndarray[Any, Any]) -> None:
    found = measure(empty, empty)
    assert (found.elements, found.equal, found.snr_db) == (empty.size, 1, None)


def test_zeros() -> None:
    nothing, something = floats(0, 0), floats(0, 1e-3)
    assert measure(nothing, nothing).cosine == 1
    found = measure(nothing, something)
    assert found.cosine == 0
    assert found.snr_db is not None
    assert found.snr_db < -1000
    assert judge_metrics(found, DEFAULTS["int8"])


def test_integers_are_judged_by_how_many_are_equal() -> None:
    reference = np.array([1, 2**62, 3, 4], np.int64)
    candidate = np.array([1, 2**62 + 1, 3, 4], np.int64)  # the same as float64
    found = measure(reference, candidate)
    assert (found.kind, found.equal) == ("integer", 0.75)
    assert judge_metrics(found, Tolerances(max_abs=0, min_snr_db=1000, min_equal=0.75)) == []
    assert judge_metrics(found, Tolerances(min_equal=0.8)) == [
        "share of equal elements 0.75 is below 0.8"
    ]
    truth = measure(np.array([True, False]), np.array([True, True]))
    assert (truth.kind, truth.equal, truth.max_abs) == ("integer", 0.5, 1)


def test_shapes_that_differ_are_all_that_is_said() -> None:
    found = measure(np.zeros((2, 3)), np.zeros((2, 4)))
    assert judge_metrics(found, DEFAULTS["fp16"]) == ["the shape is [2, 4], it should be [2, 3]"]
    same = measure(np.zeros(3), np.zeros(3))
    assert worst([same, found, same]) == found


def test_the_worst_of_several() -> None:
    one = Metrics("float", 10, 1.0, 0.1, 0.9, None, 0.5, nonfinite=1)
    two = Metrics("float", 10, 0.5, 0.2, 0.8, 30.0, 0.6, nonfinite=2)
    assert worst([one, two]) == Metrics("float", 20, 1.0, 0.2, 0.8, 30.0, 0.5, nonfinite=3)
    assert worst([one]).snr_db is None


@given(
    arrays.arrays(np.float64, 5, elements=st.floats(allow_nan=True, allow_infinity=True)),
    arrays.arrays(np.float64, 5, elements=st.floats(allow_nan=True, allow_infinity=True)),
)
def test_every_metric_is_a_number_that_json_has(
    r: np.ndarray[Any, Any], c: np.ndarray[Any, Any]
) -> None:
    found = measure(r, c)
    for value in msgspec.structs.asdict(found).values():
        assert not isinstance(value, float) or math.isfinite(value)
    assert found.cosine is not None
    assert -1 <= found.cosine <= 1


def test_each_bound_has_its_words() -> None:
    found = measure(floats(3, -4), floats(5, -4))
    tight = Tolerances(max_abs=1, max_rel=0.1, min_cosine=0.99, min_snr_db=20, min_equal=1)
    assert judge_metrics(found, tight) == [
        "absolute error 2 is above 1",
        "relative error 0.5657 is above 0.1",
        "cosine similarity 0.9683 is below 0.99",
        "signal-to-noise ratio in dB 7.959 is below 20",
    ]
    assert judge_metrics(found, Tolerances()) == []


def test_defaults_grow_with_the_rounding() -> None:
    ratios = [DEFAULTS[name].min_snr_db for name in ("fp16", "bf16", "int8")]
    assert ratios == sorted(ratios, reverse=True)
    assert DEFAULTS.keys() == REASONS.keys() == set(PrecisionMode) - {PrecisionMode.FP8}


def test_tolerances_given_replace_their_defaults() -> None:
    assert tolerances_for("bf16", {}) == DEFAULTS["bf16"]
    own = tolerances_for("bf16", {"max_abs": 1, "min_cosine": -1})
    assert own == msgspec.structs.replace(DEFAULTS["bf16"], max_abs=1, min_cosine=-1)
    assert tolerances_for("fp8", {"max_abs": 1}) == Tolerances(max_abs=1)
    assert Tolerances(max_abs=math.inf, max_rel=1).as_dict() == {"max_rel": 1}


@pytest.mark.parametrize(
    ("precision", "given", "words"),
    [
        ("fp16", {"max_absolute": 1}, "max_absolute.*known are max_abs, max_rel"),
        ("fp16", {"max_abs": "much"}, "Expected `float"),
        ("fp16", {"max_abs": -1}, ">= 0"),
        ("fp16", {"min_cosine": 2}, "<= 1"),
        ("fp16", {"max_abs": math.nan}, ">= 0"),
        ("fp16", {"min_snr_db": math.nan}, ">= -1000"),
        ("fp8", {}, "fp8 has no default"),
    ],
)
def test_tolerances_that_cannot_be_used(precision: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(BackboneSpecError, match=words) as raised:
        tolerances_for(precision, given)
    assert raised.value.field == "tolerances"


def test_the_vocabulary_imports_nothing_heavy() -> None:
    code = (
        "import sys, enginery.accuracy; "
        "assert not {'numpy', 'onnx', 'onnxruntime', 'google.protobuf'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
