"""What a provenance in a store is about: an engine by name and digest, and its fingerprint.

A store asks no more of a document than that it belongs to what it lies beside. Whether it is
believed is for `verdict.judge` to say, once the engine is where it is to be.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ..digest import is_sha256, short
from ..errors import StoreError


class _Digest(Struct, frozen=True):
    sha256: str


class _Subject(Struct, frozen=True):
    name: str
    digest: _Digest


class _Internal(Struct, frozen=True):
    fingerprint: str


class _Definition(Struct, frozen=True, rename="camel"):
    internal_parameters: _Internal


class _Predicate(Struct, frozen=True, rename="camel"):
    build_definition: _Definition


class _Statement(Struct, frozen=True):
    """As much of a provenance as says what it is about; `provenance.read` is the judge of it."""

    subject: tuple[_Subject]
    predicate: _Predicate


_STATEMENT = msgspec.json.Decoder(_Statement)


def fingerprint_of(document: bytes, *, name: str, sha256_hex: str) -> str:
    """The fingerprint that a provenance says, if it is about this engine.

    Raises:
        StoreError: It is malformed, or about another engine.
    """
    try:
        statement = _STATEMENT.decode(document)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise StoreError(f"the provenance of {name} is malformed: {error}") from error
    (subject,) = statement.subject
    if (subject.name, subject.digest.sha256) != (name, sha256_hex):
        raise StoreError(
            f"the provenance of {name} is about another engine: {subject.name}, "
            f"{short(subject.digest.sha256)}"
        )
    fingerprint = statement.predicate.build_definition.internal_parameters.fingerprint
    if not is_sha256(fingerprint):
        raise StoreError(f"the provenance of {name} says no fingerprint but {fingerprint[:80]!r}")
    return fingerprint
