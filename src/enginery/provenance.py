"""The provenance: `<engine>.provenance.json`, what an engine was built from, by what, for what.

An in-toto Statement v1 whose subject is the engine and whose predicate is SLSA provenance v1.
The recipe stands in `externalParameters`, its fingerprint beside it. docs/formats.md is the
specification; the formats it builds on are in-toto's attestation framework and slsa.dev's
provenance v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import quote, unquote

import msgspec
from msgspec import Meta

from . import recipe as recipes
from .digest import is_sha256, read_regular
from .errors import IrregularFileError, ProvenanceError
from .recipe import Recipe

SUFFIX = ".provenance.json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:enginery:build:v1"
BUILDER_ID = "urn:enginery:builder:local"
_ON_HOST = "urn:enginery:builder:host:"

_LIMIT = 4 << 20


# RFC 3339 with a time zone.
_Moment = Annotated[datetime, Meta(tz=True)]


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Base of the parts of a statement: strict, immutable, camel case as the standards have it."""


class DigestSet(_Document, frozen=True):
    """in-toto DigestSet with the one algorithm that enginery uses."""

    sha256: str


class Descriptor(_Document, frozen=True):
    """in-toto ResourceDescriptor: a file by name and digest."""

    name: str
    digest: DigestSet


class ExternalParameters(_Document, frozen=True):
    """What the build was asked for: SLSA calls whatever a user controls external."""

    recipe: Recipe


class InternalParameters(_Document, frozen=True):
    """What the builder worked out by itself."""

    fingerprint: str


class BuildDefinition(_Document, frozen=True):
    """SLSA BuildDefinition."""

    build_type: Literal["urn:enginery:build:v1"]
    external_parameters: ExternalParameters
    internal_parameters: InternalParameters
    resolved_dependencies: tuple[Descriptor, ...]


class Builder(_Document, frozen=True):
    """SLSA Builder: who built, with which versions."""

    id: str
    version: dict[str, str]


class Metadata(_Document, frozen=True):
    """SLSA BuildMetadata; times are RFC 3339 in UTC."""

    started_on: _Moment
    finished_on: _Moment


class RunDetails(_Document, frozen=True):
    """SLSA RunDetails."""

    builder: Builder
    metadata: Metadata


class Predicate(_Document, frozen=True):
    """SLSA provenance v1."""

    build_definition: BuildDefinition
    run_details: RunDetails


class Statement(_Document, frozen=True):
    """in-toto Statement v1 about one artifact."""

    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: tuple[Descriptor]
    predicate_type: Literal["https://slsa.dev/provenance/v1"]
    predicate: Predicate

    @property
    def sha256_hex(self) -> str:
        """Digest of the artifact that the statement is about."""
        return self.subject[0].digest.sha256

    @property
    def recipe(self) -> Recipe:
        """What the artifact was built from."""
        return self.predicate.build_definition.external_parameters.recipe

    @property
    def built_on(self) -> datetime:
        """When the artifact was finished."""
        return self.predicate.run_details.metadata.finished_on

    @property
    def build_s(self) -> float:
        """For how many seconds it was made; 0.0 where a clock went back meanwhile."""
        times = self.predicate.run_details.metadata
        return max((times.finished_on - times.started_on).total_seconds(), 0.0)

    @property
    def host(self) -> str | None:
        """The build host of a farm that made the artifact; None where it was made for itself."""
        builder = self.predicate.run_details.builder.id
        return unquote(builder.removeprefix(_ON_HOST)) if builder.startswith(_ON_HOST) else None

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the recipe, as the statement gives it."""
        return self.predicate.build_definition.internal_parameters.fingerprint


def _refuse_float(text: str) -> None:
    raise ValueError(f"{text} is a float, which stands in no recipe")


_DECODER = msgspec.json.Decoder(Statement, float_hook=_refuse_float)


def path_for(path: Path) -> Path:
    """Where the provenance of a file is."""
    return Path(f"{path}{SUFFIX}")


def write_statement(
    path: Path,
    sha256_hex: str,
    recipe: Recipe,
    *,
    dependencies: Mapping[str, str],
    versions: Mapping[str, str],
    started: datetime,
    host: str | None = None,
) -> bytes:
    """The provenance document of an artifact that was built just now.

    Args:
        path: The artifact.
        sha256_hex: Digest of its bytes.
        recipe: What it was built from.
        dependencies: File name to digest of every input.
        versions: Package to version of whatever took part in the build.
        started: When the build began, with a time zone.
        host: The build host of a farm; None where it was built for this host's own use.

    Raises:
        ValueError: The recipe holds what has no canonical spelling.
    """
    recipes.canonical_json(recipe)
    statement = Statement(
        type=STATEMENT_TYPE,
        subject=(Descriptor(name=path.name, digest=DigestSet(sha256_hex)),),
        predicate_type=PREDICATE_TYPE,
        predicate=Predicate(
            build_definition=BuildDefinition(
                build_type=BUILD_TYPE,
                external_parameters=ExternalParameters(recipe=recipe),
                internal_parameters=InternalParameters(fingerprint=recipe.fingerprint),
                resolved_dependencies=_dependencies(dependencies),
            ),
            run_details=RunDetails(
                builder=Builder(
                    id=BUILDER_ID if host is None else _ON_HOST + quote(host, safe=""),
                    version=dict(versions),
                ),
                metadata=Metadata(
                    started_on=_milliseconds(started),
                    finished_on=_milliseconds(datetime.now(timezone.utc)),
                ),
            ),
        ),
    )
    return _encoded(statement)


def renamed(
    statement: Statement, path: Path, sha256_hex: str, *, dependencies: Mapping[str, str]
) -> bytes:
    """The provenance document of an artifact that is another one's bytes under its own name.

    What made those bytes, and when, is what the other's statement says.

    Args:
        statement: The provenance of the other.
        path: The artifact.
        sha256_hex: Digest of its bytes.
        dependencies: File name to digest of every input.
    """
    predicate = statement.predicate
    definition = msgspec.structs.replace(
        predicate.build_definition, resolved_dependencies=_dependencies(dependencies)
    )
    return _encoded(
        msgspec.structs.replace(
            statement,
            subject=(Descriptor(name=path.name, digest=DigestSet(sha256_hex)),),
            predicate=msgspec.structs.replace(predicate, build_definition=definition),
        )
    )


def read(path: Path) -> Statement:
    """The provenance of an artifact.

    Raises:
        ProvenanceError: It is missing, malformed, of an unknown version, about another file, or
            its fingerprint is not that of its own recipe.
    """
    try:
        data = read_regular(path_for(path), limit=_LIMIT)
    except FileNotFoundError as error:
        raise ProvenanceError(f"the provenance of {path.name} is missing") from error
    except (OSError, IrregularFileError) as error:
        raise ProvenanceError(f"the provenance cannot be used: {error}") from error
    return parse(data, path.name)


def parse(document: bytes, artifact: str) -> Statement:
    """A provenance, from its bytes.

    Args:
        document: The bytes.
        artifact: File name of the artifact that it has to be about.

    Raises:
        ProvenanceError: As for `read`.
    """
    name = artifact + SUFFIX
    try:
        statement = _DECODER.decode(document)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProvenanceError(f"{name} is malformed: {error}") from error
    if statement.recipe.version != recipes.VERSION:
        raise ProvenanceError(f"{name} has recipe version {statement.recipe.version}, unknown here")
    if statement.subject[0].name != artifact:
        raise ProvenanceError(f"{name} is for another file, {statement.subject[0].name!r}")
    if not is_sha256(statement.sha256_hex):
        raise ProvenanceError(f"{name} is malformed: the subject's digest is no SHA-256")
    if statement.recipe.fingerprint != statement.fingerprint:
        raise ProvenanceError(f"{name} is malformed: the fingerprint is not that of its recipe")
    named = {
        one.digest.sha256 for one in statement.predicate.build_definition.resolved_dependencies
    }
    if not named <= set(statement.recipe.inputs.values()):
        raise ProvenanceError(f"{name} is malformed: its dependencies are not its recipe's inputs")
    return statement


def _dependencies(files: Mapping[str, str]) -> tuple[Descriptor, ...]:
    return tuple(Descriptor(name=name, digest=DigestSet(digest)) for name, digest in files.items())


def _encoded(statement: Statement) -> bytes:
    return msgspec.json.format(msgspec.json.encode(statement), indent=2) + b"\n"


def _milliseconds(moment: datetime) -> datetime:
    moment = moment.astimezone(timezone.utc)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
