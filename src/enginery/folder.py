"""A folder of engines, verified: every engine there is believed, or what is wrong is said.

Each engine is hashed and must agree with its sidecar, its provenance and, where the policy wants
one, its signature. That takes no corpus, no runtime and no network: it is for a device, an image
that is about to be shipped, or a script. Nothing on the disk raises, and nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path

import msgspec

from . import filename, provenance, sidecar, signing, trust
from .errors import (
    EngineIntegrityError,
    EngineryError,
    ProvenanceError,
    Sha256SidecarError,
    SignatureError,
)
from .provenance import Statement
from .trust import Policy

_PROOFS = (sidecar.SUFFIX, provenance.SUFFIX, signing.SUFFIX)

_DOCUMENTS = frozenset({"release.json", "release.json.dsse.json"})
"""What a release leaves beside its engines; see release.py."""


class Condition(Enum):
    """What an engine of a folder is."""

    GOOD = "good"
    ABSENT = "absent"
    DAMAGED = "damaged"
    SIDECAR = "sidecar"
    PROVENANCE = "provenance"
    SIGNATURE = "signature"
    FOREIGN = "foreign"


class Finding(msgspec.Struct, frozen=True):
    """What was found of one engine, or of something that is none.

    Attributes:
        path: The engine, or whatever else lies there.
        condition: What it is.
        words: What is wrong, for a person; "good" where nothing is.
        statement: The provenance of a good engine.
    """

    path: Path
    condition: Condition
    words: str
    statement: Statement | None = None

    @property
    def bad(self) -> bool:
        """Whether an engine cannot be believed; something foreign is not an engine."""
        return self.condition not in (Condition.GOOD, Condition.FOREIGN)


def verify_folder(
    folder: Path, policy: Policy | None = None, *, threads: int | None = None
) -> Iterator[Finding]:
    """What is in a folder of engines, in the order of their names.

    Files whose name begins with a dot are left out: they are those of a build that is running.

    Args:
        folder: The folder; it is not searched deeper.
        policy: Whose signatures are demanded, if any; see `read_verified`.
        threads: How many engines are hashed at a time; None for as many as there are cores.

    Raises:
        EngineryError: The folder cannot be read, or a key of the policy cannot be used.
    """
    policy = policy or Policy()
    if policy.demands("remote"):
        trust.read_keys(policy)  # one word about a key, not one for each engine
    try:
        names = {entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")}
    except OSError as error:
        raise EngineryError(
            f"the folder {folder} cannot be read: {error.strerror}; correct the path"
        ) from error
    engines = {engine for engine in map(_engine_of, names) if engine}
    foreign = [name for name in names if not _engine_of(name) and name not in _DOCUMENTS]
    return _findings(folder, sorted(engines), sorted(foreign), policy, threads)


def examine(path: Path, policy: Policy) -> Finding:
    """What an engine is.

    Raises:
        EngineryError: A key of the policy cannot be used.
    """
    if not os.path.lexists(path):
        proofs = [suffix for suffix in _PROOFS if os.path.lexists(f"{path}{suffix}")]
        though = f", though {path.name}{proofs[0]} is" if proofs else ""
        return Finding(path, Condition.ABSENT, f"it is not there{though}")
    try:
        statement = trust.verified(path, policy)
    except EngineIntegrityError as error:
        return Finding(path, _CONDITIONS[type(error)], str(error))
    return Finding(path, Condition.GOOD, "good", statement)


_CONDITIONS = {
    EngineIntegrityError: Condition.DAMAGED,
    Sha256SidecarError: Condition.SIDECAR,
    ProvenanceError: Condition.PROVENANCE,
    SignatureError: Condition.SIGNATURE,
}


def in_threads(threads: int | None) -> ThreadPoolExecutor:
    """Threads for hashing: as many as there are cores, which gain no more beyond eight."""
    return ThreadPoolExecutor(threads or min(os.cpu_count() or 1, 8))


def _findings(
    folder: Path, engines: list[str], foreign: list[str], policy: Policy, threads: int | None
) -> Iterator[Finding]:
    executor = in_threads(threads)
    try:
        yield from executor.map(lambda name: examine(folder / name, policy), engines)
    finally:
        executor.shutdown(cancel_futures=True)  # where nobody wants the rest
    for name in foreign:
        what = "a folder" if (folder / name).is_dir() else "a file"
        yield Finding(folder / name, Condition.FOREIGN, f"{what} that is no engine's")


def _engine_of(name: str) -> str | None:
    """The engine that a file is, or is a proof of; None for what is neither."""
    suffix = next((suffix for suffix in _PROOFS if name.endswith(suffix)), "")
    engine = name.removesuffix(suffix)
    return engine if engine.endswith(filename.SUFFIX) else None
