"""Releases for tests: engines of three targets, each with recipe and bytes of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

from artifacts import make_recipe, provenance_of, publish_artifact
from keys import Pair

from enginery import release
from enginery.release import FILE_NAME, MEDIA_TYPE, Release
from enginery.signing import envelope_path, sign

ORIN = "{}_sm87_jp6.2_trt10.3.0.30_fp16.engine"
DESKTOP = "{}_sm86-89_nojp_trt1.7.1.116_int8.engine"
SERVER = "{}_cpu-x86-64-v3_nojp_ort1.26.0_fp32.engine"

TARGETS = {
    "server": (SERVER, "onnxruntime"),
    "orin": (ORIN, "tensorrt"),
    "desktop": (DESKTOP, "tensorrt_rtx"),
}


def publish_engine(folder: Path, target: str, model: str, version: int = 1) -> Path:
    """An engine of a target; another version of it has another recipe and other bytes."""
    pattern, runtime = TARGETS[target]
    name = pattern.format({"ResNet+": "+res+net++"}.get(model, model))
    recipe = make_recipe(
        inputs={"onnx": "1" * 64},
        build={"name": name, "version": version},
        toolchain={"runtime": runtime, "tensorrt": "1.0"},
    )
    return publish_artifact(folder, name=name, data=data_of(name, version), recipe=recipe)


def data_of(name: str, version: int = 1) -> bytes:
    """The bytes of an engine."""
    return hashlib.sha256(f"{name} {version}".encode()).digest() * 50


def make_release(
    folder: Path,
    models: tuple[str, ...] = ("vit", "ResNet+"),
    *,
    versions: dict[str, int] | None = None,
    signed_by: Pair | None = None,
) -> Release:
    """A release for three targets, in a folder with its engines, all of it signed or nothing.

    Args:
        folder: Where to; made if it is not there.
        models: Each of them is built for each target.
        versions: Model to version, where it is not the first.
        signed_by: Whose signature it has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    engines = {
        publish_engine(folder, target, model, (versions or {}).get(model, 1)): target
        for target in TARGETS
        for model in models
    }
    made = release.make(release.describe(target, path) for path, target in engines.items())
    (folder / FILE_NAME).write_bytes(made.document())
    if signed_by:
        for path in engines:
            sign_file(path, provenance_of(path), signed_by)
        sign_file(folder / FILE_NAME, folder / FILE_NAME, signed_by, MEDIA_TYPE)
    return made


def sign_file(path: Path, document: Path, pair: Pair, *payload_type: str) -> None:
    """Put an envelope over a document beside a file."""
    settings = {"payload_type": payload_type[0]} if payload_type else {}
    envelope_path(path).write_bytes(sign(document.read_bytes(), pair.private, **settings))
