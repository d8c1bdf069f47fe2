"""The formats of every released version, kept as files and believed for ever.

The files were written without enginery. `sha256sum -c *.sha256` in their folder checks the
sidecar and, because a fingerprint is the SHA-256 of the recipe's canonical JSON, the fingerprint.
"""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest

from enginery import (
    BackboneSpec,
    BuildConfig,
    EngineCacheEntry,
    EngineCompileRequest,
    EngineFilenameSchema,
    HostCapabilities,
    PrecisionMode,
    Sha256Sidecar,
    provenance,
    read_verified,
)
from enginery.inputs import InputDigests
from enginery.plan import EnginePlan
from enginery.recipe import Recipe, canonical_json, input_files
from enginery.verdict import judge

GOLDEN = Path(__file__).parent / "golden"
NAME = "light_sm86-89_nojp_trt1.7.1.116_fp16.engine"


@pytest.fixture(params=["v1"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of one version's files."""
    return shutil.copytree(GOLDEN / request.param, tmp_path / request.param)


def recipe_of(folder: Path) -> Recipe:
    return msgspec.json.decode((folder / "recipe.json").read_bytes(), type=Recipe)


def fingerprint_of(folder: Path) -> str:
    return (folder / "recipe.json.sha256").read_text().split()[0]


class ForeignRuntime:
    """A runtime that offers the least, so that the recipe does not depend on what is installed."""

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        raise AssertionError("an engine of version 1 is a hit")


def plan_of(folder: Path) -> EnginePlan:
    """The request that the engine answers."""
    spec = BackboneSpec(
        model_name="light", onnx_path=folder / "light.onnx", expected_input_shape=(1, 2)
    )
    request = EngineCompileRequest(
        backbones=(spec,),
        calibration_path=folder / "light.calib",
        cache_root=folder,
        precision=PrecisionMode.FP16,
        host=HostCapabilities(sm=(86, 89), jetpack=None, trt="1.7.1.116"),
        workspace_mb=64,
    )
    return EnginePlan(spec, request, ForeignRuntime())


def test_the_engine_is_believed(folder: Path) -> None:
    engine = folder / NAME
    assert Sha256Sidecar.verify(engine)
    assert read_verified(engine) == (GOLDEN / folder.name / NAME).read_bytes()
    verdict = judge(engine, recipe_of(folder))
    assert verdict.fresh, verdict.reason


def test_the_engine_is_a_hit(folder: Path) -> None:
    """Name, recipe and fingerprint come out of the same request as they did then."""
    plan = plan_of(folder)
    assert plan.path == folder / NAME
    verdict = plan.judge(InputDigests())
    assert verdict.fresh, verdict.reason
    assert canonical_json(plan.recipe(InputDigests())) == (folder / "recipe.json").read_bytes()


def test_the_fingerprint_is_the_same(folder: Path) -> None:
    recipe = recipe_of(folder)
    assert canonical_json(recipe) == (folder / "recipe.json").read_bytes()
    assert recipe.fingerprint == fingerprint_of(folder)
    statement = provenance.read(folder / NAME)
    assert statement.recipe == recipe
    assert statement.fingerprint == fingerprint_of(folder)


def test_the_name_is_the_same() -> None:
    tag = EngineFilenameSchema.parse(NAME)
    assert (tag.model_name, tag.sm, tag.jetpack, tag.trt) == ("light", (86, 89), None, "1.7.1.116")


def test_the_sidecar_is_written_byte_for_byte(folder: Path) -> None:
    sidecar = folder / f"{NAME}.sha256"
    golden = sidecar.read_bytes()
    sidecar.unlink()
    Sha256Sidecar.write(folder / NAME)
    assert sidecar.read_bytes() == golden


def test_the_provenance_is_written_as_it_was(folder: Path) -> None:
    golden = (folder / f"{NAME}.provenance.json").read_text()
    recipe = recipe_of(folder)
    plan = plan_of(folder)
    written = provenance.write_statement(
        folder / NAME,
        Sha256Sidecar.read(folder / NAME),
        recipe,
        dependencies=input_files(recipe.inputs, plan.input_names()),
        versions={"enginery": "0.1.0"},
        started=datetime(2025, 11, 24, 12, 0, tzinfo=timezone.utc),
    )
    assert _undated(written) == _undated(golden)


def _undated(document: str | bytes) -> object:
    statement = json.loads(document)
    del statement["predicate"]["runDetails"]["metadata"]["finishedOn"]
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    dependencies.sort(key=lambda dependency: dependency["name"])
    return statement
