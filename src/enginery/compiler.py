"""The compiler: for each backbone a hit, or exactly one call to the runtime.

This is the one way to decide and the one way to build; doit's tasks go through it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from . import atomic, lowering, provenance
from .config import (
    BackboneSpec,
    BuildConfig,
    CompileOutcome,
    EngineCacheEntry,
    EngineCompileRequest,
    EngineCompileResult,
    EngineCompileSummary,
    PrecisionMode,
)
from .digest import sha256_file
from .errors import (
    CalibrationCacheError,
    EngineBuildError,
    EngineryError,
    InputChangedError,
)
from .events import CompileEvents
from .filename import EngineFilenameSchema
from .inputs import InputDigests
from .locks import locked
from .publish import owned_paths
from .recipe import Recipe, input_files
from .runtimes.protocol import CompileEngineCallable, Runtime
from .sidecar import Sha256Sidecar
from .verdict import Fault, Verdict, judge
from .version import __version__

KIND = "engine"


@dataclass(frozen=True, slots=True)
class _Engine:
    """One engine of a request."""

    spec: BackboneSpec
    request: EngineCompileRequest
    path: Path


class EngineCompiler:
    """Makes the engines of a request true. Stateless across calls.

    >>> compiler = EngineCompiler(inference_runtime=runtime, logger=log)  # doctest: +SKIP
    >>> results = compiler.compile_engines_for_corpus(request)  # doctest: +SKIP
    """

    def __init__(self, *, inference_runtime: CompileEngineCallable, logger: logging.Logger) -> None:
        self._runtime = inference_runtime
        self._events = CompileEvents(logger)

    def compile_engines_for_corpus(
        self, request: EngineCompileRequest
    ) -> tuple[EngineCompileResult, ...]:
        """Reuse or build every engine of the request, in the order of its backbones.

        Raises:
            EngineBuildError: An engine cannot be built; those finished before it stay.
            CalibrationCacheError: The calibration cache cannot be used.
        """
        request.cache_root.mkdir(parents=True, exist_ok=True)
        results: list[EngineCompileResult] = []
        try:
            for spec in request.backbones:
                # One by one: what is finished before an error counts.
                results.append(self._compile(_engine(spec, request)))  # noqa: PERF401
        finally:
            self._events.summary(summarize(results), len(results))
        return tuple(results)

    def judge(
        self,
        spec: BackboneSpec,
        request: EngineCompileRequest,
        *,
        inputs: InputDigests | None = None,
        digest: Callable[[Path], str] = sha256_file,
    ) -> Verdict:
        """Whether the engine of a backbone is fresh, and if not, why. Changes nothing.

        Args:
            spec: The backbone.
            request: The request that it belongs to.
            inputs: Digests of inputs, remembered from earlier.
            digest: How to hash the engine; whoever hashes ahead gives his own.
        """
        engine = _engine(spec, request)
        try:
            recipe = self._recipe(engine, inputs or InputDigests())
        except (EngineBuildError, CalibrationCacheError) as error:
            return Verdict(Fault.INPUT, str(error))
        return judge(engine.path, recipe, digest=digest)

    def _compile(self, engine: _Engine) -> EngineCompileResult:
        try:
            with locked(engine.path):
                return self._reuse_or_build(engine)
        except (EngineBuildError, CalibrationCacheError) as error:
            self._events.error(engine.spec.model_name, engine.request.calibration_path, error)
            raise

    def _reuse_or_build(self, engine: _Engine) -> EngineCompileResult:
        inputs = InputDigests()
        recipe = self._recipe(engine, inputs)
        verdict = judge(engine.path, recipe)
        if verdict.statement is not None:
            self._events.hit(engine.spec.model_name, engine.path)
            entry = _entry(engine, verdict.statement.sha256_hex, recipe)
            return EngineCompileResult(entry, CompileOutcome.REUSED, None)
        if verdict.fault is Fault.SIDECAR:
            self._events.mismatch(engine.spec.model_name, engine.path, verdict.reason)
        self._events.miss(engine.spec.model_name, engine.path, verdict.reason)
        for leftover in atomic.leftovers(owned_paths(engine.path)):
            leftover.unlink(missing_ok=True)
        return self._build(engine, recipe, inputs)

    def _build(self, engine: _Engine, recipe: Recipe, inputs: InputDigests) -> EngineCompileResult:
        spec, request = engine.spec, engine.request
        attest = _Attest(engine, recipe, self._model_inputs, datetime.now(timezone.utc))
        began = time.perf_counter()
        config = BuildConfig(
            precision=request.precision,
            workspace_mb=request.workspace_mb,
            calibration_dataset=request.calibration_path,
            optimization_profiles=spec.optimization_profiles,
            engine_path=engine.path,
            host=request.host,
            model_name=spec.model_name,
            builder=spec.builder,
            attest=attest,
        )
        model = spec.onnx_path
        try:
            if self._strongly_typed:
                model = lowering.lower(spec, request.precision, _lowered_root(request), inputs)
            entry = self._runtime.compile_engine(model, config)
        except EngineBuildError:
            # A model that is being written may not even parse; that it changed is the reason.
            attest.check_inputs()
            raise
        if not attest.called:
            _record_afterwards(engine, attest)
        return EngineCompileResult(entry, CompileOutcome.BUILT, time.perf_counter() - began)

    @property
    def _strongly_typed(self) -> bool:
        return isinstance(self._runtime, Runtime) and self._runtime.strongly_typed

    def _recipe(self, engine: _Engine, inputs: InputDigests) -> Recipe:
        spec, request = engine.spec, engine.request
        return Recipe(
            kind=KIND,
            inputs=self._model_inputs(engine, inputs),
            build={
                "precision": request.precision.value,
                "workspace_mb": request.workspace_mb,
                "profiles": [
                    {
                        "index": profile.index,
                        "input_name": profile.input_name,
                        "min": list(profile.min_shape),
                        "opt": list(profile.opt_shape),
                        "max": list(profile.max_shape),
                    }
                    for profile in spec.optimization_profiles
                ],
                **spec.builder.as_dict(),
            },
            toolchain=self._toolchain(request),
            target={"sm": list(request.host.capabilities), "jetpack": request.host.jetpack},
        )

    def _toolchain(self, request: EngineCompileRequest) -> dict[str, str]:
        if not isinstance(self._runtime, Runtime):
            return {"tensorrt": request.host.trt}
        typed = lowering.toolchain(request.precision) if self._strongly_typed else {}
        return {**self._runtime.toolchain(request.host), **typed}

    def _model_inputs(self, engine: _Engine, inputs: InputDigests) -> dict[str, str]:
        found = inputs.of_model(engine.spec.onnx_path)
        calibration = engine.request.calibration_path
        # Only int8 needs the cache; elsewhere one that is not there is no input.
        if calibration is not None and (
            engine.request.precision is PrecisionMode.INT8 or calibration.exists()
        ):
            found["calibration"] = inputs.of_calibration(calibration)
        return found


class _Attest:
    """Re-checks the inputs of a finished build and writes its provenance, once."""

    def __init__(
        self,
        engine: _Engine,
        recipe: Recipe,
        digests: Callable[[_Engine, InputDigests], dict[str, str]],
        started: datetime,
    ) -> None:
        self._engine, self._recipe, self._digests, self._started = engine, recipe, digests, started
        self.called = False

    def check_inputs(self) -> None:
        """Raise InputChangedError unless every input is what it was before the build."""
        now = self._digests(self._engine, InputDigests())
        if now != self._recipe.inputs:
            roles = dict(now.items() ^ self._recipe.inputs.items())
            names = ", ".join(sorted(input_files(roles, self._input_names())))
            raise InputChangedError(
                f"{names} changed while the engine was built; nothing was published, run again"
            )

    def __call__(self, sha256_hex: str) -> bytes:
        self.check_inputs()
        self.called = True
        return provenance.write_statement(
            self._engine.path,
            sha256_hex,
            self._recipe,
            dependencies=input_files(self._recipe.inputs, self._input_names()),
            versions={"enginery": __version__},
            started=self._started,
        )

    def _input_names(self) -> dict[str, str]:
        calibration = self._engine.request.calibration_path
        return {
            "onnx": self._engine.spec.onnx_path.name,
            **({"calibration": calibration.name} if calibration else {}),
        }


def summarize(results: list[EngineCompileResult]) -> EngineCompileSummary:
    """Counts of results; the hit ratio of nothing is 0.0."""
    reused = sum(result.outcome is CompileOutcome.REUSED for result in results)
    ratio = reused / len(results) if results else 0.0
    return EngineCompileSummary(len(results) - reused, reused, ratio)


def engine_path(spec: BackboneSpec, request: EngineCompileRequest) -> Path:
    """Where the engine of a backbone is: the name carries the hardware."""
    return request.cache_root / EngineFilenameSchema.build(
        model_name=spec.model_name,
        sm=request.host.sm,
        jetpack=request.host.jetpack,
        trt=request.host.trt,
        precision=request.precision,
    )


def _engine(spec: BackboneSpec, request: EngineCompileRequest) -> _Engine:
    return _Engine(spec, request, engine_path(spec, request))


def _entry(engine: _Engine, sha256_hex: str, recipe: Recipe) -> EngineCacheEntry:
    host = engine.request.host
    return EngineCacheEntry(
        engine_path=engine.path,
        sha256_hex=sha256_hex,
        sm=host.sm,
        jp=host.jetpack,
        trt=host.trt,
        precision=engine.request.precision,
        extras={"fingerprint": recipe.fingerprint},
    )


def _record_afterwards(engine: _Engine, attest: _Attest) -> None:
    """Record the inputs of an engine whose runtime writes only engine and sidecar."""
    try:
        verified = Sha256Sidecar.verify(engine.path)
    except EngineryError as error:
        raise EngineBuildError(f"the runtime wrote no engine to believe: {error}") from error
    if not verified:
        raise EngineBuildError(f"the runtime's sidecar is not that of {engine.path.name}")
    document = attest(Sha256Sidecar.read(engine.path))
    atomic.write_atomically(provenance.path_for(engine.path), document)


def _lowered_root(request: EngineCompileRequest) -> Path:
    return request.lowered_root or request.cache_root / ".enginery" / "lowered"
