"""Which target a new corpus gets: one that engines can be built for on this machine."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..corpus import Corpus
from ..corpus_targets import TargetSpec
from ..host import Host
from ..targets import Target, full_targets, host_of

RTX, HOST, CPU = "rtx", "host", "cpu"

PORTABLE = (86, 89, 120)
"""Ampere, Ada and Blackwell, in one engine."""

# What TensorRT-RTX builds for, without SM 75, which has no matrix product in fp32.
_RTX = frozenset({80, 86, 89, 120, 121})

# Each was tried with TensorRT-RTX 1.7; its ONNX parser refused the others.
_TENSORRT_TYPES = frozenset({
    *("float64", "float32", "float16", "bfloat16"),
    *("int64", "int32", "int8", "uint8", "bool"),
})  # fmt: skip


class Chosen(msgspec.Struct, frozen=True):
    """The target that a new corpus gets.

    Attributes:
        name: Its name: RTX, HOST or CPU.
        sm: Compute capabilities, where the file has to say them.
        version: The runtime's version here; None where nothing can be built here.
        lacking: Target to why its engines cannot be built here.
        types: Types of elements that inputs may have; None for any.
    """

    name: str
    sm: tuple[int, ...]
    version: str | None
    lacking: dict[str, str]
    types: frozenset[str] | None


def choose(path: Path) -> Chosen:
    """The target of a new corpus file.

    Raises:
        EngineryError: ENGINERY_HOST cannot be understood.
    """
    specs = {
        RTX: TargetSpec(RTX, "tensorrt_rtx", PORTABLE, None, None),
        HOST: TargetSpec(HOST, "tensorrt", None, None, None),
        CPU: TargetSpec(CPU, "onnxruntime", None, None, None),
    }
    corpus = Corpus(path=path, engines=path.parent, targets=specs, backbones=())
    host = host_of(corpus)
    full = full_targets(corpus, host)
    name = _first(full, host())
    hardware = full[name].hardware
    here = {gpu.sm for gpu in host().gpus if gpu.sm in _RTX}
    return Chosen(
        name=name,
        sm=tuple(sorted({*PORTABLE, *here})) if name == RTX else (),
        version=None if full[name].elsewhere or hardware is None else hardware.trt,
        lacking={one: target.elsewhere for one, target in full.items() if target.elsewhere},
        types=None if name == CPU else _TENSORRT_TYPES,
    )


def _first(full: dict[str, Target], host: Host) -> str:
    """What runs on this machine's GPU goes first, then what builds without one."""
    order = [RTX, HOST, CPU]
    if host.gpus and not any(gpu.sm in _RTX for gpu in host.gpus):
        order = [HOST, RTX, CPU]
    return next((name for name in order if full[name].elsewhere is None), RTX)
