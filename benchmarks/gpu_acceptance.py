"""The reference corpus on a machine with a GPU: built, loaded, run, compared; a report in Markdown.

    python3 benchmarks/gpu_acceptance.py [--runtime tensorrt] [--report gpu.md] [--work DIR]
                                         [--models squeezenet,resnet50] [--precision fp32,fp16]

It needs Python and TensorRT and nothing else: where enginery is not installed it makes a virtual
environment that sees the system's packages (JetPack's TensorRT is one) and starts itself again in
it. `--runtime tensorrt_rtx` does the same with TensorRT-RTX. Each step is tried whatever became of
the one before; the exit code is 0 only if engines could be built and no step failed. A step that
this machine cannot take, such as loading an engine where there is no GPU, is reported as not run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

INPUTS = {
    "squeezenet": "data_0",
    "resnet50": "gpu_0/data_0",
    "densenet121": "data_0",
    "vit_s14": "input",
}
DODO = """\
from enginery.doit import doit_config, engine_tasks
DOIT_CONFIG = doit_config()
def task_engines():
    yield from engine_tasks("corpus.toml")
"""
# An engine may use TF32 in fp32: 10 bits of mantissa, as fp16 has.
SNR_DB = {"fp32": "40.0"}


class NotRunError(Exception):
    """This machine cannot take the step."""


@dataclass
class Acceptance:
    """One run over a corpus in a folder of its own.

    Attributes:
        work: The folder.
        runtime: The runtime of the only target.
        models: Backbones.
        precisions: What is built of each.
        target: Lines of the target's table.
        reason: Why nothing can be built here; empty where it can.
        rows: Step, result, words.
    """

    work: Path
    runtime: str
    models: list[str]
    precisions: list[str]
    target: str = ""
    reason: str = ""
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    host: dict[str, Any] = field(default_factory=dict)

    def step(self, name: str, take: Callable[[], str]) -> None:
        """Take a step, and note what became of it."""
        began = time.perf_counter()
        try:
            if self.reason:
                raise NotRunError(f"nothing can be built here: {self.reason}")
            result, words = "yes", take()
        except NotRunError as reason:
            result, words = "not run", str(reason)
        except Exception as error:
            result, words = "NO", " ".join(f"{type(error).__name__}: {error}".split())[:1500]
        self.rows.append((name, result, f"{words} ({time.perf_counter() - began:.1f} s)"))
        sys.stderr.write(f"{name}: {result}: {words}\n")

    def doit(self, *arguments: str, **variables: str) -> tuple[float, str]:
        """Wall time and output of doit; raises where it fails."""
        began = time.perf_counter()
        done = self.start(*arguments, **variables)
        said, _ = done.communicate()
        if done.returncode != 0:
            raise RuntimeError(f"doit {' '.join(arguments)} ended with {done.returncode}: {said}")
        return time.perf_counter() - began, said

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start doit in the folder."""
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.work / "cache"), **variables}
        return subprocess.Popen(
            [sys.executable, "-m", "doit", *arguments], cwd=self.work, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def find_host(self) -> str:
        """What the machine is; TensorRT-RTX gets its own list where it has not this GPU."""
        _, said = self.doit("host", "--json")
        self.host = json.loads(said)["host"]
        (target,) = json.loads(said)["corpora"][0]["targets"]
        if target["hardware"] is None and self.runtime == "tensorrt_rtx":
            self.target = "sm = [80, 86, 89, 120]"
            self.write_corpus()
            self.rows.append(
                ("target", "yes", f"{target['reason']}; {self.target} is tried instead")
            )
        elif not target["built_here"]:
            self.reason = target["reason"]
        gpus = ", ".join(f"{gpu['name']} (SM {gpu['sm']})" for gpu in self.host["gpus"])
        return f"{gpus or 'no GPU'}; remarks: {' '.join(self.host['remarks']) or 'none'}"

    def write_corpus(self) -> str:
        """Models, and a corpus of them for this host."""
        for model in self.models:
            if not (self.work / f"{model}.onnx").exists():
                subprocess.run(
                    [sys.executable, str(ROOT / "models" / "make_onnx.py"), model,
                     str(self.work / f"{model}.onnx")], check=True, capture_output=True,
                )  # fmt: skip
        shutil.copy(ROOT / "models" / "images.py", self.work)
        (self.work / "dodo.py").write_text(DODO)
        lines = [
            "schema = 1", "[corpus]", 'targets = ["host"]', f"precision = {self.precisions}",
            "[targets.host]", f'runtime = "{self.runtime}"', self.target,
        ]  # fmt: skip
        for model in self.models:
            lines += [
                f"[backbones.{model}]", f'onnx = "{model}.onnx"', f'input_name = "{INPUTS[model]}"',
                "expected_input_shape = [1, 3, 224, 224]",
                f'calibrate = {{ data = "images:{model}" }}',
            ]  # fmt: skip
        (self.work / "corpus.toml").write_text("\n".join(lines) + "\n")
        return f"{', '.join(self.models)} in {', '.join(self.precisions)}, {self.runtime}"

    def build(self) -> str:
        """Every engine, from nothing."""
        seconds, said = self.doit()
        built = re.findall(r"^(\S+\.engine: .*)$", said, re.MULTILINE)
        return f"{len(built)} engines in {seconds:.1f} s: " + "; ".join(built)

    def build_nothing(self) -> str:
        """The second run."""
        seconds, said = self.doit()
        ran = re.findall(r"^\. .*$", said, re.MULTILINE)
        if ran:
            raise RuntimeError(f"the second run ran {', '.join(ran)}")
        return f"nothing built in {seconds:.2f} s"

    def compare(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Each engine loaded, run, and held against the ONNX in ONNX Runtime."""
        from enginery import worker
        from enginery.corpus import read_corpus
        from enginery.jobs import engine_jobs
        from enginery.runtimes import load_runtime

        for job in engine_jobs(read_corpus(self.work / "corpus.toml")):

            def run(job: Any = job) -> str:
                if not job.plan.path.exists():
                    raise NotRunError("it was not built")
                # On a GPU that is not in its list too: what happens is worth knowing.
                if not (job.runs_here() or self.host.get("gpus")):
                    raise NotRunError("this machine has nothing that runs it")
                runtime = load_runtime(job.runtime)
                request = dict(job.engine_check().request)
                bound = SNR_DB.get(job.request.precision.value)
                tolerances = {"min_snr_db": bound} if bound else request["tolerances"]
                request["tolerances"] = {name: float(value) for name, value in tolerances.items()}
                found = worker.run("enginery.accuracy.engine:compare_engine", request,
                                   environment=runtime.polygraphy_environment)  # fmt: skip
                metrics = "; ".join(
                    f"{name}: {values.get('snr_db')} dB, largest difference {values.get('max_abs')}"
                    for name, values in found["outputs"].items()
                )
                if not found["passed"]:
                    raise RuntimeError(f"{metrics}; {'; '.join(found['missed'])}")
                return metrics

            yield f"load, run and compare {job.plan.path.name}", run

    def timing_cache(self) -> str:
        """The same builds with and without what an earlier one measured."""
        caches = list((self.work / "cache").rglob("timing/*"))
        if not caches:
            raise NotRunError("no timing cache was written")
        self.doit("clean", *self.models)
        warm, _ = self.doit(*self.models)
        for cache in caches:
            cache.unlink(missing_ok=True)
        self.doit("clean", *self.models)
        cold, _ = self.doit(*self.models)
        return f"{cold:.1f} s without, {warm:.1f} s with: {warm / cold:.2f}"

    def lock(self) -> str:
        """Two runs at once: each engine is built once, and one at a time."""
        self.doit("clean", *self.models)
        runs = [self.start(*self.models), self.start(*self.models)]
        said = "".join(run.communicate()[0] for run in runs)
        if any(run.returncode for run in runs):
            raise RuntimeError(said)
        built = re.findall(r"^(\S+\.engine): .*, built in", said, re.MULTILINE)
        expected = len(self.models) * len(self.precisions)
        if len(built) != expected or len(set(built)) != expected:
            raise RuntimeError(f"{len(built)} builds of {expected} engines: {said}")
        return f"{expected} engines, {len(built)} builds by two runs"

    def damage(self) -> str:
        """A flipped bit is seen, and that engine alone is built again."""
        engine = min(self.work.glob("engines/*.engine"))
        data = bytearray(engine.read_bytes())
        data[len(data) // 2] ^= 1
        engine.write_bytes(data)
        _, said = self.doit()
        built = re.findall(r"^(\S+\.engine): .*, built in", said, re.MULTILINE)
        if built != [engine.name]:
            raise RuntimeError(f"{engine.name} was damaged, {built} was built: {said}")
        return f"{engine.name} was built again"

    def reproduce(self) -> str:
        """Whether a second build of the same inputs has the same bytes."""
        before = {path.name: path.read_text() for path in self.work.glob("engines/*.sha256")}
        self.doit("clean", *self.models)
        self.doit(*self.models)
        after = {path.name: path.read_text() for path in self.work.glob("engines/*.sha256")}
        same = sum(before[name] == digest for name, digest in after.items())
        return f"{same} of {len(after)} engines have the same bytes"

    def report(self) -> str:
        """All steps, as a page."""
        lines = [
            f"# GPU acceptance: {self.runtime}", "",
            "```json", json.dumps(self.host, indent=2), "```", "",
            "| step | result | what was seen |", "| --- | --- | --- |",
            *(
                f"| {name} | {result} | {words.replace('|', '/')} |"
                for name, result, words in self.rows
            ),
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


def main() -> int:
    """Take all steps; 0 if none failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runtime", default="tensorrt")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--models", default=",".join(INPUTS))
    parser.add_argument("--precision", default="fp32,fp16,bf16,int8")
    parser.add_argument(
        "--target", default="", help="further lines of the target's table, such as sm = [86, 89]"
    )
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp(prefix="enginery-gpu-"))
    work.mkdir(parents=True, exist_ok=True)
    if (work / "corpus.toml").exists():
        parser.error(f"{work} was used before; name a folder that is empty")
    if importlib.util.find_spec("enginery") is None:
        return _again_in_an_environment(work / "venv")
    run = Acceptance(work, asked.runtime, asked.models.split(","), asked.precision.split(","),
                     asked.target)  # fmt: skip
    try:
        run.write_corpus()
        found = run.find_host()
    except (RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(f"the corpus cannot be made: {error}")
    run.rows.append(("host", "yes", found))
    run.step("build", run.build)
    run.step("second run", run.build_nothing)
    try:
        comparisons = list(run.compare())
    except Exception as error:
        comparisons = []
        run.rows.append(("compare", "NO", str(error)))
    for name, take in comparisons:
        run.step(name, take)
    run.step("timing cache", run.timing_cache)
    run.step("lock", run.lock)
    run.step("damage", run.damage)
    run.step("same bytes", run.reproduce)
    report = run.report()
    sys.stdout.write(report)
    if asked.report:
        asked.report.write_text(report)
    return int(bool(run.reason) or any(result == "NO" for _, result, _ in run.rows))


def _again_in_an_environment(folder: Path) -> int:
    venv.create(folder, with_pip=True, system_site_packages=True)
    python = str(folder / "bin" / "python")
    # What the environment that started this has, TensorRT perhaps, is seen as well.
    (inner,) = folder.glob("lib/python*/site-packages")
    (inner / "outer.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{ROOT}[build]"], check=True)
    return subprocess.run([python, *sys.argv], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
