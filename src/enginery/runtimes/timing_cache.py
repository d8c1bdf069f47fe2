"""The timing cache: what TensorRT measured in one build, kept for the next.

"The information it contains is specific to the targeted device, CUDA, TensorRT versions" (NVIDIA,
Optimizing Builder Performance), so there is one for each of these. It makes builds faster and is
never part of an engine's trust: whatever is wrong with it costs time and fails no build.

The file is the SHA-256 of what TensorRT serialized, in hex, a newline, and those bytes: TensorRT
is never given torn ones, and a reader needs no lock.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import atomic
from ..digest import read_regular, sha256_bytes
from ..errors import IrregularFileError
from ..locks import locked
from .tensorrt_log import Log

# Compiled code is in it, too, so hundreds of MB are possible; what is larger is something else.
_LIMIT = 4 << 30

_HEADER = 65


class TimingCache:
    """The timing cache for one build.

    Attributes:
        path: Where it is kept.
    """

    def __init__(self, path: Path, log: Log) -> None:
        self.path = path
        self._log = log
        self._known = b""
        self._warned = False

    def attach(self, config: Any) -> None:
        """Give the builder's configuration what earlier builds measured."""
        self._known = self._read(self._is_not_used)
        if not self._known:
            return
        with self._log.set_aside(self._is_not_used):
            cache = config.create_timing_cache(self._known)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return
            self._known = b""
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
        self._is_not_used("it is not of this GPU, CUDA and TensorRT")

    def save(self, config: Any) -> None:
        """Keep what this build measured, with what other builds kept meanwhile."""
        cache = config.get_timing_cache()
        if cache is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path), self._log.set_aside(self._is_replaced):
                atomic.clear_leftovers([self.path])
                kept = self._read(self._is_replaced)
                if kept != self._known:
                    other = config.create_timing_cache(kept)
                    # Where another GPU wrote the file, what is here replaces it.
                    if other is not None:
                        cache.combine(other, ignore_mismatch=False)
                data = bytes(cache.serialize())
                if data != kept:
                    header = sha256_bytes(data).encode() + b"\n"
                    atomic.write_atomically(self.path, header + data)
        except OSError as error:
            self._warn(
                f"cannot be written: {error}; the next build measures anew what this one did"
            )

    def _read(self, tell: Callable[[str], None]) -> bytes:
        """What is kept, or nothing where that cannot be believed; `tell` is told why."""
        try:
            content = read_regular(self.path, limit=_LIMIT)
        except FileNotFoundError:
            return b""
        except (OSError, IrregularFileError) as error:
            tell(f"it cannot be read: {error}")
            return b""
        data = content[_HEADER:]
        if content[:_HEADER] != sha256_bytes(data).encode() + b"\n":
            tell("it is damaged")
            return b""
        return data

    def _is_not_used(self, why: str) -> None:
        self._warn(f"is not used: {why}; builds take longer until it is written anew")

    def _is_replaced(self, why: str) -> None:
        self._warn(f"is written anew: {why}; what other builds kept in it is measured again")

    def _warn(self, what: str) -> None:
        """One line for a build, whatever else goes wrong with the cache."""
        if not self._warned:
            self._warned = True
            self._log.warnings.append(f"the timing cache {self.path} {what}")
