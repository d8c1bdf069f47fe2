"""The scanner of external data, with onnx and protobuf's reflection as the oracle."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from artifacts import within
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from enginery.errors import IrregularFileError
from enginery.external_data import external_data_locations

# Without a deadline of Hypothesis's own: a test that hangs is ended by `within`.
UNHURRIED = settings(deadline=None)


def tensor(location: str | None, name: str = "weights") -> TensorProto:
    """Two floats, in a file of their own or, where there is no location, in the model."""
    made = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2])
    if location is None:
        made.float_data.extend([1, 2])
        return made
    made.data_location = TensorProto.EXTERNAL
    for key, value in {"offset": "0", "location": location, "length": "8"}.items():
        made.external_data.add(key=key, value=value)
    return made


def graph(*, nodes: Any = (), tensors: Any = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "graph", [], [], list(tensors))


def model(*, nodes: Any = (), tensors: Any = (), functions: Any = ()) -> onnx.ModelProto:
    return helper.make_model(graph(nodes=nodes, tensors=tensors), functions=list(functions))


def constant(location: str | None) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["constant"], value=tensor(location))


def sparse(values: str | None, indices: str | None) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=tensor(values), indices=tensor(indices), dims=[4])


def with_sparse_initializer() -> onnx.ModelProto:
    made = model()
    made.graph.sparse_initializer.append(sparse("values.bin", "indices.bin"))
    return made


def function(location: str) -> onnx.FunctionProto:
    return helper.make_function(
        "local", "Weighted", [], ["constant"], [constant(location)], [helper.make_opsetid("", 17)]
    )


MODELS = {
    "nothing": model(),
    "weights in the model": model(tensors=[tensor(None)], nodes=[constant(None)]),
    "initializer": model(tensors=[tensor("weights.bin")]),
    "several in one file": model(tensors=[tensor("w.bin", "a"), tensor("w.bin", "b")]),
    "several files": model(tensors=[tensor("b.bin", "a"), tensor("a.bin", "b"), tensor(None, "c")]),
    "sub-folder": model(tensors=[tensor("parts/of/it/weights.bin")]),
    "beyond ASCII": model(tensors=[tensor("Gewichte für später.bin")]),
    "Constant": model(nodes=[constant("constant.bin")]),
    "If": model(
        nodes=[
            helper.make_node(
                "If",
                ["condition"],
                ["out"],
                then_branch=graph(tensors=[tensor("then.bin")]),
                else_branch=graph(nodes=[constant("else.bin")]),
            )
        ]
    ),
    "Loop in If": model(
        nodes=[
            helper.make_node(
                "If",
                ["condition"],
                ["out"],
                then_branch=graph(
                    nodes=[
                        helper.make_node(
                            "Loop", ["n"], ["out"], body=graph(tensors=[tensor("body.bin")])
                        )
                    ]
                ),
            )
        ]
    ),
    "function": model(functions=[function("function.bin")]),
    "sparse initializer": with_sparse_initializer(),
    "sparse Constant": model(
        nodes=[helper.make_node("Constant", [], ["c"], sparse_value=sparse("v.bin", "i.bin"))]
    ),
    "lists of tensors and graphs": model(
        nodes=[
            helper.make_node(
                "Custom",
                [],
                [],
                tensors=[tensor("one.bin"), tensor("two.bin")],
                graphs=[graph(tensors=[tensor("three.bin")]), graph(nodes=[constant("four.bin")])],
            )
        ]
    ),
}


def tensors_in(message: Any) -> Iterator[TensorProto]:
    """Every tensor in a message, wherever onnx's schema has one."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in [value] if hasattr(value, "ListFields") else value:
                yield from tensors_in(child)


def oracle(parsed: onnx.ModelProto) -> tuple[str, ...]:
    return tuple(
        sorted(
            {
                entry.value
                for found in tensors_in(parsed)
                if found.data_location == TensorProto.EXTERNAL
                for entry in found.external_data
                if entry.key == "location"
            }
        )
    )


def scan(folder: Path, data: bytes) -> tuple[str, ...]:
    path = folder / "scanned.onnx"
    path.write_bytes(data)
    with within(20):
        return external_data_locations(path)


@pytest.mark.parametrize("name", MODELS)
def test_what_the_oracle_finds_is_found(name: str, tmp_path: Path) -> None:
    assert scan(tmp_path, MODELS[name].SerializeToString()) == oracle(MODELS[name])


def test_the_oracle_finds_what_was_put_there() -> None:
    names = {name: oracle(made) for name, made in MODELS.items()}
    assert names["nothing"] == names["weights in the model"] == ()
    assert names["several files"] == ("a.bin", "b.bin")
    assert names["Loop in If"] == ("body.bin",)
    assert names["lists of tensors and graphs"] == ("four.bin", "one.bin", "three.bin", "two.bin")
    assert all(names[name] for name in list(MODELS)[2:])


def test_a_model_saved_by_onnx(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [512], bytes(2048), raw=True)
    path = tmp_path / "model.onnx"
    onnx.save_model(
        model(tensors=[weights]), path, save_as_external_data=True, location="model.onnx.data"
    )
    assert external_data_locations(path) == ("model.onnx.data",)


def test_what_is_not_external_does_not_count(tmp_path: Path) -> None:
    """A location without data_location EXTERNAL is a left-over that onnx itself ignores."""
    stale = tensor("stale.bin")
    stale.data_location = TensorProto.DEFAULT
    nameless = tensor("nameless.bin")
    del nameless.external_data[:]
    assert scan(tmp_path, model(tensors=[stale, nameless]).SerializeToString()) == ()


def ways_to_a_tensor() -> dict[str, list[Any]]:
    """For each field of onnx's schema that can lead to a tensor, one way through it."""

    def shortest(start: Any, goal: str) -> list[Any] | None:
        ways: list[tuple[Any, list[Any]]] = [(start, [])]
        seen = {start.full_name}
        for message, way in ways:
            if message.full_name == goal:
                return way
            for field in message.fields:
                kind = field.message_type
                if kind is not None and kind.full_name not in seen:
                    seen.add(kind.full_name)
                    ways.append((kind, [*way, field]))
        return None

    root = onnx.ModelProto.DESCRIPTOR
    found = {}
    for message in root.file.message_types_by_name.values():
        before = shortest(root, message.full_name)
        for field in message.fields:
            after = field.message_type and shortest(field.message_type, "onnx.TensorProto")
            if before is not None and after is not None:
                found[f"{message.name}.{field.name}"] = [*before, field, *after]
    return found


WAYS = ways_to_a_tensor()


@pytest.mark.parametrize("through", WAYS)
def test_every_way_of_the_schema_to_a_tensor_is_walked(through: str, tmp_path: Path) -> None:
    made: Any = onnx.ModelProto()
    message = made
    for field in WAYS[through]:
        value = getattr(message, field.name)
        message = value.add() if hasattr(value, "add") else value
        message.SetInParent()
    message.CopyFrom(tensor("weights.bin"))
    assert oracle(made) == ("weights.bin",)
    assert scan(tmp_path, made.SerializeToString()) == ("weights.bin",)


LOCATIONS = st.none() | st.sampled_from(["a.bin", "b.bin", "sub/c.bin"]) | st.text(min_size=1)
GRAPHS = st.recursive(
    st.builds(
        lambda constants, tensors: graph(
            nodes=map(constant, constants), tensors=map(tensor, tensors)
        ),
        st.lists(LOCATIONS, max_size=2),
        st.lists(LOCATIONS, max_size=2),
    ),
    lambda inner: st.builds(
        lambda then, other, tensors: graph(
            nodes=[helper.make_node("If", ["c"], ["o"], then_branch=then, else_branch=other)],
            tensors=map(tensor, tensors),
        ),
        inner,
        inner,
        st.lists(LOCATIONS, max_size=2),
    ),
    max_leaves=6,
)


@given(made=GRAPHS)
@UNHURRIED
def test_any_model(tmp_path_factory: pytest.TempPathFactory, made: onnx.GraphProto) -> None:
    whole = helper.make_model(made)
    assert scan(tmp_path_factory.getbasetemp(), whole.SerializeToString()) == oracle(whole)


# Everything that the scanner walks through, in a few hundred bytes.
SAMPLE = b"".join(made.SerializeToString() for made in MODELS.values())


def assert_harmless(folder: Path, data: bytes) -> None:
    found = scan(folder, data)
    assert list(found) == sorted(set(found))
    assert all(isinstance(name, str) and name for name in found)


@given(data=st.binary(max_size=400))
@UNHURRIED
def test_random_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    assert_harmless(tmp_path_factory.getbasetemp(), data)


@given(size=st.integers(0, len(SAMPLE)))
@UNHURRIED
def test_a_model_cut_short(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    assert_harmless(tmp_path_factory.getbasetemp(), SAMPLE[:size])


@given(flips=st.lists(st.integers(0, 8 * len(SAMPLE) - 1), min_size=1, max_size=8))
@UNHURRIED
def test_a_model_with_flipped_bits(
    tmp_path_factory: pytest.TempPathFactory, flips: list[int]
) -> None:
    data = bytearray(SAMPLE)
    for position in flips:
        data[position // 8] ^= 1 << position % 8
    assert_harmless(tmp_path_factory.getbasetemp(), bytes(data))


def varint(value: int) -> bytes:
    digits = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


def nested(tags: list[int], depth: int) -> bytes:
    """Messages in messages: each of the fields in turn, from the outside inwards."""
    data = b""
    for level in reversed(range(depth)):
        data = varint(tags[level % len(tags)] << 3 | 2) + varint(len(data)) + data
    return data


@pytest.mark.parametrize("depth", [99, 1000, 5000])
def test_graphs_in_graphs_without_end(tmp_path: Path, depth: int) -> None:
    """graph, then node, attribute and its graph, over and over; protobuf itself stops at 100."""
    inner = nested([1, 5, 6], depth)
    assert_harmless(tmp_path, varint(7 << 3 | 2) + varint(len(inner)) + inner)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 100,
        b"\x3a",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x3a\x00" * 10_000,
        b"\x0b" * 100,
    ],
    ids=lambda data: repr(data[:12]) + f"_{len(data)}",
)
def test_what_is_no_protobuf_has_no_external_data(tmp_path: Path, data: bytes) -> None:
    assert scan(tmp_path, data) == ()


def test_weights_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    weights = helper.make_tensor("w", TensorProto.FLOAT, [50 << 18], bytes(50 << 20), raw=True)
    path.write_bytes(model(tensors=[weights, tensor("small.bin")]).SerializeToString())
    assert path.stat().st_size > 50 << 20
    tracemalloc.start()
    try:
        assert external_data_locations(path) == ("small.bin",)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        external_data_locations(tmp_path / "missing.onnx")


def test_a_directory_and_a_fifo(tmp_path: Path) -> None:
    with pytest.raises(IrregularFileError, match="is a directory"):
        external_data_locations(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    with within(10), pytest.raises(IrregularFileError, match="is a FIFO"):
        external_data_locations(tmp_path / "pipe.onnx")


def test_a_link_to_a_model_is_followed(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(MODELS["initializer"].SerializeToString())
    (tmp_path / "link.onnx").symlink_to("model.onnx")
    assert external_data_locations(tmp_path / "link.onnx") == ("weights.bin",)
