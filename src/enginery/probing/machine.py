"""The machine itself: CPU, GPUs, Jetson and TensorRT put together."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from enginery.host import Host

from . import cpu, discrete, jetson
from .root import HERE, Root
from .tensorrt_library import tensorrt_version


def probed(
    root: Root = HERE, *, machine: str | None = None, environ: Mapping[str, str] = os.environ
) -> Host:
    """This machine, or the one whose files lie below a root.

    Args:
        root: Where its files lie.
        machine: Its architecture as the kernel says it; this machine's if not given.
        environ: The environment, for CUDA_VISIBLE_DEVICES.
    """
    machine = machine or platform.machine()
    trt = tensorrt_version(root=root)
    board = jetson.find(root, machine=machine, environ=environ)
    found = board or discrete.find(root, environ)
    return Host(
        source="probed",
        cpu=cpu.level_of(machine, root),
        gpus=found.gpus,
        board=board.board if board else None,
        l4t=board.l4t if board else None,
        jetpack=board.jetpack if board else None,
        driver=found.driver,
        cuda=found.cuda,
        trt=trt,
        remarks=(*found.remarks, *_build_number(trt)),
    )


def _build_number(trt: str | None) -> tuple[str, ...]:
    if trt is None or trt.count(".") >= 3:
        return ()
    remark = (
        f"the build number of TensorRT {trt} is in no metadata, only its library knows it: "
        "Debian's packages have it, and Python's from 10.8 on"
    )
    return (remark,)
