"""Whether a calibration cache is of a model, and covers the tensors that int8 quantizes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from onnx import GraphProto

from ..config import LoweringOptions
from ..errors import CalibrationCacheError
from .model_file import graphs

# TensorRT's calibrators give scales to tensors of its own making too, under names like
# "(Unnamed Layer* 12) [Constant]_output".
_OF_TENSORRT = re.compile(r"\(Unnamed Layer\* \d+\) \[.+\].*")


def known_names(graph: GraphProto) -> set[str]:
    """The names of everything that a graph computes, takes or stores."""
    found: set[str] = set()
    for each in graphs(graph):
        found.update(value.name for value in (*each.input, *each.initializer))
        found.update(name for node in each.node for name in node.output)
    return found


def check_cover(
    scales: Mapping[str, float],
    known: Collection[str],
    wanted: Collection[str],
    options: LoweringOptions,
    where: str,
) -> None:
    """Check that a cache is of a model and has scales for what is quantized.

    Args:
        scales: Tensor to scale, from the cache.
        known: The names in the model, before it was prepared; see `known_names`.
        wanted: The tensors to quantize.
        options: How many of them may lack a scale; all of them never may.
        where: What messages call the cache and the model.

    Raises:
        CalibrationCacheError: A scale is of no tensor in the model, or too many are missing.
    """
    strangers = [name for name in scales if name not in known and not _OF_TENSORRT.match(name)]
    if strangers:
        raise CalibrationCacheError(
            f"{where}: the model has no tensor {_some(strangers)}; calibrate this model"
        )
    missing = [name for name in wanted if name not in scales]
    if 100 * len(missing) > options.uncovered_percent * len(wanted) or len(missing) == len(wanted):
        raise CalibrationCacheError(
            f"{where}: of {len(wanted)} tensors to quantize, {len(missing)} have no scale: "
            f"{_some(missing)}; calibrate again, or raise uncovered_percent"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(name) for name in names[:3]) + more
