"""The contract of EngineCompiler, with runtimes of the tests' own."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from enginery import (
    BackboneSpec,
    BuildConfig,
    CalibrationCacheError,
    CompileOutcome,
    EngineBuildError,
    EngineCacheEntry,
    EngineCompiler,
    EngineCompileRequest,
    EngineCompileResult,
    EngineFilenameSchema,
    HostCapabilities,
    InputChangedError,
    OptimizationProfile,
    PrecisionMode,
)
from enginery.inputs import InputDigests
from enginery.plan import EnginePlan

ORIN = HostCapabilities(sm=87, jetpack="6.2", trt="10.3.0.30")
LOGGER = logging.getLogger("tests.compiler")


@dataclass
class RecordingRuntime:
    """Writes an engine and its sidecar, knows nothing of provenance, keeps what it was asked."""

    calls: list[tuple[Path, BuildConfig]] = field(default_factory=list)

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        self.calls.append((model_path, build_config))
        path = build_config.engine_path
        data = b"engine of " + model_path.read_bytes() + bytes(len(self.calls))
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")
        return EngineCacheEntry(
            engine_path=path,
            sha256_hex=digest,
            sm=ORIN.sm,
            jp=ORIN.jetpack,
            trt=ORIN.trt,
            precision=build_config.precision,
            extras={"from": "the runtime"},
        )


@dataclass
class FailingRuntime:
    """Raises."""

    error: Exception
    calls: int = 0

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        self.calls += 1
        raise self.error


@pytest.fixture
def request_(tmp_path: Path) -> EngineCompileRequest:
    specs = []
    for name in ("resnet50", "vit"):
        onnx = tmp_path / f"{name}.onnx"
        onnx.write_bytes(name.encode())
        specs.append(BackboneSpec(name, onnx, (1, 3, 224, 224)))
    calibration = tmp_path / "corpus.calib"
    calibration.write_text("TRT-100300-EntropyCalibration2\n")
    return EngineCompileRequest(
        backbones=tuple(specs),
        calibration_path=calibration,
        cache_root=tmp_path / "new" / "cache",
        precision=PrecisionMode.INT8,
        host=ORIN,
    )


def compile_with(runtime: Any, request: EngineCompileRequest) -> tuple[EngineCompileResult, ...]:
    compiler = EngineCompiler(inference_runtime=runtime, logger=LOGGER)
    return compiler.compile_engines_for_corpus(request)


def kinds(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(r.levelname, r.kind) for r in caplog.records if hasattr(r, "kind")]


def outcomes(results: tuple[EngineCompileResult, ...]) -> list[CompileOutcome]:
    return [result.outcome for result in results]


BUILT, REUSED = CompileOutcome.BUILT, CompileOutcome.REUSED


def test_keyword_only() -> None:
    with pytest.raises(TypeError):
        EngineCompiler(RecordingRuntime(), LOGGER)  # type: ignore[misc]


def test_miss_builds_in_order_and_hit_calls_nothing(
    request_: EngineCompileRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    runtime = RecordingRuntime()
    first = compile_with(runtime, request_)
    assert outcomes(first) == [BUILT, BUILT]
    assert [r.entry.engine_path.name.split("_")[0] for r in first] == ["resnet50", "vit"]
    assert all(r.compile_duration_s is not None and r.compile_duration_s >= 0 for r in first)
    assert [path for path, _ in runtime.calls] == [s.onnx_path for s in request_.backbones]
    assert first[0].entry.extras == {"from": "the runtime"}
    assert kinds(caplog) == [
        ("WARNING", "c10.engine.cache.miss"),
        ("WARNING", "c10.engine.cache.miss"),
        ("INFO", "c10.engine.compile.summary"),
    ]

    caplog.clear()
    never = FailingRuntime(AssertionError("a hit must not call the runtime"))
    second = compile_with(never, request_)
    assert never.calls == 0
    assert outcomes(second) == [REUSED, REUSED]
    assert [r.compile_duration_s for r in second] == [None, None]
    assert [r.entry.sha256_hex for r in second] == [r.entry.sha256_hex for r in first]
    assert second[0].entry.engine_path == first[0].entry.engine_path
    assert (second[0].entry.sm, second[0].entry.jp, second[0].entry.trt) == (87, "6.2", "10.3.0.30")
    assert second[0].entry.precision is PrecisionMode.INT8
    assert kinds(caplog) == [
        ("INFO", "c10.engine.cache.hit"),
        ("INFO", "c10.engine.cache.hit"),
        ("INFO", "c10.engine.compile.summary"),
    ]
    assert caplog.records[-1].kv == {  # type: ignore[attr-defined]
        "engines_built": 0,
        "engines_reused": 2,
        "cache_hit_ratio": 1.0,
        "total": 2,
    }


def test_what_the_runtime_is_told(request_: EngineCompileRequest) -> None:
    runtime = RecordingRuntime()
    compile_with(runtime, request_)
    _, config = runtime.calls[0]
    name = EngineFilenameSchema.build(
        model_name="resnet50", sm=87, jetpack="6.2", trt="10.3.0.30", precision="int8"
    )
    shape = (1, 3, 224, 224)
    assert config.engine_path == request_.cache_root / name
    assert config.precision is PrecisionMode.INT8
    assert config.workspace_mb == 4096
    assert config.calibration_dataset == request_.calibration_path
    assert config.optimization_profiles == (OptimizationProfile("input", shape, shape, shape),)


def test_explicit_profiles_override_the_default(request_: EngineCompileRequest) -> None:
    profile = OptimizationProfile("data", (1, 3), (2, 3), (4, 3))
    spec = replace(request_.backbones[0], profiles=(profile,))
    runtime = RecordingRuntime()
    compile_with(runtime, replace(request_, backbones=(spec,)))
    assert runtime.calls[0][1].optimization_profiles == (profile,)


def test_no_backbones(request_: EngineCompileRequest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert compile_with(RecordingRuntime(), replace(request_, backbones=())) == ()
    assert request_.cache_root.is_dir()
    assert kinds(caplog) == [("INFO", "c10.engine.compile.summary")]
    assert set(caplog.records[-1].kv.values()) == {0}  # type: ignore[attr-defined]


@pytest.mark.parametrize("damage", ["flip", "no sidecar", "bad sidecar"])
def test_mismatch_is_said_and_is_a_miss(
    request_: EngineCompileRequest, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    runtime = RecordingRuntime()
    engine = compile_with(runtime, request_)[0].entry.engine_path
    sidecar = engine.with_name(engine.name + ".sha256")
    if damage == "flip":
        engine.write_bytes(b"X" + engine.read_bytes()[1:])
    elif damage == "no sidecar":
        sidecar.unlink()
    else:
        sidecar.write_text("deadbeef")
    caplog.clear()
    assert outcomes(compile_with(runtime, request_)) == [BUILT, REUSED]
    assert len(runtime.calls) == 3
    assert kinds(caplog)[:2] == [
        ("WARNING", "c10.engine.sidecar.mismatch"),
        ("WARNING", "c10.engine.cache.miss"),
    ]
    assert caplog.records[0].kv["reason"]  # type: ignore[attr-defined]


def test_an_engine_with_a_sidecar_alone_is_not_believed(request_: EngineCompileRequest) -> None:
    """A sidecar says nothing of a model that changed under the same name."""
    engine = compile_with(RecordingRuntime(), request_)[0].entry.engine_path
    engine.with_name(engine.name + ".provenance.json").unlink()
    assert outcomes(compile_with(RecordingRuntime(), request_)) == [BUILT, REUSED]


@pytest.mark.parametrize(
    "change",
    [
        {"host": replace(ORIN, sm=86)},
        {"host": replace(ORIN, sm=(86, 89))},
        {"host": replace(ORIN, jetpack=None)},
        {"host": replace(ORIN, jetpack="6.1")},
        {"host": replace(ORIN, trt="10.3.0.31")},
        {"precision": PrecisionMode.FP16},
    ],
)
def test_other_hardware_is_another_file(
    request_: EngineCompileRequest, change: dict[str, Any]
) -> None:
    compile_with(RecordingRuntime(), request_)
    before = {file: file.read_bytes() for file in request_.cache_root.iterdir()}
    runtime = RecordingRuntime()
    assert outcomes(compile_with(runtime, replace(request_, **change))) == [BUILT, BUILT]
    assert {file: file.read_bytes() for file in before} == before
    assert outcomes(compile_with(runtime, request_)) == [REUSED, REUSED]


@pytest.mark.parametrize("change", ["onnx", "calibration", "workspace", "shape"])
def test_other_inputs_are_a_miss(
    request_: EngineCompileRequest, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    compile_with(RecordingRuntime(), request_)
    caplog.clear()
    asked, expected = request_, [BUILT, BUILT]
    if change == "onnx":
        request_.backbones[0].onnx_path.write_bytes(b"resnet51")
        expected = [BUILT, REUSED]
    elif change == "calibration":
        assert request_.calibration_path is not None
        request_.calibration_path.write_text("TRT-100300-EntropyCalibration3\n")
    elif change == "workspace":
        asked = replace(request_, workspace_mb=1024)
    else:
        spec = replace(request_.backbones[0], expected_input_shape=(2, 3, 224, 224))
        asked = replace(request_, backbones=(spec, request_.backbones[1]))
        expected = [BUILT, REUSED]
    assert outcomes(compile_with(RecordingRuntime(), asked)) == expected
    assert kinds(caplog)[0] == ("WARNING", "c10.engine.cache.miss")


@pytest.mark.parametrize("error", [EngineBuildError("no kernel"), CalibrationCacheError("line 3")])
def test_build_errors_are_logged_and_raised_on(
    request_: EngineCompileRequest, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    caplog.set_level(logging.INFO)
    first = compile_with(RecordingRuntime(), replace(request_, backbones=request_.backbones[:1]))
    caplog.clear()
    with pytest.raises(type(error)) as raised:
        compile_with(FailingRuntime(error), request_)
    assert raised.value is error
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert record.kind == "c10.engine.compile.error"  # type: ignore[attr-defined]
    assert record.kv == {  # type: ignore[attr-defined]
        "model": "vit",
        "calibration_path": str(request_.calibration_path),
        "error_class": type(error).__name__,
        "error": str(error),
    }
    assert kinds(caplog)[-1] == ("INFO", "c10.engine.compile.summary")
    assert first[0].entry.engine_path.exists()
    assert outcomes(compile_with(RecordingRuntime(), request_)) == [REUSED, BUILT]


def test_other_exceptions_pass_through(
    request_: EngineCompileRequest, caplog: pytest.LogCaptureFixture
) -> None:
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError) as raised:
        compile_with(FailingRuntime(error), request_)
    assert raised.value is error
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_missing_onnx(request_: EngineCompileRequest) -> None:
    request_.backbones[0].onnx_path.unlink()
    runtime = RecordingRuntime()
    with pytest.raises(EngineBuildError, match=r"resnet50\.onnx is not there; put the model there"):
        compile_with(runtime, request_)
    assert runtime.calls == []


def test_missing_calibration_cache(request_: EngineCompileRequest) -> None:
    assert request_.calibration_path is not None
    request_.calibration_path.unlink()
    with pytest.raises(CalibrationCacheError, match=r"corpus\.calib is not there"):
        compile_with(RecordingRuntime(), request_)
    fp16 = replace(request_, precision=PrecisionMode.FP16)
    assert outcomes(compile_with(RecordingRuntime(), fp16)) == [BUILT, BUILT]


def test_an_input_that_changes_under_a_foreign_runtime(request_: EngineCompileRequest) -> None:
    class Editing(RecordingRuntime):
        def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
            entry = super().compile_engine(model_path, build_config)
            model_path.write_bytes(b"edited")
            return entry

    with pytest.raises(InputChangedError, match=r"resnet50\.onnx changed while"):
        compile_with(Editing(), request_)
    assert outcomes(compile_with(RecordingRuntime(), request_)) == [BUILT, BUILT]


@pytest.mark.parametrize("kept", ["nothing", "engine", "wrong sidecar"])
def test_a_runtime_that_does_not_write_what_it_owes(
    request_: EngineCompileRequest, kept: str
) -> None:
    class Careless(RecordingRuntime):
        def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
            entry = super().compile_engine(model_path, build_config)
            sidecar = entry.engine_path.with_name(entry.engine_path.name + ".sha256")
            if kept == "nothing":
                entry.engine_path.unlink()
            if kept == "wrong sidecar":
                sidecar.write_text("0" * 64)
            else:
                sidecar.unlink()
            return entry

    with pytest.raises(EngineBuildError, match="runtime"):
        compile_with(Careless(), request_)


def test_stateless_across_calls(request_: EngineCompileRequest, tmp_path: Path) -> None:
    compiler = EngineCompiler(inference_runtime=RecordingRuntime(), logger=LOGGER)
    one = replace(request_, cache_root=tmp_path / "one")
    two = replace(request_, cache_root=tmp_path / "two")
    for asked in (one, two):
        assert outcomes(compiler.compile_engines_for_corpus(asked)) == [BUILT, BUILT]
    for asked in (one, two):
        assert outcomes(compiler.compile_engines_for_corpus(asked)) == [REUSED, REUSED]


def test_judging_changes_nothing(request_: EngineCompileRequest) -> None:
    runtime = RecordingRuntime()
    spec = request_.backbones[0]
    plan = EnginePlan(spec, request_, runtime)
    assert not plan.judge(InputDigests()).fresh
    assert not request_.cache_root.exists()
    compile_with(runtime, request_)
    assert plan.judge(InputDigests()).fresh
    spec.onnx_path.unlink()
    verdict = plan.judge(InputDigests())
    assert not verdict.fresh
    assert "is not there" in verdict.reason


def test_engines_of_the_same_call_with_the_same_name(request_: EngineCompileRequest) -> None:
    spec = request_.backbones[0]
    runtime = RecordingRuntime()
    results = compile_with(runtime, replace(request_, backbones=(spec, spec)))
    assert outcomes(results) == [BUILT, REUSED]
