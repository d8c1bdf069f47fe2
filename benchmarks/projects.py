"""The projects that figures are measured on."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pairs import DOIT, run

from enginery import BuildConfig, EngineCacheEntry, EngineCompiler
from enginery.atomic import staged
from enginery.corpus import read_corpus
from enginery.digest import sha256_file
from enginery.jobs import engine_jobs
from enginery.publish import publish
from enginery.runtimes.tensorrt_rtx import TensorRTRTX

DODO = """\
from enginery.doit import doit_config, engine_tasks
DOIT_CONFIG = doit_config()
def task_engines():
    yield from engine_tasks("corpus.toml")
"""
PLAIN_DODO = """\
def task_plain():
    for index in range({count}):
        yield {{
            "name": str(index),
            "actions": ["true"],
            "file_dep": [f"m{{index}}.onnx"],
            "targets": [f"engines/m{{index}}.engine"],
        }}
"""
HEAD = """\
schema = 1
[corpus]
precision = ["{precision}"]
targets = ["rtx"]
[targets.rtx]
runtime = "tensorrt_rtx"
sm = [86, 89, 120]
"""
BACKBONE = """\
[backbones.{name}]
onnx = "{name}.onnx"
input_name = "{input_name}"
expected_input_shape = {shape}
"""


class RandomBytes(TensorRTRTX):
    """Publishes random bytes of a given size as an engine, as the real runtime publishes its."""

    prepares_inputs = False

    def __init__(self, size: int) -> None:
        self.size = size

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:  # noqa: ARG002
        """Publish instead of building; what is measured is what comes after."""
        path = build_config.engine_path
        host = build_config.host
        assert host is not None
        assert build_config.attest is not None
        with staged(path) as temporary:
            with temporary.open("wb") as stream:
                for _ in range(0, self.size, 1 << 26):
                    stream.write(os.urandom(min(self.size, 1 << 26)))
            digest = sha256_file(temporary)
            publish(temporary, path, digest, build_config.attest(digest))
        return EngineCacheEntry(path, digest, host.sm, None, host.trt, build_config.precision)


def write_matmul(path: Path, *, seed: int, size: int, layers: int) -> None:
    """A chain of square matrix products: `layers` weights of size x size float32."""
    random = np.random.RandomState(seed)
    weights, nodes, tensor = [], [], "input"
    for index in range(layers):
        values = (random.standard_normal((size, size)) / np.sqrt(size)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{index}"))
        output = "output" if index == layers - 1 else f"t{index}"
        nodes.append(helper.make_node("MatMul", [tensor, f"w{index}"], [output], name=f"n{index}"))
        tensor = output
    shape = [1, size]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        weights,
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def write_corpus(
    folder: Path, names: list[str], *, precision: str, input_name: str, shape: list[int]
) -> None:
    """dodo.py and corpus.toml for models that lie in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dodo.py").write_text(DODO)
    tables = [BACKBONE.format(name=n, input_name=input_name, shape=shape) for n in names]
    (folder / "corpus.toml").write_text(HEAD.format(precision=precision) + "".join(tables))


def published(folder: Path, *, count: int, size: int, precision: str) -> list[Path]:
    """A corpus whose engines are fresh, each of `size` random bytes."""
    names = [f"m{index}" for index in range(count)]
    write_corpus(folder, names, precision=precision, input_name="input", shape=[1, 16])
    for index, name in enumerate(names):
        write_matmul(folder / f"{name}.onnx", seed=index, size=16, layers=2)
    here = Path.cwd()
    os.chdir(folder)
    try:
        for job in engine_jobs(read_corpus("corpus.toml")):
            compiler = EngineCompiler(
                inference_runtime=RandomBytes(size), logger=logging.Logger("benchmark", 100)
            )
            compiler.compile_engines_for_corpus(job.request)
    finally:
        os.chdir(here)
    # Digests of inputs are remembered only of files that are older than two seconds.
    time.sleep(2.1)
    for _ in range(2):
        run(DOIT, folder)
    assert_nothing_to_do(folder, count)
    return sorted((folder / "engines").glob("*.engine"))


def plain(folder: Path, *, count: int, size: int) -> None:
    """A plain doit project whose targets exist."""
    (folder / "engines").mkdir(parents=True)
    (folder / "dodo.py").write_text(PLAIN_DODO.format(count=count))
    for index in range(count):
        write_matmul(folder / f"m{index}.onnx", seed=index, size=16, layers=2)
        (folder / "engines" / f"m{index}.engine").write_bytes(os.urandom(size))
    for _ in range(2):
        run(DOIT, folder)
    assert_nothing_to_do(folder, count)


def reference_model(folder: Path, name: str) -> Path:
    """A model of the reference corpus."""
    script = Path(__file__).parent.parent / "models" / "make_onnx.py"
    path = folder / f"{name}.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(script), name, str(path)], check=True)
    return path


def assert_nothing_to_do(folder: Path, count: int) -> None:
    """Hold that a run skips every task: a figure of something else would be worthless."""
    done = subprocess.run(DOIT, cwd=folder, capture_output=True, text=True, check=True)
    skipped = [line for line in done.stdout.splitlines() if line.startswith("--")]
    assert len(skipped) >= count, done.stdout
    ran = [line for line in done.stdout.splitlines() if line.startswith(".")]
    assert not ran, done.stdout
