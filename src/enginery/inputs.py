"""Digests of the inputs: the ONNX, its external data, the calibration cache.

Inputs are files that people edit, so a stat signature tells whether one changed (engines are
hashed every time; see verdict.py). As in git, a digest is remembered only if the file was last
changed well before it was hashed: a file changed twice within one tick of the file system's
clock has one signature for two contents.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from .atomic import write_atomically
from .digest import read_regular, sha256_file
from .errors import BackboneSpecError, CalibrationCacheError, EngineBuildError, EngineryError
from .external_data import external_data_locations
from .recipe import EXTERNAL

_FORMAT = 1
_LIMIT = 64 << 20

# Coarsest clock of a file system in use (FAT: 2 s), in nanoseconds.
_RACY_NS = 2_000_000_000


class _Remembered(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A digest, the signature of the file that it was taken of, and the external data found."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str
    external_data: tuple[str, ...] | None = None

    def signs(self, info: os.stat_result) -> bool:
        return (self.size, self.mtime_ns, self.ctime_ns, self.inode) == _signature(info)


class _Memory(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    files: dict[str, _Remembered]


class InputDigests:
    """Digests of input files, remembered from run to run where a memory file is given.

    Within one run every digest is remembered by the file's signature: whoever builds looks again
    with a new object before he publishes.

    A memory that is missing, damaged or of another version is an empty one: it saves time and
    nothing rests on it.
    """

    def __init__(self, memory: Path | None = None) -> None:
        self._memory = memory
        self._remembered = _load(memory) if memory else {}
        self._unsettled: dict[str, _Remembered] = {}
        self._changed = False

    def of_model(self, onnx_path: Path) -> dict[str, str]:
        """Role to digest for an ONNX and every external-data file that it names.

        Raises:
            BackboneSpecError: The ONNX is missing or cannot be read.
            EngineBuildError: External data is missing or cannot be read.
        """
        try:
            entry = self._entry(onnx_path, scan=True)
        except (OSError, ValueError, EngineryError) as error:
            raise BackboneSpecError(
                f"the ONNX {onnx_path} {_trouble(error)}; put the model there or correct the path",
                field="onnx",
            ) from error
        return {"onnx": entry.sha256, **dict(self._external(onnx_path, entry.external_data or ()))}

    def external_data(self, onnx_path: Path) -> tuple[str, ...]:
        """Locations of the external data that an ONNX names; its own files are not read.

        Raises:
            EngineryError: The ONNX is no regular file.
            OSError: It is missing or cannot be read.
            ValueError: Its path is none.
        """
        return self._entry(onnx_path, scan=True).external_data or ()

    def of_calibration(self, path: Path) -> str:
        """Digest of a calibration cache.

        Raises:
            CalibrationCacheError: It is missing or cannot be read.
        """
        return self._of_file(path, f"the calibration cache {path}", CalibrationCacheError)

    def of_data(self, path: Path) -> str:
        """Digest of a file with data, a plugin or code.

        Raises:
            EngineBuildError: It is missing or cannot be read.
        """
        return self._of_file(path, str(path), EngineBuildError)

    def _of_file(self, path: Path, what: str, kind: type[EngineryError]) -> str:
        try:
            return self._entry(path).sha256
        except (OSError, ValueError, EngineryError) as error:
            raise kind(f"{what} {_trouble(error)}; put it there or correct the path") from error

    def save(self) -> None:
        """Write the memory, if there is one and it changed; a folder that is read-only is fine."""
        if self._memory is None or not self._changed:
            return
        try:
            document = msgspec.json.encode(_Memory(format=_FORMAT, files=self._remembered))
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._memory, document)
        except (OSError, UnicodeEncodeError):
            # Nothing rests on the memory: the next run hashes again. JSON has no spelling for a
            # path that is no UTF-8.
            return
        self._changed = False

    def _external(self, onnx_path: Path, locations: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for location in locations:
            path = onnx_path.parent / location
            try:
                yield EXTERNAL + location, self._entry(path).sha256
            except (OSError, ValueError, EngineryError) as error:
                raise EngineBuildError(
                    f"external data {path} of {onnx_path.name} {_trouble(error)}; "
                    "put it beside the ONNX, or export the model again"
                ) from error

    def _entry(self, path: Path, *, scan: bool = False) -> _Remembered:
        key = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links, and is slow
        info = path.stat()
        known = self._unsettled.get(key) or self._remembered.get(key)
        if known and known.signs(info) and (known.external_data is not None or not scan):
            return known
        started_ns = time.time_ns()
        digest = sha256_file(path, follow_symlinks=True)
        found = external_data_locations(path) if scan else None
        entry = _Remembered(*_signature(info), digest, found)
        settled = max(info.st_mtime_ns, info.st_ctime_ns) + _RACY_NS < started_ns
        if _signature(path.stat()) == _signature(info):
            (self._remembered if settled else self._unsettled)[key] = entry
            self._changed |= settled
        return entry


def _signature(info: os.stat_result) -> tuple[int, int, int, int]:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino


def _load(memory: Path) -> dict[str, _Remembered]:
    try:
        document = msgspec.json.decode(read_regular(memory, limit=_LIMIT), type=_Memory)
    except (OSError, EngineryError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return document.files if document.format == _FORMAT else {}


def _trouble(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is not there"
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"
