"""The recipe: canonical JSON, the fingerprint, and what is said of a difference."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import msgspec
import pytest
from artifacts import make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from enginery.recipe import Recipe, canonical_json, differences, input_files

INTEGERS = st.integers(-(2**53), 2**53)
SCALARS = st.none() | st.booleans() | INTEGERS | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=5)


def fingerprint_by_hand(recipe: Recipe) -> str:
    text = json.dumps(
        msgspec.to_builtins(recipe), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


@given(VALUES)
@settings(deadline=None)
def test_canonical_json_is_what_any_writer_can_write(value: Any) -> None:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical_json(value) == text.encode()


@given(OBJECTS.flatmap(lambda value: st.tuples(st.just(value), st.permutations(list(value)))))
@settings(deadline=None)
def test_canonical_json_does_not_depend_on_the_order_of_keys(
    value_and_order: tuple[dict[str, Any], list[str]],
) -> None:
    value, order = value_and_order
    assert canonical_json({key: value[key] for key in order}) == canonical_json(value)


@given(VALUES)
@settings(deadline=None)
def test_canonical_json_is_read_back_as_it_was(value: Any) -> None:
    again = msgspec.json.decode(canonical_json(value))
    assert again == value
    assert canonical_json(again) == canonical_json(value)


@pytest.mark.parametrize(
    "value", [1.5, 1.0, math.nan, math.inf, [1, 0.5], {"a": {"b": [1.0]}}], ids=repr
)
def test_floats_are_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical_json(value)


def test_keys_that_are_no_strings_are_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical_json({1: 2})


@given(
    inputs=st.dictionaries(st.text(), st.text()),
    build=OBJECTS,
    toolchain=st.dictionaries(st.text(), st.text()),
    target=OBJECTS,
)
@settings(deadline=None)
def test_a_recipe_survives_its_canonical_json(**sections: Any) -> None:
    recipe = Recipe(kind="engine", **sections)
    again = msgspec.json.decode(canonical_json(recipe), type=Recipe)
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint == fingerprint_by_hand(recipe)


CHANGES = {
    "kind": {"kind": "lowered-onnx"},
    "version": {"version": 2},
    "an input's digest": {"inputs": {"onnx": "3" * 64, "external_data/weights.bin": "2" * 64}},
    "an input's role": {"inputs": {"onnx": "1" * 64, "external_data/w.bin": "2" * 64}},
    "an input more": {"inputs": {**make_recipe().inputs, "calibration": "3" * 64}},
    "an input less": {"inputs": {"onnx": "1" * 64}},
    "a setting": {"build": {**make_recipe().build, "workspace_mb": 65}},
    "a setting's type": {"build": {**make_recipe().build, "tf32": "true"}},
    "a setting more": {"build": {**make_recipe().build, "max_aux_streams": -1}},
    "the toolchain": {"toolchain": {**make_recipe().toolchain, "tensorrt": "1.7.1.117"}},
    "the capabilities": {"target": {**make_recipe().target, "sm": [86]}},
    "the JetPack": {"target": {**make_recipe().target, "jetpack": "6.2"}},
}


def test_every_field_changes_the_fingerprint() -> None:
    assert {field.name for field in msgspec.structs.fields(Recipe)} == set().union(
        *CHANGES.values()
    )
    recipes = [make_recipe(), *(make_recipe(**change) for change in CHANGES.values())]
    assert len({recipe.fingerprint for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "lowered-onnx"}, ["kind: engine -> lowered-onnx"]),
        (
            {"inputs": {**make_recipe().inputs, "onnx": "3" * 64}},
            [f"the ONNX changed ({'1' * 12} -> {'3' * 12})"],
        ),
        (
            {"inputs": {**make_recipe().inputs, "external_data/weights.bin": "3" * 64}},
            [f"external data weights.bin changed ({'2' * 12} -> {'3' * 12})"],
        ),
        (
            {"inputs": {**make_recipe().inputs, "calibration": "3" * 64}},
            [f"the calibration cache was added ({'3' * 12})"],
        ),
        (
            {"inputs": {"onnx": "1" * 64}},
            [f"external data weights.bin was removed ({'2' * 12})"],
        ),
        (
            {"build": {**make_recipe().build, "precision": "fp32", "workspace_mb": 128}},
            ["precision: fp16 -> fp32", "workspace_mb: 64 -> 128"],
        ),
        ({"build": {**make_recipe().build, "tf32": False}}, ["tf32: true -> false"]),
        ({"build": {**make_recipe().build, "streams": 2}}, ["streams: not set -> 2"]),
        (
            {"toolchain": {**make_recipe().toolchain, "tensorrt": "1.8.0.1"}},
            ["tensorrt: 1.7.1.116 -> 1.8.0.1"],
        ),
        (
            {"target": {"sm": [86, 89, 120], "jetpack": "6.2"}},
            ["jetpack: null -> 6.2", "sm: [86, 89] -> [86, 89, 120]"],
        ),
    ],
)
def test_a_difference_is_said_with_old_and_new(change: dict[str, Any], said: list[str]) -> None:
    assert list(differences(make_recipe(), make_recipe(**change))) == said


def test_equal_recipes_have_no_differences() -> None:
    assert list(differences(make_recipe(), make_recipe())) == []


SMALL = st.dictionaries(
    st.sampled_from("ab"), st.none() | st.booleans() | st.integers(0, 1) | st.just("x")
)


@given(one=SMALL, two=SMALL, section=st.sampled_from(["build", "target"]))
@settings(deadline=None)
def test_something_is_said_wherever_fingerprints_differ(
    one: dict[str, Any], two: dict[str, Any], section: str
) -> None:
    before, now = make_recipe(**{section: one}), make_recipe(**{section: two})
    same = before.fingerprint == now.fingerprint
    assert (list(differences(before, now)) == []) == same


def test_input_files_are_named_as_on_the_disk() -> None:
    recipe = make_recipe(
        inputs={"onnx": "1", "external_data/sub/weights.bin": "2", "calibration": "3"}
    )
    names = {"onnx": "vit.onnx", "calibration": "vit.calib"}
    assert input_files(recipe.inputs, names) == {
        "vit.onnx": "1",
        "sub/weights.bin": "2",
        "vit.calib": "3",
    }
