"""Measuring two commands in turn, so that a drift of the machine's speed hits both."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# A user's Python keeps compiled modules; without them every run would compile this package.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
DOIT = [sys.executable, "-m", "doit"]


@dataclass(frozen=True)
class Figure:
    """One row of the table: medians in seconds, ratios pair by pair."""

    name: str
    ours: float
    other: float
    ratio: float
    lowest: float
    highest: float
    bar: float | None

    def row(self) -> str:
        """The row in Markdown."""
        bar = "" if self.bar is None else f"{self.bar}"
        over = " over" if self.bar is not None and self.ratio > self.bar else ""
        return (
            f"| {self.name} | {self.ours:.3f} s | {self.other:.3f} s "
            f"| {self.ratio:.2f}{over} ({self.lowest:.2f} to {self.highest:.2f}) | {bar} |"
        )


def run(command: Sequence[str], folder: Path) -> float:
    """Wall time of a command in seconds; its output is thrown away."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, check=True)  # fmt: skip
    return time.perf_counter() - began


def measure(
    name: str,
    ours: Callable[[], float],
    other: Callable[[], float],
    *,
    pairs: int,
    bar: float | None,
) -> Figure:
    """Run both in turn after a warm-up of each."""
    ours()
    other()
    times = [(ours(), other()) for _ in range(pairs)]
    ratios = [a / b for a, b in times]
    return Figure(
        name=name,
        ours=statistics.median(a for a, _ in times),
        other=statistics.median(b for _, b in times),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        bar=bar,
    )


def machine() -> str:
    """What the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{os.cpu_count()} cores, {model}, Python {platform.python_version()}"


def table(
    doc: str | None,
    figures: Mapping[str, Callable[[Path], Iterator[str]]],
    *,
    needs: Sequence[str] = (),
) -> None:
    """Measure the figures that the command line names, or all, and print them as a table.

    Args:
        doc: What is measured; its first line is the command's description.
        figures: Name to a function that yields rows; it gets a folder that is not there yet.
        needs: Programs that it compares with.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    parser.add_argument("names", nargs="*", help="figures: " + ", ".join(figures))
    parser.add_argument("--workdir", type=Path, help="folder on the disk to measure on")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - figures.keys():
        parser.error(f"no figure {sorted(unknown)}; known: {', '.join(figures)}")
    for program in needs:
        if shutil.which(program) is None:
            parser.error(f"{program} is not installed: there is nothing to compare with")
    rows = [f"Measured on {machine()}.", "", "| what | enginery | the other | ratio | bar |",
            "| --- | --- | --- | --- | --- |"]  # fmt: skip
    with tempfile.TemporaryDirectory(dir=arguments.workdir) as work:
        for name in arguments.names or figures:
            for row in figures[name](Path(work) / name):
                sys.stderr.write(f"{row}\n")
                rows.append(row)
    sys.stdout.write("\n".join(rows) + "\n")
