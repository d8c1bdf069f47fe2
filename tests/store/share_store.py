"""One of several processes that use one store at once; test_layout.py runs it as a program.

Arguments: the store, which process this is, how many rounds. Each process has engines of its own,
which must be found whatever the others do, and there are victims, which any of them may drop.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stores import data_of, fingerprint_of, keep, recipe_of, restored

from enginery.errors import StoreError
from enginery.store import prune
from enginery.store.layout import LocalStore

VICTIMS = range(5)
SHARED = range(10, 13)


def own(process: int) -> range:
    """The engines that only this process adds and removes."""
    return range(100 * (process + 1), 100 * (process + 1) + 4)


class AllButVictims:
    """What every process keeps."""

    victims = frozenset(map(fingerprint_of, VICTIMS))

    def __contains__(self, fingerprint: object) -> bool:
        return fingerprint not in self.victims


def work(store: LocalStore, folder: Path, process: int, rounds: int) -> None:
    chance = random.Random(process)  # noqa: S311 - no secret
    there: set[int] = set()
    for _ in range(rounds):
        what = chance.choice(["own", "own", "shared", "victim", "remove", "prune", "fetch"])
        if what in ("own", "shared", "victim"):
            number = chance.choice({"own": own(process), "shared": SHARED, "victim": VICTIMS}[what])
            # Two fingerprints and one engine, so that one blob has several users.
            keep_in(store, folder, number)
            there |= {number} - set(VICTIMS)
        elif what == "remove":
            number = chance.choice(own(process))
            assert store.remove(fingerprint_of(number)) == (number in there)
            there -= {number}
        elif what == "prune":
            dry_run = chance.random() < 0.2
            store.prune(max_bytes=None, max_age_s=-1, keep=AllButVictims(), dry_run=dry_run)
        for number in there:
            found = store.find(fingerprint_of(number))
            assert found is not None, f"{number} is lost: {store.reasons}"
        if there:
            number = chance.choice(sorted(there))
            assert restored(store, fingerprint_of(number), folder) == data_of(number % 100)
        for number in VICTIMS:
            try:
                data = restored(store, fingerprint_of(number), folder)
            except StoreError as error:
                assert "missing" in str(error)  # noqa: PT017 - dropped after it was found
            else:
                assert data in (None, data_of(number))
    sys.stdout.write(" ".join(map(str, sorted(there))))


def keep_in(store: LocalStore, folder: Path, number: int) -> None:
    keep(store, recipe_of(number), data_of(number % 100), folder=folder)


if __name__ == "__main__":
    prune.GRACE_S = -1.0  # no mercy: what nothing names goes at once
    root, process = Path(sys.argv[1]), int(sys.argv[2])
    scratch = root.parent / f"process-{process}"
    scratch.mkdir()
    work(LocalStore(root), scratch, process, int(sys.argv[3]))
    scratch.rmdir()
