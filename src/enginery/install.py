"""Installing a release on a device: all of its engines for one target, verified, or none of them.

A release is put together in a folder of its own and verified there, and only then does `current`
lead to it. The next run takes what is there already: of an interrupted one, and of other releases.
It needs no doit, no onnx and no compiler, and with a folder as the source no network. Where things
lie is in device.py; docs/release.md describes it all.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from . import atomic, device, provenance, release, sidecar, trust
from .device import DeviceFolder
from .digest import sha256_bytes, short
from .errors import EngineIntegrityError, EngineryError
from .folder import in_threads
from .publish import publish
from .release import ReleaseEngine
from .release_source import Documents, FolderSource, Source
from .sidecar import Sha256Sidecar
from .signing import envelope_path
from .trust import Policy

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Installed(msgspec.Struct, frozen=True):
    """A release on a device.

    Attributes:
        folder: The folder with its engines.
        target: The target that they are for.
        digest: Which release it is: SHA-256 of its document.
        engines: Its engines.
        received: How many of them had to be taken from the source.
    """

    folder: Path
    target: str
    digest: str
    engines: tuple[ReleaseEngine, ...]
    received: int = 0


def install(
    document: bytes,
    envelope: bytes | None,
    *,
    target: str,
    into: Path,
    source: Source,
    policy: Policy | None = None,
) -> Installed:
    """Install the engines of one target, and keep the release that was there before.

    Args:
        document: The release.
        envelope: Its DSSE envelope, if it is signed.
        target: Name of the target.
        into: The device's folder; made if it is not there.
        source: What has the engines.
        policy: Whose signatures are demanded, of the release and of each engine; what comes with
            a release comes from elsewhere.

    Raises:
        SignatureError: Release or engine are not signed as the policy wants it.
        EngineIntegrityError: An engine is not what the release names.
        EngineryError: The release is malformed or has no such target, the source has not all of
            it or cannot be reached, or the folder cannot be written. Nothing has changed then.
    """
    wanted = _wanted(document, envelope, target, policy)
    site = DeviceFolder(into)
    with _clearly(into):
        site.make()
        with site.held():
            folder, received = _ready(wanted, site, source)
            site.install(folder)
            site.tidy()
    return wanted.installed(folder, received)


def rollback(into: Path, *, policy: Policy | None = None) -> Installed:
    """Go back to the release before, verified again. The one that is left stays until the next.

    Raises:
        EngineIntegrityError: The release before is damaged, or not signed as the policy wants it.
        EngineryError: There is none, or the folder cannot be written. Nothing has changed then.
    """
    site = DeviceFolder(into)
    if site.current is None:
        raise EngineryError(f"no release is installed in {into}; install one, or correct --into")
    with _clearly(into), site.held():
        before = site.previous
        if before is None or before == site.current:
            raise EngineryError(f"{into} has no release before the one that is installed")
        found = _verified(before, policy)
        site.go_back()
    return found


def installed(into: Path, *, policy: Policy | None = None) -> Installed:
    """The release that is installed, all of it verified again; changes nothing.

    Raises:
        EngineIntegrityError: It is damaged or not signed as the policy wants it; the message
            says all that is wrong.
        EngineryError: There is none.
    """
    current = DeviceFolder(into).current
    if current is None:
        raise EngineryError(f"no release is installed in {into}; install one, or correct --into")
    return _verified(current, policy)


class _Wanted(msgspec.Struct, frozen=True):
    """A release, believed, for one target."""

    document: bytes
    envelope: bytes | None
    target: str
    engines: tuple[ReleaseEngine, ...]
    policy: Policy

    @property
    def digest(self) -> str:
        return sha256_bytes(self.document)

    @property
    def name(self) -> str:
        return device.name_of(self.target, self.digest)

    def installed(self, folder: Path, received: int = 0) -> Installed:
        return Installed(folder, self.target, self.digest, self.engines, received)

    def check(self, path: Path, engine: ReleaseEngine) -> None:
        """Raise EngineIntegrityError unless a file is the engine that the release names."""
        statement = trust.verified(path, self.policy)
        if statement.sha256_hex != engine.sha256:
            raise EngineIntegrityError(f"{path.name} is not the engine that the release names")
        if statement.fingerprint != engine.fingerprint:
            raise EngineIntegrityError(
                f"{path.name} was built from another recipe, {short(statement.fingerprint)}, than "
                f"the release names, {short(engine.fingerprint)}"
            )
        if path.stat().st_size != engine.size:
            raise EngineIntegrityError(
                f"{path.name} has not the {engine.size} bytes that the release names"
            )

    def fault(self, path: Path, engine: ReleaseEngine) -> str | None:
        """What is wrong with an engine; None where it is the one that the release names."""
        try:
            self.check(path, engine)
        except EngineIntegrityError as error:
            return str(error)
        return None

    def faults(self, folder: Path) -> list[str | None]:
        """`fault` of each engine in a folder, in threads."""
        with in_threads(None) as executor:
            return list(executor.map(lambda one: self.fault(folder / one.name, one), self.engines))

    def files(self) -> set[str]:
        """The names of all files that an installed release has."""
        documents = Path(release.FILE_NAME)
        engines = (Path(engine.name) for engine in self.engines)
        return {
            path.name
            for one in (documents, *engines)
            for path in (one, sidecar.path_for(one), provenance.path_for(one), envelope_path(one))
        }


def _wanted(document: bytes, envelope: bytes | None, target: str, policy: Policy | None) -> _Wanted:
    policy = policy or Policy()
    trust.check_document(
        policy,
        document=document,
        envelope=envelope,
        payload_type=release.MEDIA_TYPE,
        name="the release",
        origin="remote",
    )
    engines = release.read(document).of_target(target)
    return _Wanted(document, envelope, target, engines, policy)


def _verified(folder: Path, policy: Policy | None) -> Installed:
    target, digest = device.parsed(folder)
    document, envelope = release.read_file(folder)
    wanted = _wanted(document, envelope, target, policy)
    faults = [fault for fault in wanted.faults(folder) if fault]
    if wanted.digest != digest:
        faults.insert(0, f"{folder / release.FILE_NAME} is another release")
    if faults:
        raise EngineIntegrityError(
            f"the release in {folder} is damaged: {'; '.join(faults)}; install it again"
        )
    return wanted.installed(folder)


@contextmanager
def _clearly(into: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EngineryError(
            f"the release cannot be written to {into}: {error.strerror or error}; "
            "what was installed there is as it was"
        ) from error


def _ready(wanted: _Wanted, site: DeviceFolder, source: Source) -> tuple[Path, int]:
    """A folder with the release, whole and verified, and how many engines the source gave."""
    complete = site.complete()
    for folder in complete:
        if device.parsed(folder) == (wanted.target, wanted.digest) and _is_whole(folder, wanted):
            return folder, 0
    partial = site.partial(wanted.name)
    try:
        received = _collect(wanted, partial, complete, source)
    except (OSError, EngineryError) as error:
        if _is_full(error):
            device.discard(partial)  # nobody wants his disk to stay full
        raise
    return site.finish(partial, wanted.name), received


def _is_whole(folder: Path, wanted: _Wanted) -> bool:
    try:
        _verified(folder, wanted.policy)
        _, envelope = release.read_file(folder)
    except EngineryError:
        return False
    return envelope == wanted.envelope  # signed again, its engines are too


def _collect(wanted: _Wanted, partial: Path, complete: Iterable[Path], source: Source) -> int:
    """Put together what is not there yet; how many engines the source gave."""
    received = 0
    for engine, fault in zip(wanted.engines, wanted.faults(partial), strict=True):
        path = partial / engine.name
        if fault and not _reused(wanted, engine, path, complete, source):
            _take(engine, path, source, source.documents(engine))
            wanted.check(path, engine)
            received += 1
    path = partial / release.FILE_NAME
    atomic.write_atomically(path, wanted.document)
    _write_envelope(path, wanted.envelope)
    for stray in set(partial.iterdir()).difference(partial / name for name in wanted.files()):
        device.discard(stray)
    return received


def _reused(
    wanted: _Wanted, engine: ReleaseEngine, path: Path, complete: Iterable[Path], source: Source
) -> bool:
    """Whether a release on the device has the engine too, and it was taken from there.

    Its documents are the source's, if it has some: another key may have signed it since.
    """
    for folder in complete:
        with suppress(EngineryError):
            if Sha256Sidecar.read(folder / engine.name) != engine.sha256:
                continue
            here = FolderSource(folder)
            for documents in (source, here):
                with suppress(EngineryError):
                    _take(engine, path, here, documents.documents(engine))
                    wanted.check(path, engine)
                    return True
    return False


def _take(engine: ReleaseEngine, path: Path, source: Source, documents: Documents) -> None:
    with atomic.staged(path) as temporary:
        source.copy(engine, temporary)
        publish(temporary, path, engine.sha256, documents.provenance, documents.envelope)


def _write_envelope(path: Path, envelope: bytes | None) -> None:
    envelope_path(path).unlink(missing_ok=True)
    if envelope is not None:
        atomic.write_atomically(envelope_path(path), envelope)


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False
