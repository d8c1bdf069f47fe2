"""make for TensorRT engines: verified, content-addressed, rebuilt only when they must be.

The words used throughout are those of docs/design.md. Names are imported when they are first
asked for: an on-board program that only reads verified engines loads nothing of the compiler,
and doit, which loads a plugin of ours in every project, pays next to nothing for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .build import (
        BuildConfig,
        BuildProgress,
        CompileOutcome,
        EngineCacheEntry,
        EngineCompileResult,
        EngineCompileSummary,
    )
    from .compiler import EngineCompiler
    from .config import (
        BackboneSpec,
        BuilderOptions,
        EngineCompileRequest,
        OptimizationProfile,
        PrecisionMode,
    )
    from .errors import (
        BackboneSpecError,
        CalibrationCacheError,
        CorpusError,
        ElsewhereError,
        EngineBuildError,
        EngineIntegrityError,
        EngineryError,
        HostError,
        InputChangedError,
        ProvenanceError,
        RemoteError,
        RuntimeUnavailableError,
        Sha256SidecarError,
        SignatureError,
        StoreError,
    )
    from .filename import EngineFilenameSchema, EngineTag
    from .hardware import HostCapabilities
    from .host import Gpu, Host
    from .runtimes import load_runtime
    from .runtimes.protocol import CompileEngineCallable, Runtime
    from .sidecar import Sha256Sidecar
    from .store_spec import StoreSpec
    from .trust import Policy
    from .verdict import read_verified
    from .version import __version__

_HOME = {
    "BackboneSpec": "config",
    "BackboneSpecError": "errors",
    "BuildConfig": "build",
    "BuildProgress": "build",
    "BuilderOptions": "config",
    "CalibrationCacheError": "errors",
    "CompileEngineCallable": "runtimes.protocol",
    "CompileOutcome": "build",
    "CorpusError": "errors",
    "ElsewhereError": "errors",
    "EngineBuildError": "errors",
    "EngineCacheEntry": "build",
    "EngineCompileRequest": "config",
    "EngineCompileResult": "build",
    "EngineCompileSummary": "build",
    "EngineCompiler": "compiler",
    "EngineFilenameSchema": "filename",
    "EngineIntegrityError": "errors",
    "EngineTag": "filename",
    "EngineryError": "errors",
    "Gpu": "host",
    "Host": "host",
    "HostCapabilities": "hardware",
    "HostError": "errors",
    "InputChangedError": "errors",
    "OptimizationProfile": "config",
    "Policy": "trust",
    "PrecisionMode": "config",
    "ProvenanceError": "errors",
    "RemoteError": "errors",
    "Runtime": "runtimes.protocol",
    "RuntimeUnavailableError": "errors",
    "Sha256Sidecar": "sidecar",
    "Sha256SidecarError": "errors",
    "SignatureError": "errors",
    "StoreError": "errors",
    "StoreSpec": "store_spec",
    "__version__": "version",
    "load_runtime": "runtimes",
    "read_verified": "verdict",
}

__all__ = [
    "BackboneSpec",
    "BackboneSpecError",
    "BuildConfig",
    "BuildProgress",
    "BuilderOptions",
    "CalibrationCacheError",
    "CompileEngineCallable",
    "CompileOutcome",
    "CorpusError",
    "ElsewhereError",
    "EngineBuildError",
    "EngineCacheEntry",
    "EngineCompileRequest",
    "EngineCompileResult",
    "EngineCompileSummary",
    "EngineCompiler",
    "EngineFilenameSchema",
    "EngineIntegrityError",
    "EngineTag",
    "EngineryError",
    "Gpu",
    "Host",
    "HostCapabilities",
    "HostError",
    "InputChangedError",
    "OptimizationProfile",
    "Policy",
    "PrecisionMode",
    "ProvenanceError",
    "RemoteError",
    "Runtime",
    "RuntimeUnavailableError",
    "Sha256Sidecar",
    "Sha256SidecarError",
    "SignatureError",
    "StoreError",
    "StoreSpec",
    "__version__",
    "load_runtime",
    "read_verified",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
