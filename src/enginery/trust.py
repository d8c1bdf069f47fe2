"""Trust: whose signature is demanded before something is believed, and whether it is there.

A signature is believed if one of the policy's keys made it over the very bytes of the provenance
that lies beside the engine, and that provenance names the engine's digest and the engine's own
file. So a signature does not go along when an engine is renamed, is moved to another hardware's
name or is replaced. Nothing here loads a package for signatures unless one is demanded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from . import provenance
from .digest import read_regular, sha256_file, short
from .envelope import TrustedKey, opened, read_envelope, read_key
from .errors import EngineIntegrityError, IrregularFileError, ProvenanceError, SignatureError
from .provenance import Statement
from .sidecar import Sha256Sidecar
from .signing import PROVENANCE_TYPE
from .verdict import Fault, Verdict

Origin = Literal["local", "remote"]
"""Where something came from: built here, or received from somewhere else."""

_PROVENANCE_LIMIT = 4 << 20

_DEMANDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "remote": ("remote",),
    "all": ("local", "remote"),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What must be signed, and by whom.

    Attributes:
        keys: PEM files of public keys, each one trusted alone: several while one takes over from
            another.
        require: What must be signed: nothing, what comes from elsewhere, or everything.
    """

    keys: tuple[Path, ...] = ()
    require: Literal["none", "remote", "all"] = "none"

    def __post_init__(self) -> None:
        if self.require not in _DEMANDS:
            raise ValueError(f"require {self.require!r} is unknown; write none, remote or all")
        if self.require != "none" and not self.keys:
            raise ValueError(f"require {self.require!r} needs keys; name one public key or several")

    def demands(self, origin: Origin) -> bool:
        """Whether what came from there must be signed."""
        return origin in _DEMANDS[self.require]


def read_keys(policy: Policy) -> tuple[TrustedKey, ...]:
    """The keys of a policy.

    Raises:
        EngineryError: One of them is missing or is no public key of a kind that is used here; or
            a package is missing that it takes.
    """
    return tuple(map(read_key, policy.keys))


def verified(path: Path, policy: Policy | None = None) -> Statement:
    """The provenance of an engine whose bytes, sidecar, provenance and signature agree.

    It is `read_verified` for who does not need the bytes: they are hashed piece by piece, and a
    provenance is demanded.

    Args:
        path: The engine.
        policy: Whose signature is demanded; whatever requires one at all requires it here.

    Raises:
        EngineIntegrityError: They do not agree, or one of them is missing or cannot be read; its
            kinds say which.
        EngineryError: A key of the policy cannot be used.
    """
    recorded = Sha256Sidecar.read(path)
    try:
        actual = sha256_file(path)
    except (OSError, IrregularFileError) as error:
        raise EngineIntegrityError(f"{path.name} cannot be read: {error}") from error
    if actual != recorded:
        raise EngineIntegrityError(
            f"{path.name} is damaged: its bytes are {short(actual)}, "
            f"its sidecar says {short(recorded)}"
        )
    statement = provenance.read(path)
    if statement.sha256_hex != actual:
        raise ProvenanceError(
            f"the provenance of {path.name} is about {short(statement.sha256_hex)}, "
            f"its bytes are {short(actual)}"
        )
    check_beside(policy or Policy(), path, actual, origin="remote")
    return statement


def check(
    policy: Policy,
    *,
    document: bytes,
    envelope: bytes | None,
    engine_sha256: str,
    engine_name: str,
    origin: Origin,
) -> None:
    """Raise unless an engine is signed as the policy wants it.

    Args:
        policy: What must be signed.
        document: The provenance that lies beside the engine, byte for byte.
        envelope: The DSSE envelope that lies beside it, or None.
        engine_sha256: Digest of the engine's bytes, worked out now.
        engine_name: The engine's file name.
        origin: Where the engine came from.

    Raises:
        SignatureError: It is not; the message says why.
        EngineryError: A key of the policy cannot be used.
    """
    if not policy.demands(origin):
        return
    _check_signed(policy, document, envelope, PROVENANCE_TYPE, engine_name)
    try:
        statement = msgspec.json.decode(document, type=Statement)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SignatureError(
            f"what was signed for {engine_name} is no provenance: {error}"
        ) from error
    if statement.subject[0].name != engine_name:
        raise SignatureError(
            f"the signature beside {engine_name} is for another file, {statement.subject[0].name!r}"
        )
    if statement.sha256_hex != engine_sha256:
        raise SignatureError(
            f"the signature of {engine_name} is about {short(statement.sha256_hex)}, "
            f"its bytes are {short(engine_sha256)}"
        )


def judged(policy: Policy, path: Path, verdict: Verdict) -> Verdict:
    """A verdict, with what the policy says of the signature of an engine that is fresh."""
    if verdict.statement is None or not policy.demands("local"):
        return verdict
    try:
        check_beside(policy, path, verdict.statement.sha256_hex, origin="local")
    except SignatureError as error:
        return Verdict(Fault.SIGNATURE, str(error))
    return verdict


def check_beside(policy: Policy, path: Path, engine_sha256: str, *, origin: Origin) -> None:
    """`check` for an engine with the documents that lie beside it.

    Raises:
        SignatureError: It is not signed as the policy wants it.
        EngineryError: A key of the policy cannot be used.
    """
    if not policy.demands(origin):
        return
    try:
        document = read_regular(provenance.path_for(path), limit=_PROVENANCE_LIMIT)
    except (OSError, IrregularFileError) as error:
        raise SignatureError(f"the provenance of {path.name} cannot be read: {error}") from error
    check(
        policy,
        document=document,
        envelope=read_envelope(path),
        engine_sha256=engine_sha256,
        engine_name=path.name,
        origin=origin,
    )


def check_document(
    policy: Policy,
    *,
    document: bytes,
    envelope: bytes | None,
    payload_type: str,
    name: str,
    origin: Origin,
) -> None:
    """Raise unless a document that is no provenance is signed as the policy wants it.

    Raises:
        SignatureError: It is not; the message says why.
        EngineryError: A key of the policy cannot be used.
    """
    if policy.demands(origin):
        _check_signed(policy, document, envelope, payload_type, name)


def _check_signed(
    policy: Policy, document: bytes, envelope: bytes | None, payload_type: str, name: str
) -> None:
    if envelope is None:
        raise SignatureError(f"{name} is not signed; sign it, or get it from where it is signed")
    keys = read_keys(policy)
    if opened(envelope, keys, payload_type, name) != document:
        raise SignatureError(
            f"the signature beside {name} is about another document than the one beside it; "
            "sign it again, or get all its files from one place"
        )
