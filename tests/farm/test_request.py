"""Requests for builds: what goes through comes out the same, and nothing else comes out at all."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from submitter import Order, small_order

from enginery.errors import FarmError
from enginery.farm.request import LIMIT, BuildRequest, read_request

PLACES = [
    "version", "fingerprint", "recipe", "recipe.inputs", "recipe.build", "recipe.toolchain",
    "recipe.target", "recipe.kind", "runtime", "model_name", "inputs", "inputs.0", "inputs.0.role",
    "inputs.0.sha256", "inputs.0.size", "inputs.0.name", "inputs.1.name", "input_name", "shape",
    "profiles", "builder", "builder.plugins", "builder.tactic_sources", "lowering",
    "lowering.keep_nodes", "precision", "workspace_mb", "hardware", "hardware.sm",
    "hardware.jetpack", "hardware.trt", "hardware.cpu", "new", "inputs.0.new", "hardware.new",
]  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Order:
    return small_order(tmp_path_factory.mktemp("models"), weights="weights.bin")


def changed(order: Order, place: str, value: Any) -> str:
    document = json.loads(order.request.encode())
    *above, last = place.split(".")
    inside: Any = document
    for part in above:
        inside = inside[int(part)] if part.isdigit() else inside[part]
    inside[int(last) if last.isdigit() else last] = value
    return json.dumps(document)


def refused(text: str, words: str, **options: Any) -> None:
    with pytest.raises(FarmError, match=words):
        read_request(text, **options)


def test_there_and_back(order: Order) -> None:
    request = order.request
    assert read_request(request.encode()) == request
    assert request.size == sum(path.stat().st_size for path in order.files.values())
    assert read_request(request.encode(), max_bytes=request.size) == request
    refused(request.encode(), "are the most here", max_bytes=request.size - 1)


def test_it_names_nothing_of_the_submitter(order: Order) -> None:
    folder = str(next(iter(order.files.values())).parent)
    assert folder not in order.request.encode()


@settings(max_examples=400, deadline=None)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_field_of_any_value(order: Order, place: str, value: Any) -> None:
    """Either it is refused in words, or all that follows from it is within bounds."""
    try:
        request = read_request(changed(order, place, value))
    except FarmError:
        return
    within_bounds(request)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=200) | JSON.map(json.dumps))
def test_any_text(text: str) -> None:
    with pytest.raises(FarmError):
        read_request(text)


@settings(max_examples=300, deadline=None)
@given(
    name=st.text(
        st.sampled_from("a./\\ ~\0\n\x7fäC:") | st.characters(codec="utf-8"),
        min_size=1,
        max_size=12,
    )
)
def test_any_name(order: Order, name: str) -> None:
    try:
        request = read_request(changed(order, "inputs.0.name", name))
    except FarmError:
        return
    within_bounds(request)


def within_bounds(request: BuildRequest) -> None:
    assert request.recipe.fingerprint == request.fingerprint
    assert not request.builder.plugins
    assert "/" not in request.model_name
    root = Path("/worker/inputs")
    for one in request.inputs:
        path = PurePosixPath(one.name)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert "\0" not in one.name
        assert (root / one.name).is_relative_to(root)
    _, asked = request.compile_request(root, cache_root=root, scratch=root)
    assert asked.host.trt


@pytest.mark.parametrize(
    "name",
    [
        "../m.onnx", "/m.onnx", "a/../../m.onnx", "a/..", "..", ".", "", "a//b", "./a", "a/",
        "a\0b", "a\nb", "a\\b", "..\\a", "weights.bin", "weights.bin/x", "x" * 513,
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere(order: Order, name: str) -> None:
    with pytest.raises(FarmError):
        read_request(changed(order, "inputs.0.name", name))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("version", 2, "version"),
        ("builder.plugins", ["libevil.so"], "which are code"),
        ("inputs", [], "length"),
        ("inputs.0.role", "calibration", "no ONNX"),
        ("inputs.0.role", "plugin/0/x.so", "no ONNX"),
        ("inputs.1.role", "plugin/0/x.so", "is no role"),
        ("inputs.1.role", "onnx", "one role"),
        ("inputs.1.role", "external_data/other.bin", "another name"),
        ("inputs.1.sha256", "0" * 64, "something else than its inputs"),
        ("recipe.kind", "lowered-onnx", "something else than its inputs"),
        ("recipe.toolchain", {}, "another fingerprint"),
        ("workspace_mb", 0, "workspace_mb"),
        ("hardware.sm", [1], "hardware.sm"),
        ("hardware.sm", [], "no compute capability"),
        ("hardware.cpu", "x86-64-v3", "write one"),
        ("hardware.trt", "../10", "hardware.trt"),
        ("runtime", "../rtx", "runtime"),
        ("shape", [1] * 17, "shape"),
        ("shape", [0], "shape"),
        ("precision", "fp4", "precision"),
    ],
)
def test_out_of_bounds(order: Order, place: str, value: Any, words: str) -> None:
    refused(changed(order, place, value), words)


def test_too_long(order: Order) -> None:
    refused(" " * LIMIT + order.request.encode(), "are the most")
    many = msgspec.structs.replace(order.request, input_name="x" * LIMIT)
    with pytest.raises(FarmError, match="larger than 256 KiB"):
        many.encode()


def test_deeply_nested() -> None:
    refused("[" * 100_000, "refused")
    refused('{"recipe":' * 1000, "refused")
