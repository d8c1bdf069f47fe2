"""The verdict: believed only where file, sidecar, provenance and recipe agree."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from artifacts import (
    DATA,
    IRREGULAR,
    NAME,
    OTHER_NAME,
    flip_bit,
    make_document,
    make_recipe,
    provenance_of,
    publish_artifact,
    replace_by,
    sidecar_of,
    snapshot,
    within,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from enginery import (
    EngineIntegrityError,
    ProvenanceError,
    Sha256Sidecar,
    Sha256SidecarError,
    read_verified,
)
from enginery.digest import sha256_file
from enginery.recipe import canonical_json
from enginery.verdict import Fault, Verdict, judge

RECIPE = make_recipe()
BARE_DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return publish_artifact(tmp_path)


def judged(path: Path) -> Verdict:
    """The verdict, which neither hangs nor changes anything."""
    before = snapshot(path.parent)
    with within(10):
        verdict = judge(path, RECIPE)
    assert snapshot(path.parent) == before
    assert verdict.fresh == (verdict.fault is Fault.NONE) == (verdict.statement is not None)
    return verdict


def test_fresh(engine: Path) -> None:
    verdict = judged(engine)
    assert verdict.fresh
    assert verdict.statement is not None
    assert verdict.statement.sha256_hex == BARE_DIGEST
    assert verdict.statement.fingerprint == RECIPE.fingerprint


def other_engine(path: Path) -> None:
    """Another engine, whole and proven, under this one's name."""
    other = publish_artifact(path.parent, name=OTHER_NAME, data=b"other")
    other.replace(path)


def other_engine_and_sidecar(path: Path) -> None:
    other_engine(path)
    sidecar_of(path.with_name(OTHER_NAME)).replace(sidecar_of(path))


def other_engine_and_bare_digest(path: Path) -> None:
    other_engine(path)
    sidecar_of(path).write_text(hashlib.sha256(b"other").hexdigest())


def other_engine_with_all_its_files(path: Path) -> None:
    other_engine_and_bare_digest(path)
    provenance_of(path.with_name(OTHER_NAME)).replace(provenance_of(path))


def change_provenance(path: Path) -> None:
    document = json.loads(provenance_of(path).read_bytes())
    document["predicate"]["buildDefinition"]["externalParameters"]["recipe"]["kind"] = "other"
    provenance_of(path).write_text(json.dumps(document))


FAULTS: dict[str, tuple[Callable[[Path], object], Fault, str]] = {
    "no engine": (lambda p: p.unlink(), Fault.ABSENT, "is not there"),
    "no folder": (
        lambda p: p.parent.rename(p.parent.with_name("gone")),
        Fault.ABSENT,
        "is not there",
    ),
    "truncated": (lambda p: p.write_bytes(DATA[:-1]), Fault.SIDECAR, "is damaged: its bytes are"),
    "emptied": (lambda p: p.write_bytes(b""), Fault.SIDECAR, "is damaged: its bytes are"),
    "flipped bit": (lambda p: flip_bit(p, 77), Fault.SIDECAR, "is damaged: its bytes are"),
    "no sidecar": (lambda p: sidecar_of(p).unlink(), Fault.SIDECAR, "the sidecar .* is missing"),
    "garbage for a sidecar": (
        lambda p: sidecar_of(p).write_text("garbage"),
        Fault.SIDECAR,
        r"\.sha256 is malformed",
    ),
    "other digest in the sidecar": (
        lambda p: sidecar_of(p).write_text("0" * 64),
        Fault.SIDECAR,
        "is damaged: its bytes are .*, its sidecar says 000000000000",
    ),
    "no provenance": (
        lambda p: provenance_of(p).unlink(),
        Fault.PROVENANCE,
        "the provenance .* is missing",
    ),
    "garbage for a provenance": (
        lambda p: provenance_of(p).write_text("garbage"),
        Fault.PROVENANCE,
        r"\.provenance\.json is malformed",
    ),
    "changed provenance": (change_provenance, Fault.PROVENANCE, "the fingerprint is not"),
    "provenance of other bytes": (
        lambda p: provenance_of(p).write_bytes(make_document(p, b"other", RECIPE)),
        Fault.PROVENANCE,
        "is about d9298a10d1b0, its bytes are",
    ),
    "swapped engine": (other_engine, Fault.SIDECAR, "is damaged"),
    "swapped with sidecar": (other_engine_and_sidecar, Fault.SIDECAR, "is for another file"),
    "swapped with bare digest": (
        other_engine_and_bare_digest,
        Fault.PROVENANCE,
        "the provenance of .* is about",
    ),
    "swapped altogether": (
        other_engine_with_all_its_files,
        Fault.PROVENANCE,
        "is for another file",
    ),
    "other recipe": (
        lambda p: publish_artifact(
            p.parent, recipe=make_recipe(build={**RECIPE.build, "workspace_mb": 32})
        ),
        Fault.RECIPE,
        "workspace_mb: 32 -> 64",
    ),
    "other kind": (
        lambda p: publish_artifact(p.parent, recipe=make_recipe(kind="lowered-onnx")),
        Fault.RECIPE,
        "kind: lowered-onnx -> engine",
    ),
    "other toolchain": (
        lambda p: publish_artifact(p.parent, recipe=make_recipe(toolchain={})),
        Fault.RECIPE,
        r"runtime: not set -> tensorrt_rtx; tensorrt: not set -> 1\.7\.1\.116",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named(engine: Path, fault: str) -> None:
    damage, expected, reason = FAULTS[fault]
    damage(engine)
    verdict = judged(engine)
    assert verdict.fault is expected, verdict.reason
    assert re.search(reason, verdict.reason), verdict.reason
    assert "\n" not in verdict.reason


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (lambda path: path, Fault.SIDECAR),
        (sidecar_of, Fault.SIDECAR),
        (provenance_of, Fault.PROVENANCE),
    ],
    ids=["engine", "sidecar", "provenance"],
)
def test_what_is_no_regular_file_is_not_believed(
    engine: Path, kind: str, place: Callable[[Path], Path], expected: Fault
) -> None:
    replace_by(kind, place(engine))
    verdict = judged(engine)
    assert verdict.fault is expected
    assert "regular file" in verdict.reason


def test_the_bytes_are_hashed_every_time(engine: Path) -> None:
    hashed: list[Path] = []

    def recording(path: Path) -> str:
        hashed.append(path)
        return sha256_file(path)

    for _ in range(3):
        assert judge(engine, RECIPE, digest=recording).fresh
    assert hashed == [engine] * 3


def test_a_damage_that_stat_does_not_show_is_found(engine: Path) -> None:
    assert judged(engine).fresh
    flip_bit(engine, 0)
    assert judged(engine).fault is Fault.SIDECAR
    flip_bit(engine, 0)
    assert judged(engine).fresh


def test_what_moved_is_still_believed(engine: Path, tmp_path: Path) -> None:
    folder = engine.parent.rename(tmp_path.with_name(tmp_path.name + "-moved"))
    assert judged(folder / NAME).fresh


def test_a_recipe_nested_to_any_depth_raises_nothing(engine: Path) -> None:
    """Its own fingerprint is right, so that reading, hashing and comparing all see it."""
    deep = make_recipe(build={"deep": "DEEP"})
    document = make_document(engine, DATA, deep).decode()
    for depth in (*range(880, 1010), 2000):
        brackets = "[" * depth + "]" * depth
        canonical = canonical_json(deep).decode().replace('"DEEP"', brackets)
        fingerprint = hashlib.sha256(canonical.encode()).hexdigest()
        provenance_of(engine).write_text(
            document.replace('"DEEP"', brackets).replace(deep.fingerprint, fingerprint)
        )
        assert judge(engine, RECIPE).fault in (Fault.PROVENANCE, Fault.RECIPE)


def test_read_verified_gives_the_bytes(engine: Path) -> None:
    assert read_verified(engine) == DATA
    assert read_verified(str(engine)) == DATA


def test_a_sidecar_alone_will_do_for_reading(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(DATA)
    Sha256Sidecar.write(path)
    assert read_verified(path) == DATA


def assert_unreadable(path: Path, kind: type[EngineIntegrityError], words: str) -> None:
    with within(10), pytest.raises(kind, match=words) as raised:
        read_verified(path)
    assert type(raised.value) is kind


@pytest.mark.parametrize("kind", IRREGULAR)
def test_an_engine_that_is_no_regular_file_is_not_read(engine: Path, kind: str) -> None:
    replace_by(kind, engine)
    assert_unreadable(engine, EngineIntegrityError, "cannot be read: .*regular file")


def test_a_missing_engine_is_not_read(engine: Path) -> None:
    engine.unlink()
    assert_unreadable(engine, EngineIntegrityError, "cannot be read")


@pytest.mark.parametrize("kind", ["missing", "garbage", *IRREGULAR])
def test_a_bad_sidecar_is_said(engine: Path, kind: str) -> None:
    if kind in IRREGULAR:
        replace_by(kind, sidecar_of(engine))
    elif kind == "garbage":
        sidecar_of(engine).write_text(kind)
    else:
        sidecar_of(engine).unlink()
    assert_unreadable(engine, Sha256SidecarError, "sidecar|sha256")


@pytest.mark.parametrize("kind", ["garbage", "other bytes", *IRREGULAR])
def test_a_bad_provenance_is_said(engine: Path, kind: str) -> None:
    if kind in IRREGULAR:
        replace_by(kind, provenance_of(engine))
    elif kind == "garbage":
        provenance_of(engine).write_text(kind)
    else:
        provenance_of(engine).write_bytes(make_document(engine, b"other", RECIPE))
    assert_unreadable(engine, ProvenanceError, "provenance")


@given(position=st.integers(0, 8 * len(DATA) - 1))
@settings(deadline=None)
def test_any_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, position: int) -> None:
    engine = publish_artifact(tmp_path_factory.mktemp("flipped"))
    flip_bit(engine, position)
    assert_unreadable(engine, EngineIntegrityError, "is damaged")
    assert judge(engine, RECIPE).fault is Fault.SIDECAR


@given(size=st.integers(0, len(DATA) - 1))
@settings(deadline=None, max_examples=30)
def test_any_truncation_is_found(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    engine = publish_artifact(tmp_path_factory.mktemp("truncated"))
    engine.write_bytes(DATA[:size])
    assert_unreadable(engine, EngineIntegrityError, "is damaged")
    assert judge(engine, RECIPE).fault is Fault.SIDECAR
