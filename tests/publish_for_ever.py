"""Publishes one generation of an artifact after the other, until it is killed.

test_publish.py runs it as a program and imports the generations.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from artifacts import make_recipe, publish_artifact

# Bytes and what they are made from; large enough that writing takes a while.
GENERATIONS = tuple(
    (word * 100_000, make_recipe(build={"generation": word.decode()})) for word in (b"one", b"two2")
)

if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for data, recipe in itertools.cycle(GENERATIONS):
        publish_artifact(Path(sys.argv[1]), data=data, recipe=recipe)
