"""A runtime that builds with TensorRT-RTX under declared tags, and workers that misbehave with it.

What a worker does wrong is in its environment, `ODD`: a JSON object.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_models
from conftest import Project, Run
from farms import RTX_VERSION, Farm, RunningWorker

from enginery.runtimes.protocol import platform_here

NAME = "odd_rtx"

SOURCE = """\
import json, os, signal, time
from enginery.runtimes.tensorrt_rtx import TensorRTRTX

ODD = json.loads(os.environ.get("ODD", "{}"))


class OddRTX(TensorRTRTX):
    name = "odd_rtx"
    builds_anywhere = False

    def elsewhere(self, target, host):
        if target.sm in host.sms:
            return None
        return f"it needs a host with {target}; this one is {host}"

    def compile_engine(self, model, config):
        if config.model_name in ODD.get("dies_of", ()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().compile_engine(model, config)


if "deaf" in ODD:
    from enginery.errors import FarmError
    from enginery.farm.blobs import InputBlobs

    def put(self, sender, sha256, size, offset, data):
        raise FarmError("this worker is deaf")

    InputBlobs.put = put

if "blobs" in ODD or "swaps" in ODD:
    from enginery.farm.build import Builds

    read_blob, stored_for, first = Builds.read_blob, Builds._stored, []

    def wrong_blob(self, sha256, offset, length):
        data = read_blob(self, sha256, offset, length)
        return data[:-1] + bytes([data[-1] ^ 1]) if len(data) > ODD["blobs"] else data

    def swapped(self, request, name, link):
        first.append(stored_for(self, request, name, link))
        return first[0]

    if "blobs" in ODD:
        Builds.read_blob = wrong_blob
    if "swaps" in ODD:
        Builds._stored = swapped
"""

CORPUS = """\
schema = 1
[corpus]
engines = "engines"
precision = ["fp32"]
targets = ["far"]
workspace_mb = 64
[store]
local = false
[farm]
scheduler = "{scheduler}"
wait_for_worker = {wait}
[targets.far]
runtime = "odd_rtx"
sm = 86
[targets.near]
runtime = "tensorrt_rtx"
sm = 86
"""


def installed(folder: Path) -> str:
    """A folder for PYTHONPATH in which the runtime is installed."""
    info = folder / "odd_rtx-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (folder / "odd_rtx.py").write_text(SOURCE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-rtx\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[enginery.runtimes]\nodd_rtx = odd_rtx:OddRTX\n")
    return str(folder)


def tag(sm: int = 86, version: str = RTX_VERSION) -> str:
    return f"enginery:{NAME}:sm{sm}:nojp:{version}:{platform_here()}"


@dataclass
class Site:
    """A project whose engines are for hardware that this host has not, and a farm.

    Attributes:
        farm: The farm.
        project: The project.
        path: What PYTHONPATH is for both.
    """

    farm: Farm
    project: Project
    path: str

    def models(self, *names: str, target: str = "far", slow: bool = False) -> None:
        """Add models to the corpus, each with other weights."""
        text = (self.project.path / "corpus.toml").read_text()
        for name in names:
            onnx = self.project.path / f"{name}.onnx"
            shape, more = "[1, 3, 16, 16]", ""
            if slow:
                shape, more = "[1, 3, 224, 224]", f'input_name = "{onnx_models.SLOW_INPUT}"\n'
                onnx_models.write_slow(onnx)
                if name != "slow":
                    # Other bytes for protobuf, and the same model: an empty producer_version.
                    onnx.write_bytes(
                        onnx.read_bytes() + b"\x1a" + bytes([len(name)]) + name.encode()
                    )
            else:
                onnx_models.write_small(onnx, seed=sum(name.encode()))
            text += (
                f'[backbones.{name}]\nonnx = "{name}.onnx"\ntargets = ["{target}"]\n'
                f"expected_input_shape = {shape}\n{more}"
            )
        (self.project.path / "corpus.toml").write_text(text)

    def worker(
        self,
        name: str,
        *,
        odd: dict[str, Any] | None = None,
        tags: tuple[str, ...] = (),
        **given: Any,
    ) -> RunningWorker:
        env = {
            "PYTHONPATH": self.path,
            "ENGINERY_HOST": f"sm=86 trt={RTX_VERSION}",
            "ODD": json.dumps(odd or {}),
        }
        return self.farm.start_worker(name, tags=tags or (tag(),), env=env, **given)

    def doit(self, *arguments: str, timeout: float = 300) -> Run:
        return self.project.doit(*arguments, timeout=timeout)

    def engine(self, name: str) -> Path:
        return self.project.engines / f"{name}_sm86_nojp_trt{RTX_VERSION}_fp32.engine"

    def built(self) -> list[str]:
        """What the workers say that they built, in no order."""
        found = []
        for log in self.farm.folder.glob("*.log"):
            lines = log.read_text().splitlines()
            found += [line.split()[2] for line in lines if ": built in" in line]
        return sorted(found)

    def is_clean(self) -> bool:
        """Whether nothing but engines and their documents is in the engine folder."""
        return not [one for one in self.project.engines.iterdir() if one.name.startswith(".")]


def site(farm: Farm, project: Project, patch: Any, *, wait: float = 20) -> Site:
    path = os.pathsep.join(
        filter(None, [installed(farm.folder / "odd"), os.environ.get("PYTHONPATH")])
    )
    patch.setenv("PYTHONPATH", path)
    patch.delenv("ENGINERY_HOST", raising=False)
    (project.path / "corpus.toml").write_text(CORPUS.format(scheduler=farm.scheduler, wait=wait))
    return Site(farm, project, path)
