"""A release: what a team ships at one time, every engine of a corpus for a set of targets.

One JSON document names each engine by file name, fingerprint and digest, and each target by its
hardware and runtime. It has one spelling, so its digest is its identity; one signature over it
vouches for all of it. docs/release.md describes it and docs/formats.md specifies it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from . import trust
from .config import PrecisionMode
from .digest import is_sha256, read_regular, sha256_bytes
from .envelope import read_envelope
from .errors import EngineIntegrityError, EngineryError, IrregularFileError
from .filename import EngineFilenameSchema, EngineTag
from .recipe import canonical_json

SCHEMA: Final = 1
MEDIA_TYPE: Final = "application/vnd.enginery.release+json"
FILE_NAME = "release.json"
LIMIT = 16 << 20
"""Largest release in bytes that is read; some 30,000 engines."""

_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the parts of a release: strict and immutable."""


class ReleaseTarget(_Part, frozen=True):
    """Hardware and runtime that engines are for.

    Attributes:
        sm: Compute capabilities, ascending; none for a CPU.
        jetpack: JetPack version, or None.
        cpu: Architecture and feature level of a CPU, or None.
        runtime: Name of the runtime; None where the builder did not say.
        version: The runtime's full version: TensorRT's with its build number.
    """

    sm: tuple[int, ...]
    jetpack: str | None
    cpu: str | None
    runtime: str | None
    version: str


class ReleaseEngine(_Part, frozen=True):
    """One engine.

    Attributes:
        name: Its file name.
        model: The backbone's name.
        precision: What it computes in.
        target: Name of the target that it is for.
        fingerprint: Fingerprint of its recipe.
        sha256: Digest of its bytes.
        size: Their number.
    """

    name: str
    model: str
    precision: PrecisionMode
    target: str
    fingerprint: str
    sha256: str
    size: Annotated[int, Meta(ge=0)]


class Release(_Part, frozen=True):
    """A release, checked.

    Attributes:
        targets: The targets by name.
        engines: The engines, in the order of their names.
        schema: Version of this format.
    """

    targets: dict[str, ReleaseTarget]
    engines: tuple[ReleaseEngine, ...]
    schema: int = SCHEMA

    def document(self) -> bytes:
        """The release as it is written, signed and pushed: its one spelling."""
        return canonical_json(self)

    @property
    def digest(self) -> str:
        """SHA-256 of the document, in hex: which release it is."""
        return sha256_bytes(self.document())

    def of_target(self, target: str) -> tuple[ReleaseEngine, ...]:
        """The engines of one target.

        Raises:
            EngineryError: There is no such target; the message says which there are.
        """
        if target not in self.targets:
            from .corpus_tables import nearest  # only where something is wrong

            guess = nearest(target, self.targets)
            hint = f"{guess}; " if guess else ""
            raise EngineryError(
                f"the release has no target {target!r}; {hint}it has "
                f"{', '.join(sorted(self.targets))}"
            )
        return tuple(engine for engine in self.engines if engine.target == target)


def describe(target: str, path: Path) -> tuple[ReleaseTarget, ReleaseEngine]:
    """What a release says of an engine, which is verified for it.

    Args:
        target: Name of the target in the corpus.
        path: The engine, with its sidecar and provenance.

    Raises:
        EngineIntegrityError: It is not what sidecar and provenance say, or cannot be read.
        EngineryError: Its file name is no engine's.
    """
    statement = trust.verified(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise EngineIntegrityError(f"{path.name} cannot be read: {error}") from error
    try:
        tag = EngineFilenameSchema.parse(path.name)
    except ValueError as error:
        raise EngineryError(f"{error}; a release holds engines under their own names") from error
    hardware = ReleaseTarget(
        sm=_capabilities(tag),
        jetpack=tag.jetpack,
        cpu=tag.cpu,
        runtime=statement.recipe.toolchain.get("runtime"),
        version=tag.trt,
    )
    engine = ReleaseEngine(
        name=path.name,
        model=tag.model_name,
        precision=tag.precision,
        target=target,
        fingerprint=statement.fingerprint,
        sha256=statement.sha256_hex,
        size=size,
    )
    return hardware, engine


def make(described: Iterable[tuple[ReleaseTarget, ReleaseEngine]]) -> Release:
    """A release of engines, each as `describe` has it.

    Raises:
        EngineryError: Two of them do not fit together, or there is none.
    """
    targets: dict[str, ReleaseTarget] = {}
    engines = []
    for target, engine in described:
        if targets.setdefault(engine.target, target) != target:
            raise EngineryError(
                f"{engine.name} is not for the hardware and version that other engines of the "
                f"target {engine.target} are for; release one or the other"
            )
        engines.append(engine)
    engines.sort(key=lambda engine: engine.name)
    release = Release(targets=targets, engines=tuple(engines))
    if fault := _fault(release):
        raise EngineryError(f"this makes no release: {fault}")
    return release


def read(document: bytes, what: str = "the release") -> Release:
    """A release from its document, strictly.

    Args:
        document: The bytes.
        what: What to call it in a message, such as its path.

    Raises:
        EngineryError: It is malformed, of an unknown version, or not in its one spelling.
    """
    try:
        version = msgspec.json.decode(document, type=_Versioned).schema
        if version != SCHEMA:
            raise EngineryError(
                f"{what} has schema {version}, this enginery reads {SCHEMA}; install one that does"
            )
        release = msgspec.json.decode(document, type=Release)
        fault = _fault(release)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise EngineryError(f"{what} is malformed: {error}; get it again") from error
    if fault is None and release.document() != document:
        fault = "it is not in the one spelling that a release has"
    if fault:
        raise EngineryError(f"{what} is malformed: {fault}; get it again")
    return release


def read_file(path: Path) -> tuple[bytes, bytes | None]:
    """The document of a release and, where there is one beside it, its envelope.

    Args:
        path: The document, or a folder with one called `release.json`.

    Raises:
        EngineryError: It is missing, cannot be read or is too large.
        SignatureError: The envelope cannot be read.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        document = read_regular(file, limit=LIMIT, follow_symlinks=True)
    except FileNotFoundError as error:
        raise EngineryError(f"there is no release {file}; correct the path") from error
    except (OSError, IrregularFileError) as error:
        raise EngineryError(f"the release {file} cannot be read: {error}") from error
    return document, read_envelope(file)


class _Versioned(msgspec.Struct, frozen=True):
    """As much of any release as says how to read the rest."""

    schema: int


def _fault(release: Release) -> str | None:
    """What is wrong with a release whose types are right."""
    if not release.engines:
        return "it names no engine"
    names = [engine.name for engine in release.engines]
    if any(before >= after for before, after in pairwise(names)):
        return "its engines are not in the order of their names, each once"
    if unused := set(release.targets).difference(engine.target for engine in release.engines):
        return f"its target {sorted(unused)[0]} has no engine"
    return next(filter(None, (_engine_fault(release, engine) for engine in release.engines)), None)


def _engine_fault(release: Release, engine: ReleaseEngine) -> str | None:
    target = release.targets.get(engine.target)
    if target is None or not _TARGET.fullmatch(engine.target):
        return f"{engine.name} is for {engine.target!r}, which is no target of it"
    if not (is_sha256(engine.fingerprint) and is_sha256(engine.sha256)):
        return f"fingerprint or digest of {engine.name} is no SHA-256"
    tag = EngineFilenameSchema.parse(engine.name)  # ValueError for what is no plain file name
    said = (tag.model_name, tag.precision, _capabilities(tag), tag.jetpack, tag.cpu, tag.trt)
    meant = (
        *(engine.model, engine.precision, target.sm),
        *(target.jetpack, target.cpu, target.version),
    )
    return None if said == meant else f"{engine.name} is not what its name says"


def _capabilities(tag: EngineTag) -> tuple[int, ...]:
    return (tag.sm,) if isinstance(tag.sm, int) else tag.sm
