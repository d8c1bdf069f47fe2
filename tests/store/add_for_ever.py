"""Adds one engine after the other, rebuilds one, and removes old ones, until it is killed.

test_layout.py runs it as a program. Arguments: the store, the first number, which is above 0: 0 is
the fingerprint of the one that is rebuilt. It says what it is about to remove, and what it has
added.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import filelock  # noqa: F401 - its import is not what is to be killed
from stores import data_of, keep, keep_number, recipe_of

from enginery.store.layout import LocalStore

STAY = 3


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    store = LocalStore(Path(sys.argv[1]))
    added: list[tuple[int, str]] = []
    say("ready")
    for number in itertools.count(int(sys.argv[2])):
        keep(store, recipe_of(0), data_of(-number))
        added.append((number, keep_number(store, number)))
        say("added", number)
        if len(added) > STAY:
            oldest, fingerprint = added.pop(0)
            say("removing", oldest)
            store.remove(fingerprint)
