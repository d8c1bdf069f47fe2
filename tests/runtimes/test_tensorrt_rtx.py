"""The real runtime, through the library alone: no doit."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import onnx_models
import pytest

from enginery import (
    BackboneSpec,
    BackboneSpecError,
    BuilderOptions,
    CompileOutcome,
    EngineBuildError,
    EngineCompiler,
    EngineCompileRequest,
    HostCapabilities,
    OptimizationProfile,
    PrecisionMode,
    RuntimeUnavailableError,
    load_runtime,
    read_verified,
)
from enginery.runtimes.profiles import GraphInput, ProfileRange, check_profiles

SHAPE = (1, 3, 16, 16)


@pytest.fixture
def request_(tmp_path: Path) -> EngineCompileRequest:
    model = tmp_path / "small.onnx"
    onnx_models.write_small(model, seed=1)
    return EngineCompileRequest(
        backbones=(BackboneSpec("small", model, SHAPE),),
        calibration_path=None,
        cache_root=tmp_path / "engines",
        precision=PrecisionMode.FP32,
        host=HostCapabilities(86, None, load_runtime("tensorrt_rtx").installed_version()),
        workspace_mb=64,
    )


def build(request: EngineCompileRequest) -> bytes:
    compiler = EngineCompiler(
        inference_runtime=load_runtime("tensorrt_rtx"), logger=logging.getLogger("tests")
    )
    (result,) = compiler.compile_engines_for_corpus(request)
    assert result.outcome is CompileOutcome.BUILT
    return read_verified(result.entry.engine_path)


def with_spec(request: EngineCompileRequest, **change: object) -> EngineCompileRequest:
    return replace(request, backbones=(replace(request.backbones[0], **change),))


def test_a_real_engine(request_: EngineCompileRequest) -> None:
    engine = build(request_)
    # Magic and size are as observed, not documented: the file is the bare plan, and whole.
    assert engine.startswith(b"vtrt")
    assert int.from_bytes(engine[16:24], "little") == len(engine)


def test_the_same_inputs_give_the_same_bytes(
    request_: EngineCompileRequest, tmp_path: Path
) -> None:
    again = replace(request_, cache_root=tmp_path / "again")
    assert build(request_) == build(again)


def test_fp16_through_the_library_alone(request_: EngineCompileRequest, tmp_path: Path) -> None:
    fp16 = replace(request_, precision=PrecisionMode.FP16, lowered_root=tmp_path / "lowered")
    assert build(fp16) != build(request_)
    assert (tmp_path / "lowered" / "small_fp16.onnx.sha256").is_file()


def test_workspace_reaches_the_engine(request_: EngineCompileRequest, tmp_path: Path) -> None:
    other = replace(request_, workspace_mb=128, cache_root=tmp_path / "other")
    assert build(request_) != build(other)


def test_dynamic_shapes(request_: EngineCompileRequest) -> None:
    model = request_.backbones[0].onnx_path
    onnx_models.write_small(model, seed=1, batch="N")
    ranges = tuple(
        OptimizationProfile("input", (low, 3, 16, 16), (high, 3, 16, 16), (high, 3, 16, 16), index)
        for index, (low, high) in enumerate([(1, 4), (4, 16)])
    )
    assert build(with_spec(request_, profiles=ranges))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"builder": BuilderOptions(builder_optimization_level=-1)}, "builder_optimization_level"),
        ({"builder": BuilderOptions(builder_optimization_level=99)}, "builder_optimization_level"),
    ],
)
def test_settings_that_tensorrt_does_not_take(
    request_: EngineCompileRequest, change: dict[str, object], words: str
) -> None:
    with pytest.raises(EngineBuildError, match=words):
        build(with_spec(request_, **change))
    assert list(request_.cache_root.iterdir()) == []


def test_an_unknown_capability(request_: EngineCompileRequest) -> None:
    with pytest.raises(EngineBuildError, match=r"SM99|9\.9"):
        build(replace(request_, host=replace(request_.host, sm=99)))


def test_a_failed_build_does_not_change_the_next(
    request_: EngineCompileRequest, tmp_path: Path
) -> None:
    good = build(request_)
    with pytest.raises(EngineBuildError):
        build(replace(request_, host=replace(request_.host, sm=75)))
    assert build(replace(request_, cache_root=tmp_path / "again")) == good


def test_unknown_runtime() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"no runtime 'tensorrtx'.*tensorrt_rtx"):
        load_runtime("tensorrtx")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hardware_compatibility_level": "ampere_plus"}, "hardware_compatibility_level: "),
        ({"version_compatible": True}, "version_compatible: .* lean runtime"),
        ({"default_device_type": "dla"}, "default_device_type: .* no DLA"),
        ({"gpu_fallback": True}, "gpu_fallback: .* no DLA"),
    ],
)
def test_options_that_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_runtime("tensorrt_rtx").check_options(
            BuilderOptions(**options), HostCapabilities(89, None, "1.7.1.116")
        )


IMAGE = GraphInput("image", "float", (-1, 3, 224, 224))
MASK = GraphInput("mask", "int64", (1, 8))


def shapes(
    low: list[int], best: list[int], high: list[int], name: str = "image", index: int = 0
) -> ProfileRange:
    return ProfileRange(index=index, input_name=name, min=low, opt=best, max=high)


ONE, FOUR = [1, 3, 224, 224], [4, 3, 224, 224]


def test_profiles_that_fit() -> None:
    check_profiles([IMAGE, MASK], [shapes(ONE, ONE, FOUR), shapes(FOUR, FOUR, FOUR, index=1)])


@pytest.mark.parametrize(
    ("ranges", "field", "words"),
    [
        ([shapes(ONE, ONE, ONE, "input")], "input_name", "the graph has no input 'input'"),
        ([shapes([1, 3], [1, 3], [1, 3])], "expected_input_shape", "does not fit input 'image'"),
        ([shapes(ONE, ONE, [4, 3, 225, 224])], "profiles", "does not fit input 'image'"),
        ([shapes(FOUR, ONE, FOUR)], "profiles", "are not in order"),
        ([shapes([0, 3, 224, 224], ONE, FOUR)], "profiles", "are not in order"),
        ([shapes([1, 8], [1, 8], [1, 8], "mask")], "profiles", "'image' has a dynamic dimension"),
        (
            [shapes(ONE, ONE, FOUR), shapes([1, 8], [1, 8], [1, 8], "mask", 1)],
            "profiles",
            "no shapes in profile 1",
        ),
    ],
)
def test_profiles_that_do_not_fit(ranges: list[ProfileRange], field: str, words: str) -> None:
    with pytest.raises(BackboneSpecError, match=words) as raised:
        check_profiles([IMAGE, MASK], ranges)
    assert raised.value.field == field
    assert "the graph's inputs are: image float [?, 3, 224, 224]; mask int64 [1, 8]" in str(
        raised.value
    )
