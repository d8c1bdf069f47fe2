"""The explanation of engines as a document: the JSON of `doit why`. docs/inspect.md has the fields.

Fields are never renamed or removed within a version; new ones may come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from .engine_job import EngineJob
from .explanation import EngineDigests, Explanation, InputFile, InputState
from .inputs import InputDigests
from .recipe import Change
from .status_document import EngineDocument, engine_document, text_of

VERSION = 1


class FileDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One input, then and now."""

    role: str
    path: str
    state: InputState
    old: str | None
    new: str | None
    size: int | None
    modified: datetime | None
    also_in: tuple[str, ...]


class StoresDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the stores; the remote one is not asked."""

    local: str | None
    has: bool | None
    reason: str | None
    remote: str | None


class ExplanationDocument(EngineDocument, frozen=True, kw_only=True):
    """One engine, as `doit corpus` has it, with the difference and what follows of it."""

    changes: tuple[Change, ...]
    files: tuple[FileDocument, ...]
    digests: EngineDigests
    stores: StoresDocument
    next: tuple[str, ...]
    used_by: tuple[str, ...]
    remedy: str | None


class StepDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One step before the engines."""

    task: str
    path: str
    fresh: bool
    reason: str
    changes: tuple[Change, ...]
    next: tuple[str, ...]


class WhyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    version: int = VERSION
    engines: tuple[ExplanationDocument, ...]
    steps: tuple[StepDocument, ...] = ()


def explanation_document(
    found: Explanation,
    known: InputDigests,
    *,
    sharing: Mapping[str, Sequence[str]],
    following: Sequence[str],
    used_by: Sequence[str],
    remedy: str | None,
) -> ExplanationDocument:
    """The document of one explanation.

    Args:
        found: The explanation.
        known: Digests of inputs that are known already.
        sharing: Role of an input to the tasks of other engines that have it.
        following: Tasks that run next because of it, in their order.
        used_by: Tasks of others that use the engine.
        remedy: What to do, or None where there is nothing to do.
    """
    engine = engine_document(found.status, known)
    return ExplanationDocument(
        **msgspec.structs.asdict(engine),
        changes=found.changes,
        files=tuple(_file(one, sharing.get(one.role, ())) for one in found.inputs),
        digests=found.digests,
        stores=_stores(found),
        next=tuple(following),
        used_by=tuple(used_by),
        remedy=remedy,
    )


def _file(one: InputFile, also_in: Sequence[str]) -> FileDocument:
    return FileDocument(
        role=text_of(one.role),
        path=text_of(one.path),
        state=one.state,
        old=one.old,
        new=one.new,
        size=one.size,
        modified=one.modified,
        also_in=tuple(also_in),
    )


def _stores(found: Explanation) -> StoresDocument:
    job, answer = found.status.job, found.store
    spec = job.store if isinstance(job, EngineJob) else None
    return StoresDocument(
        local=text_of(spec.path) if spec and spec.path else None,
        has=None if answer is None else answer.has,
        reason=None if answer is None or answer.reason is None else text_of(answer.reason),
        remote=spec.remote if spec else None,
    )
