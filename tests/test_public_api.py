"""What the mission's contract promises: names, fields, defaults, and how little is imported."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from typing import Any

import pytest

import enginery

# Of DESIGN.md, section "The contract that came with the mission".
NAMES = [
    "BackboneSpec",
    "BuildConfig",
    "CalibrationCacheError",
    "CompileEngineCallable",
    "CompileOutcome",
    "EngineBuildError",
    "EngineCacheEntry",
    "EngineCompileRequest",
    "EngineCompileResult",
    "EngineCompileSummary",
    "EngineCompiler",
    "EngineFilenameSchema",
    "HostCapabilities",
    "OptimizationProfile",
    "PrecisionMode",
    "Sha256Sidecar",
    "Sha256SidecarError",
]

REQUIRED = object()
FIELDS: dict[str, dict[str, Any]] = {
    "BackboneSpec": {
        "model_name": REQUIRED,
        "onnx_path": REQUIRED,
        "expected_input_shape": REQUIRED,
        "input_name": "input",
    },
    "EngineCompileRequest": {
        "backbones": REQUIRED,
        "calibration_path": REQUIRED,
        "cache_root": REQUIRED,
        "precision": REQUIRED,
        "host": REQUIRED,
        "workspace_mb": 4096,
    },
    "HostCapabilities": {"sm": REQUIRED, "jetpack": REQUIRED, "trt": REQUIRED},
    "OptimizationProfile": {
        "input_name": REQUIRED,
        "min_shape": REQUIRED,
        "opt_shape": REQUIRED,
        "max_shape": REQUIRED,
    },
    "BuildConfig": {
        "precision": REQUIRED,
        "workspace_mb": REQUIRED,
        "calibration_dataset": REQUIRED,
        "optimization_profiles": REQUIRED,
        "engine_path": REQUIRED,
    },
    "EngineCacheEntry": {
        "engine_path": REQUIRED,
        "sha256_hex": REQUIRED,
        "sm": REQUIRED,
        "jp": REQUIRED,
        "trt": REQUIRED,
        "precision": REQUIRED,
        "extras": None,
    },
    "EngineCompileResult": {"entry": REQUIRED, "outcome": REQUIRED, "compile_duration_s": REQUIRED},
    "EngineCompileSummary": {
        "engines_built": REQUIRED,
        "engines_reused": REQUIRED,
        "cache_hit_ratio": REQUIRED,
    },
}


@pytest.mark.parametrize("name", [*NAMES, "read_verified", "__version__"])
def test_every_name_is_importable(name: str) -> None:
    assert name in enginery.__all__
    assert name in dir(enginery)
    value = getattr(enginery, name)
    assert getattr(value, "__name__", name) == name


def test_what_is_listed_is_there_and_nothing_else() -> None:
    assert enginery.__all__ == sorted(set(enginery.__all__))
    for name in enginery.__all__:
        assert getattr(enginery, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'EngineCompilor'"):
        _ = enginery.EngineCompilor


@pytest.mark.parametrize("name", FIELDS)
def test_fields_in_the_contracts_order_with_its_defaults(name: str) -> None:
    fields = dataclasses.fields(getattr(enginery, name))
    assert [field.name for field in fields][: len(FIELDS[name])] == list(FIELDS[name])
    for field, default in zip(fields, FIELDS[name].values(), strict=False):
        has_none = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if default is REQUIRED:
            assert has_none, f"{field.name} need not be given"
        elif default is not None:
            assert field.default == default
    for field in fields[len(FIELDS[name]) :]:
        assert (
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
        ), f"{field.name} is not of the contract and has no default"


@pytest.mark.parametrize("name", FIELDS)
def test_facts_are_frozen(name: str) -> None:
    kind = getattr(enginery, name)
    fact = kind.__new__(kind)
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(fact, field.name, 1)


def test_facts_beyond_the_contract_are_frozen_too() -> None:
    with pytest.raises(AttributeError):
        enginery.BuilderOptions().tf32 = False  # type: ignore[misc]
    tag = enginery.EngineFilenameSchema.parse("vit_sm86_nojp_trt1.7.1.116_fp16.engine")
    with pytest.raises(AttributeError):
        tag.sm = 87  # type: ignore[misc]


def test_facts_are_equal_by_value() -> None:
    def host() -> enginery.HostCapabilities:
        return enginery.HostCapabilities(sm=(89, 86), jetpack=None, trt="1.7.1.116")

    assert host() == host()
    assert hash(host()) == hash(host())
    assert host().sm == (86, 89)


def test_precisions_are_their_lower_case_names() -> None:
    assert {"FP32", "FP16", "INT8"} <= set(enginery.PrecisionMode.__members__)
    for mode in enginery.PrecisionMode:
        assert mode.value == mode.name.lower() == str(mode) == f"{mode}"
        assert mode == mode.value


def test_outcomes_are_built_and_reused() -> None:
    assert [outcome.value for outcome in enginery.CompileOutcome] == ["built", "reused"]


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("EngineBuildError", "EngineryError"),
        ("CalibrationCacheError", "EngineryError"),
        ("Sha256SidecarError", "EngineIntegrityError"),
        ("ProvenanceError", "EngineIntegrityError"),
        ("EngineIntegrityError", "EngineryError"),
        ("BackboneSpecError", "EngineBuildError"),
        ("InputChangedError", "EngineBuildError"),
        ("CorpusError", "EngineryError"),
        ("ElsewhereError", "EngineBuildError"),
        ("HostError", "EngineryError"),
        ("SignatureError", "EngineIntegrityError"),
        ("StoreError", "EngineryError"),
        ("RemoteError", "EngineryError"),
        ("RuntimeUnavailableError", "EngineryError"),
    ],
)
def test_errors_have_one_root(name: str, base: str) -> None:
    assert issubclass(getattr(enginery, name), getattr(enginery, base))
    assert issubclass(enginery.EngineryError, Exception)


HEAVY = {"numpy", "onnx", "polygraphy", "tensorrt", "tensorrt_rtx", "onnxconverter_common"}


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import enginery", {*HEAVY, "doit", "argparse", "filelock", "msgspec"}),
        ("import enginery; enginery.read_verified", {*HEAVY, "doit", "argparse", "filelock"}),
        ("from enginery import *", {*HEAVY, "doit", "argparse"}),
        ("import enginery.corpus, enginery.jobs", {*HEAVY, "doit", "argparse"}),
    ],
)
def test_what_is_not_needed_is_not_imported(statement: str, unwanted: set[str]) -> None:
    script = (
        f"{statement}\nimport sys\nprint(sorted({{name.split('.')[0] for name in sys.modules}}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    imported = set(ast.literal_eval(run.stdout))
    assert "enginery" in imported
    assert imported & unwanted == set()
