"""TensorRT's calibration cache: one scale for each activation tensor, in a text file.

The format, as TensorRT 7 to 10 write it:

    TRT-100300-EntropyCalibration2
    input: 3caa5293
    features: 3d1fa3c4

A header with the version that wrote it and the calibrator's algorithm; then for each tensor its
name and its scale, the eight hex digits of a big-endian IEEE 754 binary32. A tensor's values are
`scale * q` for q from -127 to 127.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ..digest import read_regular
from ..errors import CalibrationCacheError, IrregularFileError

# The largest networks have some 10 000 tensors, of 100 bytes each.
_LIMIT = 16 << 20

# What TensorRT's calibrator interfaces are called in a header: IInt8LegacyCalibrator,
# IInt8EntropyCalibrator, IInt8EntropyCalibrator2 and IInt8MinMaxCalibrator.
ALGORITHMS = ("EntropyCalibration2", "EntropyCalibration", "MinMaxCalibration", "LegacyCalibration")

_HEADER = re.compile(rf"TRT-([0-9]{{1,9}})-({'|'.join(ALGORITHMS)})")
_SCALE = re.compile(r"[0-9a-fA-F]{8}")
_AGAIN = "calibrate again, or restore the file"


@dataclass(frozen=True, slots=True)
class CalibrationCache:
    """The scales of a model's activations.

    Attributes:
        algorithm: The calibrator, one of `ALGORITHMS`.
        version: The TensorRT that wrote it: 100300 is 10.3.0, 8601 is 8.6.1.
        scales: Tensor to scale, in the order of the file; every scale is finite, above zero and
            a binary32 number.
    """

    algorithm: str
    version: int
    scales: Mapping[str, float]

    @property
    def header(self) -> str:
        """The first line of the file."""
        return f"TRT-{self.version}-{self.algorithm}"


def read_cache(path: Path) -> CalibrationCache:
    """The calibration cache in a file.

    Raises:
        CalibrationCacheError: It is not there, or not a calibration cache through and through.
    """
    lines = _lines(path)
    header = _HEADER.fullmatch(lines[0])
    if header is None:
        raise _fault(
            path,
            1,
            f"{_shown(lines[0])} is no header such as TRT-100300-EntropyCalibration2",
            "name a calibration cache that TensorRT or enginery wrote",
        )
    scales: dict[str, float] = {}
    for number, line in enumerate(lines[1:], start=2):
        name, scale = _entry(path, number, line)
        if name in scales:
            raise _fault(path, number, f"{_shown(name)} has a scale already", _AGAIN)
        scales[name] = scale
    if not scales:
        raise _fault(path, 1, "there is no tensor after the header", _AGAIN)
    return CalibrationCache(header[2], int(header[1]), MappingProxyType(scales))


def write_cache(cache: CalibrationCache) -> bytes:
    """The bytes of a calibration cache, tensors in their order.

    Raises:
        CalibrationCacheError: A tensor or its scale cannot be written so that it reads back.
    """
    return "".join(f"{line}\n" for line in (cache.header, *_entries(cache))).encode()


def _entries(cache: CalibrationCache) -> Iterator[str]:
    for name, scale in cache.scales.items():
        if not name or name.strip() != name or "\n" in name or "\r" in name:
            raise CalibrationCacheError(
                f"tensor {_shown(name)} has a name that no calibration cache can hold; rename it"
            )
        packed = _packed(scale)
        if packed is None or _scale_fault(struct.unpack(">f", packed)[0]):
            raise CalibrationCacheError(
                f"tensor {_shown(name)} has the scale {scale}, which binary32 cannot hold; "
                "look at its values"
            )
        yield f"{name}: {packed.hex()}"


def _packed(scale: float) -> bytes | None:
    try:
        return struct.pack(">f", scale)
    except OverflowError:
        return None


def _lines(path: Path) -> list[str]:
    try:
        data = read_regular(path, limit=_LIMIT, follow_symlinks=True)
    except IrregularFileError as error:
        raise CalibrationCacheError(f"{path}: {error}; name a calibration cache") from error
    except FileNotFoundError as error:
        raise CalibrationCacheError(
            f"{path} is not there; calibrate, or name a calibration cache that is"
        ) from error
    except OSError as error:
        raise CalibrationCacheError(
            f"{path} cannot be read: {error.strerror}; look at its permissions"
        ) from error
    if not data.strip():
        raise CalibrationCacheError(f"{path} is empty; {_AGAIN}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _fault(path, line, "it is no text in UTF-8", _AGAIN) from error
    return [line.removesuffix("\r") for line in text.rstrip("\r\n").split("\n")]


def _entry(path: Path, number: int, line: str) -> tuple[str, float]:
    # A name may hold ": " itself.
    name, colon, digits = line.rpartition(": ")
    if not colon or not name:
        raise _fault(path, number, f"{_shown(line)} is not '<tensor>: <8 hex digits>'", _AGAIN)
    if _SCALE.fullmatch(digits) is None:
        raise _fault(path, number, f"{_shown(digits)} is not 8 hex digits", _AGAIN)
    scale: float = struct.unpack(">f", bytes.fromhex(digits))[0]
    if fault := _scale_fault(scale):
        raise _fault(path, number, f"the scale {digits} of {_shown(name)} {fault}", _AGAIN)
    return name, scale


def _scale_fault(scale: float) -> str:
    if not math.isfinite(scale):
        return "is not a finite number"
    return "" if scale > 0 else "is not above zero"


def _fault(path: Path, line: int, fault: str, remedy: str) -> CalibrationCacheError:
    return CalibrationCacheError(f"{path}: line {line}: {fault}; {remedy}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
