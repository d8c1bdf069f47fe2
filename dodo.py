"""The reference corpus: ONNX files made by models/make_onnx.py, engines made of them."""

import sys
from collections.abc import Iterator
from typing import Any

from enginery.doit import doit_config, engine_tasks

DOIT_CONFIG = doit_config()

MODELS = {
    "resnet50": ["resnet50.onnx"],
    "squeezenet": ["squeezenet.onnx"],
    "densenet121": ["densenet121.onnx"],
    "vit_s14": ["vit_s14.onnx", "vit_s14.onnx.data"],
}


def task_models() -> Iterator[dict[str, Any]]:
    """ONNX files of the reference corpus."""
    for name, files in MODELS.items():
        yield {
            "name": name,
            "doc": f"seeded weights in the topology of {name}",
            "actions": [[sys.executable, "models/make_onnx.py", name, f"models/{name}.onnx"]],
            "file_dep": ["models/make_onnx.py"],
            "targets": [f"models/{file}" for file in files],
            "clean": True,
        }


def task_engines() -> Iterator[Any]:
    """Engines of the reference corpus."""
    yield from engine_tasks("models/corpus.toml")
