"""The state of a corpus as a document: the JSON of `doit corpus`. docs/inspect.md has the fields.

Fields are never renamed or removed within a version; new ones may come.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from .config import PrecisionMode
from .engine_job import EngineJob
from .errors import EngineryError
from .inputs import InputDigests
from .status import Condition, EngineStatus, Signature

VERSION = 1


class HardwareDocument(msgspec.Struct, frozen=True):
    """What an engine is for."""

    sm: tuple[int, ...]
    jetpack: str | None
    version: str
    cpu: str | None


class EngineDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One engine; see docs/inspect.md."""

    corpus: str
    task: str
    backbone: str
    target: str
    precision: PrecisionMode
    runtime: str
    hardware: HardwareDocument | None
    path: str | None
    condition: Condition
    reason: str
    built_here: bool
    elsewhere: str | None
    left_out: bool
    size: int | None
    sha256: str | None
    fingerprint: str | None
    fingerprint_now: str | None
    inputs: dict[str, str] | None
    built_on: datetime | None
    build_s: float | None
    built_by: str | None
    signature: Signature


class CountsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """How many engines there are of each kind, and what they take together."""

    engines: int
    fresh: int
    stale: int
    missing: int
    damaged: int
    unsigned: int
    elsewhere: int
    left_out: int
    size: int
    build_s: float


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The state of all corpora of a dodo.py."""

    version: int = VERSION
    engines: tuple[EngineDocument, ...]
    aliases: dict[str, str]
    counts: CountsDocument


def engine_document(status: EngineStatus, known: InputDigests) -> EngineDocument:
    """The document of one engine."""
    job, statement = status.job, status.of_file
    return EngineDocument(
        corpus=text_of(job.corpus_path),
        task=job.task,
        backbone=job.name,
        target=job.target,
        precision=status.precision,
        runtime=job.runtime,
        hardware=_hardware(job) if isinstance(job, EngineJob) else None,
        path=text_of(job.plan.path) if isinstance(job, EngineJob) else None,
        condition=status.condition,
        reason=text_of(status.reason),
        built_here=job.elsewhere is None,
        elsewhere=job.elsewhere,
        left_out=status.left_out,
        size=status.size,
        sha256=statement.sha256_hex if statement else None,
        fingerprint=statement.fingerprint if statement else None,
        fingerprint_now=_fingerprint(job, known) if isinstance(job, EngineJob) else None,
        inputs=statement.recipe.inputs if statement else None,
        built_on=status.built_on,
        build_s=status.build_s,
        built_by=statement.host if statement else None,
        signature=status.signature,
    )


def counts(states: Iterable[EngineStatus]) -> CountsDocument:
    """How many there are of each kind; one that is left out counts as that and nothing else.

    Size and build time are those of the files that are there.
    """
    found = list(states)
    kinds = ["left_out" if one.left_out else one.condition.value for one in found]
    return CountsDocument(
        engines=len(found),
        left_out=kinds.count("left_out"),
        size=sum(one.size or 0 for one in found),
        build_s=round(sum(one.build_s or 0.0 for one in found), 3),
        **{condition.value: kinds.count(condition.value) for condition in Condition},
    )


def text_of(what: object) -> str:
    """As text that JSON has a spelling for: a path need not be UTF-8."""
    return str(what).encode("utf-8", "backslashreplace").decode()


def encoded(what: Any) -> str:
    """A document as JSON for files and people."""
    return msgspec.json.format(msgspec.json.encode(what), indent=2).decode()


def _hardware(job: EngineJob) -> HardwareDocument:
    host = job.request.host
    return HardwareDocument(host.capabilities, host.jetpack, host.trt, host.cpu)


def _fingerprint(job: EngineJob, known: InputDigests) -> str | None:
    try:
        return job.plan.recipe(known).fingerprint
    except EngineryError:
        return None
