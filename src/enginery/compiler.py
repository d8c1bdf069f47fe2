"""The compiler: for each backbone a hit, or exactly one call to the runtime.

This is the one way to build; the one way to decide is in `plan`. doit's tasks go through both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import atomic, provenance, sidecar
from .build import (
    BuildConfig,
    BuildProgress,
    CompileOutcome,
    EngineCacheEntry,
    EngineCompileResult,
    EngineCompileSummary,
)
from .config import EngineCompileRequest
from .errors import (
    BackboneSpecError,
    CalibrationCacheError,
    ElsewhereError,
    EngineBuildError,
    EngineryError,
    FarmError,
    InputChangedError,
)
from .events import CompileEvents
from .farm_spec import FarmSpec
from .inputs import InputDigests
from .locks import locked
from .plan import EnginePlan, changed, check_unchanged
from .publish import all_paths
from .recipe import Recipe, input_files
from .runtimes.protocol import CompileEngineCallable, Runtime
from .sidecar import Sha256Sidecar
from .signing import envelope_path
from .store_spec import StoreSpec
from .trust import judged
from .verdict import Fault, Verdict
from .version import __version__

if TYPE_CHECKING:
    from .store.engines import EngineStore

# Where a shape is at fault that no explicit profile gives.
_DEFAULT = ("input_name", "expected_input_shape")


class EngineCompiler:
    """Makes the engines of a request true. Stateless across calls.

    >>> compiler = EngineCompiler(inference_runtime=runtime, logger=log)  # doctest: +SKIP
    >>> results = compiler.compile_engines_for_corpus(request)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        inference_runtime: CompileEngineCallable,
        logger: logging.Logger,
        progress: Callable[[BuildProgress], None] | None = None,
        store: StoreSpec | None = None,
        farm: FarmSpec | None = None,
        host_name: str | None = None,
    ) -> None:
        """Say what builds and who is told.

        Args:
            inference_runtime: What builds an engine.
            logger: Gets the events of docs/events.md.
            progress: Called while an engine is built, in another thread, a few times a second.
            store: Where engines are looked for before they are built, and whose signatures count;
                None is nowhere and nobody's.
            farm: Who builds what this host cannot; None is nobody.
            host_name: What provenance calls this host where it builds for others; None where it
                builds for itself.
        """
        self._runtime = inference_runtime
        self._progress = progress
        self._spec = store
        self._farm_spec, self._host_name = farm, host_name
        self._events = CompileEvents(logger)

    def compile_engines_for_corpus(
        self, request: EngineCompileRequest
    ) -> tuple[EngineCompileResult, ...]:
        """Reuse or build every engine of the request, in the order of its backbones.

        Raises:
            EngineBuildError: An engine cannot be built; those finished before it stay.
            CalibrationCacheError: The calibration cache cannot be used.
            FarmError: The farm is down, or nobody there can build an engine.
        """
        request.cache_root.mkdir(parents=True, exist_ok=True)
        results: list[EngineCompileResult] = []
        try:
            for spec in request.backbones:
                # One by one: what is finished before an error counts.
                results.append(self._compile(EnginePlan(spec, request, self._runtime)))  # noqa: PERF401
        finally:
            self._events.summary(_summary(results), len(results))
        return tuple(results)

    def restore(self, request: EngineCompileRequest) -> EngineCompileResult | None:
        """The only engine of a request if it is fresh or a store has it; builds nothing.

        Raises:
            EngineBuildError: An input is missing or cannot be read.
            CalibrationCacheError: The calibration cache is.
        """
        (spec,) = request.backbones
        plan, inputs = EnginePlan(spec, request, self._runtime), InputDigests()
        request.cache_root.mkdir(parents=True, exist_ok=True)
        with locked(plan.path):
            hit = self._reuse(plan, self._judge(plan, inputs))
            return hit or self._restore(plan, inputs)

    def _compile(self, plan: EnginePlan) -> EngineCompileResult:
        try:
            # A hit needs no lock: it works in a folder that is read-only, too.
            inputs = InputDigests()
            hit = self._reuse(plan, self._judge(plan, inputs))
            if hit is not None:
                return hit
            with locked(plan.path):
                return self._reuse_or_build(plan, inputs)
        except (EngineBuildError, CalibrationCacheError, FarmError) as error:
            self._events.error(plan.spec.model_name, plan.request.calibration_path, error)
            raise

    def _reuse(self, plan: EnginePlan, verdict: Verdict) -> EngineCompileResult | None:
        if verdict.statement is None:
            return None
        self._events.hit(plan.spec.model_name, plan.path)
        entry = _entry(plan, verdict.statement.sha256_hex, verdict.statement.fingerprint)
        return EngineCompileResult(entry, CompileOutcome.REUSED, None)

    def _reuse_or_build(self, plan: EnginePlan, inputs: InputDigests) -> EngineCompileResult:
        # Another process may have built it while this one waited for the lock.
        verdict = self._judge(plan, inputs)
        hit = self._reuse(plan, verdict)
        if hit is not None:
            return hit
        model = plan.spec.model_name
        if verdict.fault is Fault.SIDECAR:
            self._events.mismatch(model, plan.path, verdict.reason)
        restored = self._restore(plan, inputs)
        if restored is not None:
            return restored
        try:
            _check_host(plan, self._runtime, verdict)
        except ElsewhereError:
            if self._farm_spec is None:
                raise
            return self._take_from_farm(plan, inputs, verdict, self._farm_spec)
        if self._store is not None:
            self._store.check_signing()
        self._events.miss(model, plan.path, verdict.reason)
        atomic.clear_leftovers(all_paths(plan.path))
        began = time.perf_counter()
        entry = self._build(plan, _Witness(plan, inputs, self._events.warning, self._host_name))
        return EngineCompileResult(entry, CompileOutcome.BUILT, time.perf_counter() - began)

    def _judge(self, plan: EnginePlan, inputs: InputDigests) -> Verdict:
        verdict = plan.judge(inputs)
        return judged(self._spec.policy, plan.path, verdict) if self._spec else verdict

    @cached_property
    def _store(self) -> EngineStore | None:
        if self._spec is None:
            return None
        from .store.engines import EngineStore  # not where every engine is fresh

        return EngineStore(self._spec, self._events.warning)

    def _restore(self, plan: EnginePlan, inputs: InputDigests) -> EngineCompileResult | None:
        """The engine from a store, if one has it."""
        if self._store is None:
            return None
        recipe = plan.recipe(inputs)
        where = self._store.restore(plan.path, recipe, plan.input_names())
        if where is None:
            return None
        self._events.restored(plan.spec.model_name, plan.path, where)
        entry = _entry(plan, Sha256Sidecar.read(plan.path), recipe.fingerprint, restored_from=where)
        return EngineCompileResult(entry, CompileOutcome.REUSED, None)

    def _take_from_farm(
        self, plan: EnginePlan, inputs: InputDigests, verdict: Verdict, spec: FarmSpec
    ) -> EngineCompileResult:
        """The engine from a worker, which builds it, or had built it for somebody before."""
        from .farm.client import Farm  # with Dask, and not where an engine is built here
        from .farm.taking import take
        from .store.engines import EngineStore

        store = self._store or EngineStore(StoreSpec(), self._events.warning)
        store.check_trust()
        model = plan.spec.model_name
        self._events.miss(model, plan.path, verdict.reason)
        atomic.clear_leftovers(all_paths(plan.path))
        began = time.perf_counter()
        farm = Farm(spec, self._events.warning, self._spec)
        recipe, made = take(farm, plan, inputs, store, self._progress, self._events.warning)
        seconds = time.perf_counter() - began
        sha256 = Sha256Sidecar.read(plan.path)
        if made.built:
            # It was asked for ahead, or waited for others: only the worker knows how long it took.
            seconds = provenance.read(plan.path).build_s or seconds
            self._events.built_by(model, plan.path, made.host, seconds)
            entry = _entry(plan, sha256, recipe.fingerprint, built_by=made.host)
            return EngineCompileResult(entry, CompileOutcome.BUILT, seconds)
        where = f"the farm's worker {made.host}"
        self._events.restored(model, plan.path, where)
        entry = _entry(plan, sha256, recipe.fingerprint, restored_from=where)
        return EngineCompileResult(entry, CompileOutcome.REUSED, None)

    def _build(self, plan: EnginePlan, witness: _Witness) -> EngineCacheEntry:
        spec, request = plan.spec, plan.request
        runtime = self._runtime
        late = isinstance(runtime, Runtime) and runtime.prepares_inputs
        if not late:
            witness.prepare_inputs()
        config = BuildConfig(
            precision=request.precision,
            workspace_mb=request.workspace_mb,
            calibration_dataset=request.calibration_path,
            optimization_profiles=spec.optimization_profiles,
            engine_path=plan.path,
            host=request.host,
            model_name=spec.model_name,
            builder=spec.builder,
            attest=witness.attest,
            keep=partial(self._keep, plan.path),
            prepare_inputs=witness.prepare_inputs if late else None,
            progress=self._progress,
            build_host=request.build_host,
        )
        try:
            entry = runtime.compile_engine(witness.model, config)
        except EngineBuildError as error:
            # A model that is being written may not even parse; that it changed is the reason.
            witness.check_inputs()
            if isinstance(error, BackboneSpecError) and error.field in _DEFAULT and spec.profiles:
                raise BackboneSpecError(str(error), field="profiles") from error
            raise
        if not witness.attested:
            document = _record_afterwards(plan.path, witness)
            envelope = self._keep(plan.path, plan.path, entry.sha256_hex, document)
            if envelope is not None:
                atomic.write_atomically(envelope_path(plan.path), envelope)
        return entry

    def _keep(self, path: Path, engine: Path, sha256_hex: str, document: bytes) -> bytes | None:
        """Give the store what was built; the signature to publish with it, if any."""
        store = self._store
        return None if store is None else store.keep(engine, path, sha256_hex, document)


class _Witness:
    """Knows the inputs of a build before it, looks at them again after it, and says so.

    Attributes:
        model: What the runtime reads: the ONNX, or what it was lowered to.
        attested: Whether the provenance was written.
    """

    def __init__(
        self,
        plan: EnginePlan,
        inputs: InputDigests,
        warn: Callable[[str], None],
        host: str | None,
    ) -> None:
        self._plan, self._inputs, self._host = plan, inputs, host
        # The provenance of a calibration cache lies with who asks, and he has looked at it.
        self._lowering = plan.lowering(None if host else warn) if plan.is_lowered else None
        self._recipe: Recipe | None = None
        self._made = False
        self._started = datetime.now(timezone.utc)
        self.model = self._lowering.path if self._lowering else plan.spec.onnx_path
        self.attested = False

    def prepare_inputs(self) -> None:
        """Hash the inputs, and lower the model if nobody has.

        Raises:
            EngineBuildError: An input is missing, or the model cannot be lowered.
            CalibrationCacheError: The calibration cache is missing.
        """
        self._recipe = self._plan.recipe(self._inputs)
        if self._lowering:
            self._lowering.make(self._inputs)
            self._made = True

    def check_inputs(self) -> None:
        """Raise InputChangedError unless every input is what it was before the build."""
        if self._recipe is None:
            return
        inputs = InputDigests()
        check_unchanged(self._plan, self._recipe, inputs)
        if self._has_lost_model(inputs):
            raise changed({self.model.name})

    def _has_lost_model(self, inputs: InputDigests) -> bool:
        """Whether the lowered model was there and is no more what it was."""
        return bool(self._made and self._lowering and not self._lowering.judge(inputs).fresh)

    def attest(self, sha256_hex: str) -> bytes:
        """The provenance of a finished engine with this digest."""
        self.check_inputs()
        if self._recipe is None:
            raise EngineBuildError("the runtime never asked for the inputs to be prepared")
        self.attested = True
        return provenance.write_statement(
            self._plan.path,
            sha256_hex,
            self._recipe,
            dependencies=input_files(self._recipe.inputs, self._plan.input_names()),
            versions={"enginery": __version__},
            started=self._started,
            host=self._host,
        )


def _summary(results: list[EngineCompileResult]) -> EngineCompileSummary:
    reused = sum(result.outcome is CompileOutcome.REUSED for result in results)
    ratio = reused / len(results) if results else 0.0
    return EngineCompileSummary(len(results) - reused, reused, ratio)


def _check_host(plan: EnginePlan, runtime: CompileEngineCallable, verdict: Verdict) -> None:
    """Raise ElsewhereError where this host cannot build the engine."""
    if not isinstance(runtime, Runtime) or runtime.builds_anywhere:
        return
    from .probing import probe  # not where an engine is built anywhere

    reason = runtime.elsewhere(plan.request.host, plan.request.build_host or probe())
    if reason:
        stale = "" if verdict.fault is Fault.ABSENT else f" is not fresh ({verdict.reason}) and"
        raise ElsewhereError(
            f"{plan.path.name}{stale} cannot be built here: {reason}; build it there, or take it "
            "from a store"
        )


def _entry(plan: EnginePlan, sha256_hex: str, fingerprint: str, **more: str) -> EngineCacheEntry:
    target = plan.request.host
    return EngineCacheEntry(
        engine_path=plan.path,
        sha256_hex=sha256_hex,
        sm=target.sm,
        jp=target.jetpack,
        trt=target.trt,
        precision=plan.request.precision,
        extras={"fingerprint": fingerprint, **more},
    )


def _record_afterwards(path: Path, witness: _Witness) -> bytes:
    """Record the inputs of an engine whose runtime writes only engine and sidecar."""
    try:
        verified = Sha256Sidecar.verify(path)
    except EngineryError as error:
        raise EngineBuildError(f"the runtime wrote no engine to believe: {error}") from error
    if not verified:
        raise EngineBuildError(f"the runtime's sidecar is not that of {path.name}")
    try:
        document = witness.attest(Sha256Sidecar.read(path))
    except InputChangedError:
        # What the runtime wrote was built from who knows what; without a sidecar it is nothing.
        sidecar.path_for(path).unlink(missing_ok=True)
        raise
    atomic.write_atomically(provenance.path_for(path), document)
    return document
