"""What the farm costs: two workers on this machine against `doit -n 2`, one against doit in place.

    python benchmarks/farm.py [eight large] [--workdir DIR]

Scheduler and workers are real, on loopback, and build with TensorRT-RTX by a runtime that is told
what its host is: the same build goes to the farm where the target is another host than this one,
and is done in place where it is this one. Nothing is asserted; a ratio above its bar has `over`
beside it.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from pairs import DOIT, ENVIRONMENT, measure, table
from pairs import run as run_in
from projects import BACKBONE, DODO, write_matmul

TESTS = Path(__file__).parent.parent / "tests"
sys.path += [str(TESTS), str(TESTS / "farm")]
import onnx_models
from farms import DECLARED, RTX_VERSION, Farm, running_farm

from enginery.runtimes.protocol import platform_here

TAG = f"enginery:{DECLARED}:sm86:nojp:{RTX_VERSION}:{platform_here()}"
HOST = f"sm=86 trt={RTX_VERSION}"
HEAD = f"""\
schema = 1
[corpus]
precision = ["fp32"]
targets = ["device"]
[farm]
scheduler = "{{scheduler}}"
[targets.device]
runtime = "{DECLARED}"
sm = 86
"""
SEEDS = count(1)
"""Every build is of a model that nobody has seen."""


class Corpus:
    """A corpus for a host that this machine is said to be, or is not."""

    def __init__(
        self,
        folder: Path,
        farm: Farm,
        write: Callable[[Path, int], None],
        *,
        models: int,
        input_name: str,
        shape: list[int],
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self._farm, self._write, self._models = folder, farm, write, models
        (folder / "dodo.py").write_text(DODO)
        text = HEAD.format(scheduler=farm.scheduler)
        for name in self._names():
            text += BACKBONE.format(name=name, input_name=input_name, shape=shape)
        (folder / "corpus.toml").write_text(text)

    def timed(self, *arguments: str, here: bool) -> float:
        """Seconds of a doit that builds all of it, with nothing kept of before."""
        for folder in ("engines", "cache", ".enginery"):
            shutil.rmtree(self.folder / folder, ignore_errors=True)
        (self.folder / ".doit.db").unlink(missing_ok=True)
        for name in self._names():
            self._write(self.folder / f"{name}.onnx", next(SEEDS))
        ENVIRONMENT.update(
            PYTHONPATH=self._farm.runtime_path,
            XDG_CACHE_HOME=str(self.folder / "cache"),
            ENGINERY_HOST=HOST if here else f"sm=120 trt={RTX_VERSION}",
            ENGINERY_FARM="off" if here else self._farm.scheduler,
        )
        os.sync()
        seconds = run_in([*DOIT, *arguments], self.folder)
        built = len(list((self.folder / "engines").glob("*.engine")))
        assert built == self._models, f"{built} of {self._models} engines were built"
        return seconds

    def _names(self) -> list[str]:
        return [f"m{index}" for index in range(self._models)]


@contextmanager
def _workers(work: Path, number: int) -> Iterator[Farm]:
    with running_farm(work / "farm") as farm:
        for index in range(number):
            farm.start_worker(f"w{index}", tags=[TAG], env={"ENGINERY_HOST": HOST})
        yield farm


def _write_slow(path: Path, seed: int) -> None:
    """A model that is built in some seconds; other bytes, and the same network, each time."""
    onnx_models.write_slow(path)
    # Its producer_version, as protobuf spells it.
    with path.open("ab") as stream:
        stream.write(b"\x1a\x08" + f"{seed:08}".encode())


def _write_large(path: Path, seed: int) -> None:
    """A model of 100 MB."""
    write_matmul(path, seed=seed, size=2048, layers=6)


def eight(work: Path) -> Iterator[str]:
    """Eight equal builds on two workers of one slot, against `doit -n 2` in place."""
    with _workers(work, 2) as farm:
        corpus = Corpus(
            work / "corpus",
            farm,
            _write_slow,
            models=8,
            input_name=onnx_models.SLOW_INPUT,
            shape=[1, 3, 224, 224],
        )
        yield measure(
            "eight equal builds, two workers of one slot against `doit -n 2`",
            lambda: corpus.timed(here=False),
            lambda: corpus.timed("-n", "2", here=True),
            pairs=3,
            bar=1.15,
        ).row()


def large(work: Path) -> Iterator[str]:
    """One build of a model of 100 MB through the farm, against the same in place."""
    with _workers(work, 1) as farm:
        corpus = Corpus(
            work / "corpus", farm, _write_large, models=1, input_name="input", shape=[1, 2048]
        )
        times: list[tuple[float, float]] = []

        def on_farm() -> float:
            times.append((corpus.timed(here=False), 0.0))
            return times[-1][0]

        def in_place() -> float:
            times[-1] = (times[-1][0], corpus.timed(here=True))
            return times[-1][1]

        yield measure(
            "one build of 100 MB, through the farm against in place",
            on_farm,
            in_place,
            pairs=9,
            bar=1.2,
        ).row()
        over = statistics.median(a - b for a, b in times[1:])
        word = " over" if over > 0.5 else ""
        yield f"| the same, the difference | {over:.3f} s{word} | | | 0.5 s |"


if __name__ == "__main__":
    table(__doc__, {"eight": eight, "large": large})
