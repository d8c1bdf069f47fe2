"""What the view costs where there is nothing to do: `doit` against `doit -r console`, in pairs.

    python benchmarks/view.py [--engines 100] [--pairs 40]

Nothing is asserted; a median above its bar has `over` beside it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import projects
from pairs import DOIT, machine, run

BAR_MS = 15.0


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engines", type=int, default=100, help="how many engines are fresh")
    parser.add_argument("--pairs", type=int, default=40, help="how many pairs of runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "corpus"
        projects.published(folder, count=arguments.engines, size=1 << 16, precision="fp32")
        ours, console = [*DOIT, "-r", "enginery"], [*DOIT, "-r", "console"]
        run(ours, folder)
        run(console, folder)
        differences, times = [], []
        for index in range(arguments.pairs):
            # Whoever is second may find warmer caches.
            pair = [run(one, folder) for one in ((ours, console) if index % 2 else (console, ours))]
            view, plain = pair if index % 2 else reversed(pair)
            differences.append((view - plain) * 1000)
            times.append(plain * 1000)
    median = statistics.median(differences)
    low, _, high = statistics.quantiles(differences, n=4)
    sys.stdout.write(
        f"nothing to do, {arguments.engines} engines: the view costs {median:.1f} ms"
        f"{' over' if median > BAR_MS else ''} (quartiles {low:.1f} to {high:.1f}) "
        f"of {statistics.median(times):.0f} ms; bar {BAR_MS:.0f} ms\n"
        f"{arguments.pairs} pairs on {machine()}\n"
    )


if __name__ == "__main__":
    main()
