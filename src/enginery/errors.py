"""Every error that enginery raises on purpose.

One root, so that a caller can catch `EngineryError`; below it one class per kind of thing that
can be wrong, because each has another remedy and doit another exit code for it. A message says
what happened, to which file, and what to do next.
"""

from __future__ import annotations


class EngineryError(Exception):
    """The root of all errors that enginery raises on purpose."""


class CorpusError(EngineryError):
    """A corpus file is wrong. The message is one line: file, key, fault, remedy."""


class RuntimeUnavailableError(EngineryError):
    """A runtime is unknown or not installed. The message names the package or extra to install."""


class HostError(EngineryError):
    """What this machine is cannot be found out, or was declared wrongly."""


class IrregularFileError(EngineryError):
    """A path that should be a plain file is a directory, a FIFO, a symlink, or too large."""


class EngineIntegrityError(EngineryError):
    """An engine is not what its sidecar says, or what it says cannot be found out."""


class Sha256SidecarError(EngineIntegrityError):
    """A sidecar is missing or malformed."""


class SignatureError(EngineIntegrityError):
    """An engine is not signed as the policy wants it, or its signature is not about it."""


class ProvenanceError(EngineIntegrityError):
    """A provenance document is missing, malformed or of an unknown version."""


class EngineBuildError(EngineryError):
    """An engine could not be built; the message carries the parser's or builder's own words."""


class ElsewhereError(EngineBuildError):
    """An engine cannot be built on this host; the message says on which it can."""


class InputChangedError(EngineBuildError):
    """An input changed while its engine was being built; nothing was published."""


class BackboneSpecError(EngineBuildError):
    """A backbone's description does not fit its model, or its model cannot be read.

    Attributes:
        field: The field of the description at fault, spelled as in corpus.toml.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle their args only; a keyword would be lost on the way out of doit's
        # worker processes.
        return _rebuild_spec_error, (str(self), self.field)


def _rebuild_spec_error(message: str, field: str) -> BackboneSpecError:
    return BackboneSpecError(message, field=field)


class CalibrationCacheError(EngineryError):
    """A calibration cache is missing or cannot be used for its model."""


class StoreError(EngineryError):
    """The local store cannot be used, or an entry of it is not what it says."""


class RemoteError(EngineryError):
    """A registry cannot be used, or what it sent is not what was asked for."""


class FarmError(EngineryError):
    """The farm cannot be reached, refuses a build, or sent what was not asked for."""
