"""What TensorRT logs as an error, kept for whoever has to say why a build failed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ..errors import EngineBuildError

GPU_ADVICE = "see that the NVIDIA driver works and that this process may use the GPU"

# What to do about the failures that people meet most, by the words of TensorRT's log.
_ADVICE = (
    (
        r"CUDA initialization failure|no CUDA-capable device|driver version is insufficient",
        GPU_ADVICE,
    ),
    (r"out ?of ?memory|insufficient memory", "free memory of the GPU, or lower workspace_mb"),
    (
        r"could not find any implementation",
        "raise workspace_mb, or take back options that leave TensorRT fewer tactics",
    ),
)

# A build can log an error for each of thousands of tactics.
_WARNING_LENGTH = 500


class Log:
    """The errors of a build, and what a person should hear of one that went well.

    Attributes:
        sink: The logger for TensorRT's objects.
        errors: What was logged as an error, a line each.
        warnings: What is to be told where the build goes well.
    """

    def __init__(self, trt: ModuleType) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.sink = _sink(trt, self.errors)

    def words(self, longest: int | None = None) -> str:
        """The errors, and what to do about them, in one line; empty where there are none.

        Args:
            longest: How many characters of the errors are told; all without it.
        """
        told = "; ".join(dict.fromkeys(self.errors))
        advice = (words for known, words in _ADVICE if re.search(known, told, re.IGNORECASE))
        if longest is not None and len(told) > longest:
            told = f"{told[:longest]} ..."
        return "; ".join(filter(None, (told, next(advice, ""))))

    def check(self) -> None:
        """Fail where there are errors.

        Raises:
            EngineBuildError: There are; the message is `words`.
        """
        if self.errors:
            raise EngineBuildError(self.words())

    def overlook(self, about: str) -> None:
        """The errors so far fail nothing: they become a warning that begins with `about`."""
        if self.errors:
            self.warnings.append(f"{about}: {self.words(_WARNING_LENGTH)}")
            self.errors.clear()

    @contextmanager
    def set_aside(self, about: Callable[[str], None]) -> Iterator[None]:
        """What is logged meanwhile fails nothing; `about` is told of it."""
        before = len(self.errors)
        try:
            yield
        finally:
            told = "; ".join(dict.fromkeys(self.errors[before:]))
            del self.errors[before:]
            if told:
                about(told)


def one_line(text: str) -> str:
    """A text without line breaks or runs of spaces."""
    return " ".join(text.split())


def _sink(trt: ModuleType, errors: list[str]) -> Any:
    """TensorRT's logger of this module, made here because its base class is in the module."""

    class Sink(trt.ILogger):  # type: ignore[misc, name-defined]
        """Keeps what went wrong."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(one_line(message))

    return Sink()
