"""The provenance: written as the standards have it, read strictly or not at all."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from artifacts import (
    DATA,
    IRREGULAR,
    NAME,
    STARTED,
    make_document,
    make_recipe,
    provenance_of,
    replace_by,
    within,
)

from enginery import ProvenanceError, provenance

HEX = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.write_bytes(DATA)
    provenance_of(path).write_bytes(make_document(path, DATA, make_recipe()))
    return path


def test_what_is_written_is_read(engine: Path) -> None:
    statement = provenance.read(engine)
    assert statement.sha256_hex == HEX
    assert statement.recipe == make_recipe()
    assert statement.fingerprint == make_recipe().fingerprint


def test_the_document_is_in_toto_and_slsa(engine: Path) -> None:
    document = json.loads(provenance_of(engine).read_bytes())
    details = document["predicate"]["runDetails"]
    finished = details["metadata"].pop("finishedOn")
    assert datetime.fromisoformat(finished.replace("Z", "+00:00")) >= STARTED
    recipe = {
        "kind": "engine",
        "inputs": make_recipe().inputs,
        "build": make_recipe().build,
        "toolchain": make_recipe().toolchain,
        "target": make_recipe().target,
        "version": 1,
    }
    assert document == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": NAME, "digest": {"sha256": HEX}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:enginery:build:v1",
                "externalParameters": {"recipe": recipe},
                "internalParameters": {"fingerprint": make_recipe().fingerprint},
                "resolvedDependencies": [{"name": "light.onnx", "digest": {"sha256": "1" * 64}}],
            },
            "runDetails": {
                "builder": {
                    "id": "urn:enginery:builder:local",
                    "version": {"enginery": "0.1.0"},
                },
                "metadata": {"startedOn": "2025-11-24T12:00:00Z"},
            },
        },
    }


def test_times_are_rfc_3339_in_utc(engine: Path) -> None:
    east = datetime(2025, 1, 1, 1, 30, 15, 999999, timezone(timedelta(hours=2)))
    before = datetime.now(timezone.utc).replace(microsecond=0)
    document = json.loads(
        provenance.write_statement(
            engine, HEX, make_recipe(), dependencies={}, versions={}, started=east
        )
    )
    metadata = document["predicate"]["runDetails"]["metadata"]
    assert metadata["startedOn"] == "2024-12-31T23:30:15.999000Z"
    written = metadata["finishedOn"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}000)?Z", written)
    finished = msgspec.convert(written, datetime)
    assert before <= finished <= datetime.now(timezone.utc)


def assert_refused(engine: Path, words: str) -> None:
    with within(10), pytest.raises(ProvenanceError, match=words):
        provenance.read(engine)


def definition(document: Any) -> Any:
    return document["predicate"]["buildDefinition"]


def recipe_of(document: Any) -> Any:
    return definition(document)["externalParameters"]["recipe"]


def sign(document: Any) -> None:
    """Give a changed recipe its own fingerprint, so that nothing else is at fault."""
    text = json.dumps(
        recipe_of(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    definition(document)["internalParameters"]["fingerprint"] = hashlib.sha256(
        text.encode()
    ).hexdigest()


def change_recipe(section: str, key: str, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        recipe_of(document)[section][key] = value
        sign(document)

    return change


def set_version(document: Any, version: Any) -> None:
    recipe_of(document)["version"] = version
    sign(document)


EDITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "unknown field": (lambda d: d.update(extra=1), "malformed: .*extra"),
    "unknown field in the predicate": (lambda d: d["predicate"].update(x=1), "malformed"),
    "unknown field in the recipe": (lambda d: (recipe_of(d).update(x=1), sign(d)), "malformed"),
    "unknown algorithm": (lambda d: d["subject"][0]["digest"].update(md5="0"), "malformed"),
    "no _type": (lambda d: d.pop("_type"), "malformed: .*_type"),
    "no subject": (lambda d: d.pop("subject"), "malformed: .*subject"),
    "no fingerprint": (
        lambda d: definition(d)["internalParameters"].pop("fingerprint"),
        "malformed: .*fingerprint",
    ),
    "no recipe": (lambda d: definition(d)["externalParameters"].pop("recipe"), "malformed"),
    "no inputs": (lambda d: (recipe_of(d).pop("inputs"), sign(d)), "malformed: .*inputs"),
    "wrong _type": (lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"), "malformed"),
    "wrong predicateType": (
        lambda d: d.update(predicateType="https://slsa.dev/provenance/v0.2"),
        "malformed",
    ),
    "wrong buildType": (
        lambda d: definition(d).update(buildType="urn:enginery:build:v2"),
        "malformed",
    ),
    "recipe version 2": (lambda d: set_version(d, 2), "recipe version 2, unknown here"),
    "recipe version 0": (lambda d: set_version(d, 0), "recipe version 0, unknown here"),
    "recipe version as text": (lambda d: set_version(d, "1"), "malformed"),
    "other file": (
        lambda d: d["subject"][0].update(name="other.engine"),
        "is for another file, 'other.engine'",
    ),
    "no subjects": (lambda d: d.update(subject=[]), "malformed"),
    "two subjects": (lambda d: d["subject"].append(d["subject"][0]), "malformed"),
    "short digest": (
        lambda d: d["subject"][0]["digest"].update(sha256=HEX[:63]),
        "digest is no SHA-256",
    ),
    "upper-case digest": (
        lambda d: d["subject"][0]["digest"].update(sha256=HEX.upper()),
        "digest is no SHA-256",
    ),
    "digest with a newline": (
        lambda d: d["subject"][0]["digest"].update(sha256=HEX + "\n"),
        "digest is no SHA-256",
    ),
    "altered setting": (
        lambda d: recipe_of(d)["build"].update(workspace_mb=65),
        "fingerprint is not that of its recipe",
    ),
    "altered input": (
        lambda d: recipe_of(d)["inputs"].update(onnx="9" * 64),
        "fingerprint is not that of its recipe",
    ),
    "altered fingerprint": (
        lambda d: definition(d)["internalParameters"].update(fingerprint="0" * 64),
        "fingerprint is not that of its recipe",
    ),
    "float in the recipe": (change_recipe("build", "workspace_mb", 64.5), "malformed"),
    "whole float in the recipe": (change_recipe("target", "sm", [86.0]), "malformed"),
    "a dependency that is none": (
        lambda d: definition(d)["resolvedDependencies"][0]["digest"].update(sha256="ABC"),
        "dependencies are not its recipe's inputs",
    ),
    "a time that is none": (
        lambda d: d["predicate"]["runDetails"]["metadata"].update(startedOn="never"),
        "malformed",
    ),
    "list for text": (change_recipe("inputs", "onnx", ["1"]), "malformed"),
    "null": (lambda d: d.update(predicate=None), "malformed"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_document_is_refused(engine: Path, edit: str) -> None:
    change, words = EDITS[edit]
    document = json.loads(provenance_of(engine).read_bytes())
    edited = copy.deepcopy(document)
    change(edited)
    assert edited != document
    provenance_of(engine).write_text(json.dumps(edited))
    assert_refused(engine, words)


def test_an_edit_that_is_signed_would_be_read(engine: Path) -> None:
    """What the edits above prove, they prove because nothing else is wrong with them."""
    document = json.loads(provenance_of(engine).read_bytes())
    change_recipe("build", "workspace_mb", 65)(document)
    provenance_of(engine).write_text(json.dumps(document))
    assert provenance.read(engine).recipe.build["workspace_mb"] == 65


def test_missing(engine: Path) -> None:
    provenance_of(engine).unlink()
    assert_refused(engine, f"the provenance of {NAME} is missing")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"null",
        b"[]",
        b"{}",
        b"garbage",
        b"\0" * 100,
        b"\xff\xfe{}",
        bytes(range(256)),
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"predicate":' * 100_000,
        b'{"_type":"\\ud800"}',
        b'{"_type":' + b"9" * 5000 + b"}",
    ],
    ids=lambda content: repr(content[:12]) + f"_{len(content)}",
)
def test_garbage(engine: Path, content: bytes) -> None:
    provenance_of(engine).write_bytes(content)
    assert_refused(engine, "is malformed")


def test_cut_short_anywhere(engine: Path) -> None:
    whole = provenance_of(engine).read_bytes().rstrip()
    for size in range(0, len(whole), 7):
        provenance_of(engine).write_bytes(whole[:size])
        assert_refused(engine, "is malformed")


def test_invalid_utf_8(engine: Path) -> None:
    whole = provenance_of(engine).read_bytes()
    provenance_of(engine).write_bytes(whole.replace(b"light.onnx", b"light\xff.onnx"))
    assert_refused(engine, "is malformed")


def test_two_documents(engine: Path) -> None:
    provenance_of(engine).write_bytes(provenance_of(engine).read_bytes() * 2)
    assert_refused(engine, "is malformed")


def test_too_large(engine: Path) -> None:
    with provenance_of(engine).open("ab") as stream:
        stream.write(b" " * (5 << 20))
    assert_refused(engine, "larger than")


@pytest.mark.parametrize("kind", IRREGULAR)
def test_no_regular_file(engine: Path, kind: str) -> None:
    replace_by(kind, provenance_of(engine))
    assert_refused(engine, "regular file")


def test_nesting_in_the_recipe_is_read_or_refused_at_any_depth(engine: Path) -> None:
    """Reading, hashing and comparing may each have a limit of its own; none may show."""
    document = json.loads(provenance_of(engine).read_bytes())
    recipe_of(document)["build"]["deep"] = "DEEP"
    text = json.dumps(document)
    for depth in (*range(880, 1010), 1500, 3000):
        nested = text.replace('"DEEP"', "[" * depth + "]" * depth)
        provenance_of(engine).write_text(nested)
        assert_refused(engine, "is malformed")
