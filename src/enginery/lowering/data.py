"""Data files of lowered models: weights that one ONNX file cannot hold.

A data file is named `<model>_<precision>.<SHA-256 of its bytes>.data` and the ONNX names it, so
the sidecar of the ONNX vouches for the weights as well.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..digest import sha256_file, short
from ..errors import EngineryError
from ..external_data import external_data_locations


def data_files(model: Path) -> list[Path]:
    """The data files of a lowered model, those that it no longer names too."""
    if not model.parent.is_dir():
        return []
    name = re.compile(re.escape(model.stem) + r"\.[0-9a-f]{64}\.data")
    return sorted(path for path in model.parent.iterdir() if name.fullmatch(path.name))


def fault_of_data(model: Path) -> str | None:
    """What is wrong with the data files that a lowered model names, or None."""
    for location in external_data_locations(model):
        path = model.parent / location
        try:
            actual = sha256_file(path)
        except (OSError, EngineryError) as error:
            return f"the weights {location} cannot be read: {error}"
        if location != f"{model.stem}.{actual}.data":
            return f"the weights {location} are damaged: their bytes are {short(actual)}"
    return None


def remove_unnamed_data(model: Path) -> None:
    """Remove the data files that the model no longer names."""
    named = external_data_locations(model)
    for path in data_files(model):
        if path.name not in named:
            path.unlink(missing_ok=True)
