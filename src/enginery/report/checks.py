"""The reports of accuracy checks that lie in `.enginery/checks`, and whether they still count."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from ..accuracy import Metrics
from ..digest import read_regular
from ..engine_job import EngineJob
from ..errors import EngineryError
from ..inputs import InputDigests
from ..step import Step

_LIMIT = 16 << 20


class CheckReport(msgspec.Struct, frozen=True):
    """A report, as far as it is shown; docs/accuracy.md has the measures.

    Attributes:
        passed: Whether every output was within tolerances.
        missed: Where it was not, in words.
        outputs: Metrics by output.
        tolerances: Name to bound.
        samples: On how many samples the models were run.
        how: Model to its evaluator.
    """

    passed: bool
    missed: tuple[str, ...]
    outputs: dict[str, Metrics]
    tolerances: dict[str, float]
    samples: int
    how: dict[str, str] = {}


class Check(msgspec.Struct, frozen=True):
    """A check that was made once.

    Attributes:
        backbone: The backbone's name.
        precision: The precision.
        target: Target of the engine that was run; None where it was the lowered model.
        path: The report's file.
        report: The report; None where it cannot be read.
        outdated: Why it is not about what is there now; empty where it is.
    """

    backbone: str
    precision: str
    target: str | None
    path: Path
    report: CheckReport | None
    outdated: str = ""


def checks_of(jobs: Iterable[EngineJob], inputs: InputDigests) -> Iterator[Check]:
    """The checks of engines and of the lowered models that they are built from, each once."""
    seen: set[Path] = set()
    for job in jobs:
        path = job.check_path if job.plan.is_lowered else None
        if path is not None and path not in seen and os.path.lexists(path):
            seen.add(path)
            yield _check(job, None, path, job.check, inputs)
        own = job.engine_check_path
        if os.path.lexists(own):
            yield _check(job, job.target, own, job.engine_check, inputs)


def _check(
    job: EngineJob,
    target: str | None,
    path: Path,
    step: Callable[[], Step],
    inputs: InputDigests,
) -> Check:
    return Check(
        backbone=job.name,
        precision=job.request.precision.value,
        target=target,
        path=path,
        report=_read(path),
        outdated=_outdated(step, inputs),
    )


def _outdated(step: Callable[[], Step], inputs: InputDigests) -> str:
    try:
        verdict = step().judge(inputs)
    except (EngineryError, OSError) as error:
        return str(error)
    return "" if verdict.fresh else verdict.reason


def _read(path: Path) -> CheckReport | None:
    try:
        return msgspec.json.decode(read_regular(path, limit=_LIMIT), type=CheckReport)
    except (OSError, EngineryError, msgspec.DecodeError, RecursionError):
        return None  # the page says so
