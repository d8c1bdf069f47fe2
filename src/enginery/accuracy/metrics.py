"""Metrics: how far one array is from another, in numbers that a person can bound.

With reference r and candidate c, over the elements in which both are finite, in float64:

- max_abs = max |c - r|, in the unit of the output.
- max_rel = max |c - r| / max(|r|, rms(r)), where rms(r) = sqrt(mean(r**2)). The componentwise
  relative error of Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. (SIAM 2002),
  section 1.2, with a floor, so that an element near zero is held against the typical size of the
  output and does not dominate.
- cosine = r.c / (|r| |c|); 1 where both are all zeros, 0 where one of them is.
- snr_db = 10 log10(sum(r**2) / sum((r - c)**2)), in decibels: the signal-to-quantization-noise
  ratio, also ONNX Runtime's measure of a quantized model. None where there is no noise.
- equal = share of elements that are equal, NaN taken as equal to NaN.
- nonfinite = number of elements that are not finite in both and not the same, and of all elements
  where none is finite: an overflow to infinity is counted here, and not in the errors above, which
  it would make infinite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import Metrics

_TINY = float(np.finfo(np.float64).tiny)
_LARGEST = float(np.finfo(np.float64).max)


def measure(reference: npt.NDArray[Any], candidate: npt.NDArray[Any]) -> Metrics:
    """How far `candidate` is from `reference`; the module's docstring has the formulas.

    Arrays of any number of dimensions, of floats, integers or truth values. Where the shapes
    differ, only that is said.
    """
    # ml_dtypes' bfloat16 is of kind "V" or "f", as its version has it.
    kind: Any = "integer" if {reference.dtype.kind, candidate.dtype.kind} <= set("iub") else "float"
    if reference.shape != candidate.shape:
        return Metrics(
            kind=kind,
            elements=0,
            max_abs=None,
            max_rel=None,
            cosine=None,
            snr_db=None,
            equal=0.0,
            shapes=f"the shape is {_shape(candidate)}, it should be {_shape(reference)}",
        )
    same = reference == candidate  # as they are: float64 would round large integers
    r, c = (array.astype(np.float64).ravel() for array in (reference, candidate))
    same = same.ravel() | (np.isnan(r) & np.isnan(c))
    finite = np.isfinite(r) & np.isfinite(c)
    r, c = r[finite], c[finite]
    with np.errstate(over="ignore"):
        error = np.minimum(np.abs(c - r), _LARGEST)
    return Metrics(
        kind=kind,
        elements=int(same.size),
        max_abs=float(error.max(initial=0.0)),
        max_rel=_max_rel(r, error),
        cosine=_cosine(r, c),
        snr_db=_snr_db(r, error),
        equal=float(same.mean()) if same.size else 1.0,
        # Where nothing is finite, nothing was compared.
        nonfinite=int(np.count_nonzero(~finite & ~same)) if r.size else int(same.size),
    )


def worst(found: Sequence[Metrics]) -> Metrics:
    """The worst of every metric over several samples of one output.

    Elements and those that are not finite are summed up; a shape that differs anywhere decides.
    """
    for one in found:
        if one.shapes is not None:
            return one
    return Metrics(
        kind=found[0].kind,
        elements=sum(one.elements for one in found),
        max_abs=max(one.max_abs or 0.0 for one in found),
        max_rel=max(one.max_rel or 0.0 for one in found),
        cosine=min(1.0 if one.cosine is None else one.cosine for one in found),
        snr_db=min((one.snr_db for one in found if one.snr_db is not None), default=None),
        equal=min(one.equal for one in found),
        nonfinite=sum(one.nonfinite for one in found),
    )


def _max_rel(r: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> float:
    if not error.any():
        return 0.0
    floor = max(_norm(r) / math.sqrt(r.size), _TINY)
    with np.errstate(over="ignore"):
        return min(float((error / np.maximum(np.abs(r), floor)).max()), _LARGEST)


def _cosine(r: npt.NDArray[np.float64], c: npt.NDArray[np.float64]) -> float:
    norms = _norm(r), _norm(c)
    if not all(norms):
        return 0.0 if any(norms) else 1.0
    # Each is scaled first: the product of large values would overflow.
    return float(np.clip(np.dot(r / norms[0], c / norms[1]), -1.0, 1.0))


def _snr_db(r: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> float | None:
    noise = _norm(error)
    if noise == 0:
        return None
    # A signal of nothing has no logarithm; the smallest there is gives a ratio as bad as it gets.
    return 20.0 * (math.log10(max(_norm(r), _TINY)) - math.log10(noise))


def _norm(values: npt.NDArray[np.float64]) -> float:
    """Euclidean norm, always a finite number; squares of large or small values are not formed."""
    largest = float(np.abs(values).max(initial=0.0))
    if not largest:
        return 0.0
    return min(largest * float(np.linalg.norm(values / largest)), _LARGEST)


def _shape(array: npt.NDArray[Any]) -> str:
    return str(list(array.shape))
