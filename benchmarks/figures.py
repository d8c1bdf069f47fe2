"""The figures that the README quotes, as ratios side by side in one run.

    python benchmarks/figures.py [null large build parallel memory]

Nothing is asserted about a time; a ratio above its bar has `over` beside it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import projects
from pairs import DOIT, ENVIRONMENT, measure, run, table

IMAGE = [1, 3, 224, 224]
BARE = Path(__file__).with_name("bare_build.py")

# doit in this very process, so that its peak is its own and not that of its children. VmHWM, not
# ru_maxrss: the latter starts at what the process that forked it had.
PEAK = """\
import sys
from doit.doit_cmd import DoitMain
code = DoitMain().run(sys.argv[1:])
status = open("/proc/self/status").read()
print("peak", status.partition("VmHWM:")[2].split()[0], file=sys.stderr)
sys.exit(code)
"""


def null(work: Path) -> Iterator[str]:
    """100 fresh engines of 64 KiB against plain doit with 100 targets that exist."""
    projects.plain(work / "plain", count=100, size=1 << 16)
    for precision, bar in (("fp32", 1.3), ("fp16", None)):
        folder = work / precision
        projects.published(folder, count=100, size=1 << 16, precision=precision)
        yield measure(
            f"nothing to do, 100 engines of 64 KiB in {precision}, against plain doit",
            partial(run, DOIT, folder),
            partial(run, DOIT, work / "plain"),
            pairs=25,
            bar=bar,
        ).row()


def large(work: Path) -> Iterator[str]:
    """Four engines of 512 MiB against OpenSSL in two processes."""
    if shutil.which("openssl") is None:
        yield "| openssl is not installed: `large` was not measured | | | | |"
        return
    engines = projects.published(work, count=4, size=1 << 29, precision="fp32")

    def openssl() -> float:
        began = time.perf_counter()
        command = ["openssl", "dgst", "-sha256"]
        halves = [
            subprocess.Popen([*command, *map(str, half)], stdout=subprocess.DEVNULL)
            for half in (engines[:2], engines[2:])
        ]
        for half in halves:
            half.wait()
        return time.perf_counter() - began

    yield measure(
        "nothing to do, 4 engines of 512 MiB, against `openssl dgst -sha256` in two processes",
        partial(run, DOIT, work),
        openssl,
        pairs=7,
        bar=1.15,
    ).row()


def build(work: Path) -> Iterator[str]:
    """`doit resnet50` from nothing against a bare Polygraphy script."""
    model = projects.reference_model(work, "resnet50")
    for precision in ("fp32", "fp16"):
        projects.write_corpus(
            work, ["resnet50"], precision=precision, input_name="gpu_0/data_0", shape=IMAGE
        )
        bare = work / "bare.engine"

        def ours() -> float:
            for made in ("engines", ".enginery", ".doit.db"):
                target = work / made
                shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            return run([*DOIT, "resnet50"], work)

        def script(precision: str = precision, bare: Path = bare) -> float:
            return run([sys.executable, str(BARE), str(model), precision, str(bare)], work)

        figure = measure(
            f"`doit resnet50` from nothing in {precision}, against a bare Polygraphy script",
            ours,
            script,
            pairs=5,
            bar=1.3,
        )
        (engine,) = (work / "engines").glob("*.engine")
        same = engine.read_bytes() == bare.read_bytes()
        yield figure.row()
        yield f"| the two engines are {'' if same else 'not '}equal byte by byte | | | | |"


def parallel(work: Path) -> Iterator[str]:
    """`doit -n 2` against `doit` on four equal backbones."""
    model = projects.reference_model(work, "densenet121")
    names = [f"m{index}" for index in range(4)]
    for name in names:
        shutil.copy(model, work / f"{name}.onnx")
    projects.write_corpus(work, names, precision="fp32", input_name="data_0", shape=IMAGE)

    def doit(*arguments: str) -> Callable[[], float]:
        def timed() -> float:
            run([*DOIT, "clean"], work)
            return run([*DOIT, *arguments], work)

        return timed

    yield measure(
        "`doit -n 2` against `doit`, four equal backbones",
        doit("-n", "2"),
        doit(),
        pairs=5,
        bar=0.65,
    ).row()


def memory(work: Path) -> Iterator[str]:
    """Peak memory of the doit process while a 400 MB engine is built, published and verified."""
    work.mkdir(parents=True)
    projects.write_matmul(work / "m.onnx", seed=1, size=4096, layers=6)
    projects.write_corpus(work, ["m"], precision="fp32", input_name="input", shape=[1, 4096])
    for what in ("built and published", "verified"):
        done = subprocess.run([sys.executable, "-c", PEAK], cwd=work, env=ENVIRONMENT,
                              capture_output=True, text=True, check=True)  # fmt: skip
        peak = int(done.stderr.rpartition("peak ")[2]) / 1024
        (engine,) = (work / "engines").glob("*.engine")
        size = engine.stat().st_size / 1e6
        yield (
            f"| peak memory of doit while an engine of {size:.0f} MB is {what} "
            f"| {peak:.0f} MiB | | | 150 MB |"
        )


FIGURES = {f.__name__: f for f in (null, large, build, parallel, memory)}


if __name__ == "__main__":
    table(__doc__, FIGURES)
