"""Makes the ONNX files of the reference corpus, the same bytes on every machine.

    python models/make_onnx.py resnet50 models/resnet50.onnx

The three CNNs have the topologies that the onnx package ships as its light test models, with
constants for weights; here the constants become seeded weights of their true sizes, scaled after
He et al. 2015 ("Delving Deep into Rectifiers") so that activations keep their range through the
depth. The image encoder is a ViT-S/14 after Dosovitskiy et al. 2021 ("An Image is Worth 16x16
Words"), its weights beside the ONNX as external data.

Nothing here is trained: the files are as large, and compute as much, as the trained ones.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[np.float32]

LIGHT_MODELS = ("resnet50", "squeezenet", "densenet121")
IR_VERSION = 8

# Smaller tensors stay in the ONNX, whose shape inference wants to read them.
LARGE = 1024

WIDTH, BLOCKS, HEADS, PATCH, IMAGE = 384, 12, 6, 14, 224
TOKENS = (IMAGE // PATCH) ** 2 + 1


def normal(name: str, shape: tuple[int, ...], std: float, mean: float = 0.0) -> Array:
    """Normal values that depend on the tensor's name alone.

    RandomState's stream is frozen, unlike that of numpy's newer generators.
    """
    random = np.random.RandomState(zlib.crc32(name.encode()))
    values: Array = (random.standard_normal(shape) * std + mean).astype(np.float32)
    return values


def make_light(name: str) -> onnx.ModelProto:
    """A light test model of the onnx package with weights in place of its constants."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    model = onnx.load(folder / f"light_{name}.onnx")
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    roles = weight_roles(graph)
    nodes = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            nodes.append(node)
            continue
        shape = tuple(int(size) for size in numpy_helper.to_array(stored[node.input[0]]))
        stored[node.output[0]] = weight(name, node.output[0], shape, roles)
    for tensor in list(stored.values()):
        if tensor.name in roles and tensor.data_type == TensorProto.FLOAT:
            shape = tuple(tensor.dims)
            stored[tensor.name] = weight(name, tensor.name, shape, roles)
    used = {tensor for node in nodes for tensor in node.input}
    inputs = [value for value in graph.input if value.name in used and value.name not in stored]
    replaced = helper.make_graph(
        nodes,
        name,
        inputs,
        list(graph.output),
        [tensor for tensor in stored.values() if tensor.name in used],
    )
    return helper.make_model(replaced, opset_imports=model.opset_import, ir_version=IR_VERSION)


def weight_roles(graph: onnx.GraphProto) -> dict[str, str]:
    """Tensor name to what it is for: the operator that reads it and its place there.

    DenseNet's scales and biases reach their Mul and Add through an Unsqueeze.
    """
    alias = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type in ("Unsqueeze", "ConstantOfShape")
    }
    generated = {node.output[0] for node in graph.node if node.op_type == "ConstantOfShape"}
    known = generated | {tensor.name for tensor in graph.initializer}
    roles = {}
    for node in graph.node:
        for place, tensor in enumerate(node.input):
            source = tensor if tensor in known else alias.get(tensor, tensor)
            if source in known and node.op_type not in ("ConstantOfShape", "Unsqueeze", "Reshape"):
                roles[source] = f"{node.op_type}.{place}"
    return roles


def weight(
    model: str, name: str, shape: tuple[int, ...], roles: dict[str, str]
) -> onnx.TensorProto:
    """Seeded values fit for a tensor's role."""
    seed = f"{model}/{name}"
    role = roles.get(name, "")
    if role in ("Conv.1", "Gemm.1"):
        values = normal(seed, shape, std=float(np.sqrt(2.0 / np.prod(shape[1:]))))
    elif role == "BatchNormalization.1" and "branch2c" in name:
        # The last scale of a residual branch is small, so that sixteen sums stay in range.
        values = normal(seed, shape, std=0.02, mean=0.2)
    elif role in ("BatchNormalization.1", "Mul.1"):
        values = normal(seed, shape, std=0.05, mean=1.0)
    elif role == "BatchNormalization.4":
        values = np.abs(normal(seed, shape, std=0.05, mean=1.0))
    else:
        values = normal(seed, shape, std=0.02)
    return numpy_helper.from_array(values, name)


class VisionTransformer:
    """Collects the nodes and weights of a ViT-S/14 image encoder.

    Attributes:
        batch: Size of the batch, or a name for it where an engine is to take several.
    """

    def __init__(self, batch: int | str = 1) -> None:
        self.batch = batch
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        """`input` float32 [batch, 3, 224, 224] to `embedding` float32 [batch, 384]."""
        tokens = self.tokens("input")
        for index in range(BLOCKS):
            name = f"block{index}"
            tokens = self.add(tokens, self.attention(name, self.norm(f"{name}.norm1", tokens)))
            tokens = self.add(tokens, self.mlp(name, self.norm(f"{name}.norm2", tokens)))
        tokens = self.norm("norm", tokens)
        self.op("Gather", [tokens, self.integers("class", 0)], "embedding", axis=1)
        graph = helper.make_graph(
            self.nodes,
            "vit_s14",
            [
                helper.make_tensor_value_info(
                    "input", TensorProto.FLOAT, [self.batch, 3, IMAGE, IMAGE]
                )
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [self.batch, WIDTH])],
            self.weights,
        )
        opset = helper.make_opsetid("", 17)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)

    @property
    def first(self) -> int:
        """The first size of a Reshape: the batch, or whatever is left over."""
        return -1 if isinstance(self.batch, str) else self.batch

    def tokens(self, image: str) -> str:
        """Patches as tokens behind the class token, with their positions added."""
        kernel = self.tensor("patch.weight", (WIDTH, 3, PATCH, PATCH))
        bias = self.tensor("patch.bias", (WIDTH,))
        patches = self.op("Conv", [image, kernel, bias], "patch.conv", strides=[PATCH, PATCH])
        shape = self.integers("patch.shape", [self.first, WIDTH, TOKENS - 1])
        flat = self.op("Reshape", [patches, shape], "patch.flat")
        rows = self.op("Transpose", [flat], "patch.rows", perm=[0, 2, 1])
        token = self.tensor("class.token", (1, 1, WIDTH))
        if isinstance(self.batch, str):
            size = self.op("Shape", [image], "batch", start=0, end=1)
            ones = self.integers("ones", [1, 1])
            expanded = self.op("Concat", [size, ones], "class.shape", axis=0)
            token = self.op("Expand", [token, expanded], "class.tokens")
        classed = self.op("Concat", [token, rows], "tokens", axis=1)
        return self.add(classed, self.tensor("positions", (1, TOKENS, WIDTH)))

    def attention(self, name: str, tokens: str) -> str:
        """Multi-head self-attention; [1, tokens, width] to the same."""
        size = WIDTH // HEADS
        heads = self.integers(f"{name}.heads", [self.first, TOKENS, HEADS, size])
        parts = {}
        for part, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            linear = self.linear(f"{name}.{part}", tokens, WIDTH, WIDTH)
            split = self.op("Reshape", [linear, heads], f"{name}.{part}.split")
            parts[part] = self.op("Transpose", [split], f"{name}.{part}.heads", perm=perm)
        scores = self.op("MatMul", [parts["q"], parts["k"]], f"{name}.scores")
        scale = self.constant(f"{name}.scale", 1.0 / np.sqrt(size))
        scaled = self.op("Mul", [scores, scale], f"{name}.scaled")
        weights = self.op("Softmax", [scaled], f"{name}.softmax", axis=-1)
        mixed = self.op("MatMul", [weights, parts["v"]], f"{name}.mixed")
        rows = self.op("Transpose", [mixed], f"{name}.rows", perm=[0, 2, 1, 3])
        shape = self.integers(f"{name}.joined.shape", [self.first, TOKENS, WIDTH])
        joined = self.op("Reshape", [rows, shape], f"{name}.joined")
        return self.linear(f"{name}.proj", joined, WIDTH, WIDTH)

    def mlp(self, name: str, tokens: str) -> str:
        """Two linear layers with exact GELU between them: x / 2 * (1 + erf(x / sqrt(2)))."""
        hidden = self.linear(f"{name}.fc1", tokens, WIDTH, 4 * WIDTH)
        root = self.constant(f"{name}.root", np.sqrt(2.0))
        erf = self.op("Erf", [self.op("Div", [hidden, root], f"{name}.over_root")], f"{name}.erf")
        shifted = self.op("Add", [erf, self.constant(f"{name}.one", 1.0)], f"{name}.shifted")
        gated = self.op("Mul", [hidden, shifted], f"{name}.gated")
        halved = self.op("Mul", [gated, self.constant(f"{name}.half", 0.5)], f"{name}.gelu")
        return self.linear(f"{name}.fc2", halved, 4 * WIDTH, WIDTH)

    def linear(self, name: str, tokens: str, size_in: int, size_out: int) -> str:
        """A linear layer; weights after Glorot, as the paper's code has them."""
        std = float(np.sqrt(2.0 / (size_in + size_out)))
        product = self.op(
            "MatMul",
            [tokens, self.tensor(f"{name}.weight", (size_in, size_out), std)],
            f"{name}.product",
        )
        return self.op("Add", [product, self.tensor(f"{name}.bias", (size_out,))], f"{name}.out")

    def norm(self, name: str, tokens: str) -> str:
        """Layer normalization over the width."""
        scale = self.tensor(f"{name}.scale", (WIDTH,), mean=1.0)
        bias = self.tensor(f"{name}.bias", (WIDTH,))
        return self.op(
            "LayerNormalization", [tokens, scale, bias], f"{name}.out", axis=-1, epsilon=1e-6
        )

    def add(self, left: str, right: str) -> str:
        """A sum."""
        return self.op("Add", [left, right], f"{right}.sum")

    def op(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node, named after its one output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def tensor(
        self, name: str, shape: tuple[int, ...], std: float = 0.02, mean: float = 0.0
    ) -> str:
        """A seeded weight."""
        values = normal(f"vit_s14/{name}", shape, std, mean)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, name: str, value: float) -> str:
        """A float scalar."""
        self.weights.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def integers(self, name: str, value: int | list[int]) -> str:
        """An int64 scalar or vector."""
        self.weights.append(numpy_helper.from_array(np.array(value, np.int64), name))
        return name


def save(model: onnx.ModelProto, output: Path, *, external: bool) -> None:
    """Write a model whole or not at all; its weights first, where they lie beside it."""
    onnx.checker.check_model(model)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.tmp")
    data = output.with_name(f"{output.name}.data")
    temporary_data = temporary.with_name(f"{temporary.name}.data")
    try:
        if external:
            for tensor in model.graph.initializer:
                if len(tensor.raw_data) >= LARGE:
                    onnx.external_data_helper.set_external_data(tensor, location=data.name)
            write_external(model, temporary_data)
            temporary_data.replace(data)
        temporary.write_bytes(model.SerializeToString(deterministic=True))
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
        temporary_data.unlink(missing_ok=True)


def write_external(model: onnx.ModelProto, data: Path) -> None:
    """Move the weights that are marked external into a file, each aligned to 4096 bytes."""
    with data.open("wb") as stream:
        for tensor in model.graph.initializer:
            if tensor.data_location != TensorProto.EXTERNAL:
                continue
            stream.write(b"\0" * (-stream.tell() % 4096))
            fields = {"offset": stream.tell(), "length": len(tensor.raw_data)}
            for key, value in fields.items():
                tensor.external_data.add(key=key, value=str(value))
            stream.write(tensor.raw_data)
            tensor.ClearField("raw_data")


def main() -> int:
    """Make the model that the command line names."""
    parser = argparse.ArgumentParser(description="Make an ONNX file of the reference corpus.")
    parser.add_argument("name", choices=[*LIGHT_MODELS, "vit_s14"])
    parser.add_argument("output", type=Path, help="the ONNX file to write")
    arguments = parser.parse_args()
    external = arguments.name == "vit_s14"
    model = VisionTransformer().model() if external else make_light(arguments.name)
    try:
        save(model, arguments.output, external=external)
    except OSError as error:
        sys.stderr.write(f"{arguments.output} cannot be written: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
