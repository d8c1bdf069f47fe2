"""The verdict: whether an engine is believed, and if not, why.

An engine is fresh only if its file, its sidecar and its provenance agree with each other and
with the recipe of now. Its bytes are hashed every time: a stat signature would miss bit rot.
Nothing here raises for what lies on the disk, and nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from . import provenance
from .digest import read_regular, sha256_bytes, sha256_file, short
from .errors import EngineIntegrityError, IrregularFileError, ProvenanceError
from .provenance import Statement
from .recipe import Recipe, differences
from .sidecar import Sha256Sidecar

if TYPE_CHECKING:
    from .trust import Policy

# Larger than any engine; a guard against reading a device or a disk image into memory.
_ENGINE_LIMIT = 1 << 40


class Fault(Enum):
    """What is at fault where an artifact is not fresh."""

    NONE = "none"
    ABSENT = "absent"
    SIDECAR = "sidecar"
    PROVENANCE = "provenance"
    RECIPE = "recipe"
    INPUT = "input"
    CHECK = "check"
    SIGNATURE = "signature"


class Verdict(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        fault: What is wrong, `Fault.NONE` where the artifact is fresh.
        reason: Why it is not fresh, in words for a person.
        statement: The provenance of a fresh artifact.
    """

    fault: Fault
    reason: str
    statement: Statement | None = None

    @property
    def fresh(self) -> bool:
        """Whether the artifact may be used as it is."""
        return self.fault is Fault.NONE


def judge(path: Path, recipe: Recipe, *, digest: Callable[[Path], str] = sha256_file) -> Verdict:
    """Whether the artifact at `path` is what `recipe` makes.

    Args:
        path: The artifact.
        recipe: What it should have been built from, digests of now.
        digest: How to hash a file; whoever hashes ahead gives his own.
    """
    if not os.path.lexists(path):
        return Verdict(Fault.ABSENT, "it is not there")
    try:
        actual = _verified_digest(path, digest)
    except EngineIntegrityError as error:
        return Verdict(Fault.SIDECAR, str(error))
    try:
        statement = _verified_statement(path, actual)
    except EngineIntegrityError as error:
        return Verdict(Fault.PROVENANCE, str(error))
    if statement.fingerprint != recipe.fingerprint:
        changes = "; ".join(differences(statement.recipe, recipe))
        return Verdict(Fault.RECIPE, changes or "the recipe changed")
    return Verdict(Fault.NONE, "fresh", statement)


def _verified_digest(path: Path, digest: Callable[[Path], str]) -> str:
    recorded = Sha256Sidecar.read(path)
    try:
        actual = digest(path)
    except (OSError, IrregularFileError) as error:
        raise EngineIntegrityError(f"{path.name} cannot be read: {error}") from error
    return _agreed(path, actual, recorded)


def _agreed(path: Path, actual: str, recorded: str) -> str:
    if actual != recorded:
        raise EngineIntegrityError(
            f"{path.name} is damaged: its bytes are {short(actual)}, "
            f"its sidecar says {short(recorded)}"
        )
    return actual


def _verified_statement(path: Path, actual: str) -> Statement:
    statement = provenance.read(path)
    if statement.sha256_hex != actual:
        raise ProvenanceError(
            f"the provenance of {path.name} is about {short(statement.sha256_hex)}, "
            f"its bytes are {short(actual)}"
        )
    return statement


def read_verified(engine_path: Path | str, policy: Policy | None = None) -> bytes:
    """The bytes of an engine, believed: what to call before deserializing it.

    The file is read once, those very bytes are hashed, and they are returned only if the sidecar
    names their digest and the provenance, where there is one, names it too.

    >>> runtime.deserialize_cuda_engine(read_verified("engines/vit_...engine"))  # doctest: +SKIP

    Args:
        engine_path: The engine.
        policy: Whose signature is demanded; whatever requires one at all requires it here, as
            nobody can tell where a file came from.

    Raises:
        SignatureError: The engine is not signed as the policy wants it.
        EngineryError: A key of the policy cannot be used.
        Sha256SidecarError: The sidecar is missing, malformed or for another file.
        ProvenanceError: There is a provenance, and it is malformed or about other bytes.
        EngineIntegrityError: The engine cannot be read or is not what its sidecar says; all of
            these but EngineryError are kinds of it.
    """
    path = Path(engine_path)
    recorded = Sha256Sidecar.read(path)
    try:
        data = read_regular(path, limit=_ENGINE_LIMIT)
    except (OSError, IrregularFileError) as error:
        raise EngineIntegrityError(f"{path.name} cannot be read: {error}") from error
    actual = _agreed(path, sha256_bytes(data), recorded)
    demanding = policy is not None and policy.demands("remote")
    if demanding or os.path.lexists(provenance.path_for(path)):
        _verified_statement(path, actual)
    if policy is not None and demanding:
        from .trust import check_beside  # not where no signature is demanded

        check_beside(policy, path, actual, origin="remote")
    return data
