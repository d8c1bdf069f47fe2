"""Restores engines of a few recipes, forgets and builds one now and then, until it is killed.

test_store.py runs it as a program and imports the rest. Arguments: the engine's path, the store. It
says what it is about to forget, and what the store has from then on.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from pathlib import Path

import filelock  # noqa: F401 - its import is not what is to be killed
from artifacts import make_document, make_recipe

from enginery.atomic import staged
from enginery.publish import publish
from enginery.recipe import Recipe
from enginery.store.engines import EngineStore
from enginery.store_spec import StoreSpec

COUNT = 3


def recipe_of(number: int) -> Recipe:
    return make_recipe(build={"number": number})


def data_of(number: int) -> bytes:
    """Large enough that writing it takes a while."""
    return hashlib.sha256(b"%d" % number).digest() * 10_000


def store_in(folder: Path) -> EngineStore:
    return EngineStore(StoreSpec(path=folder), lambda text: say("warning", text))


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def build(store: EngineStore, path: Path, number: int) -> None:
    """As the compiler and a runtime do it."""
    with staged(path) as built:
        built.write_bytes(data_of(number))
        digest = hashlib.sha256(data_of(number)).hexdigest()
        document = make_document(path, data_of(number), recipe_of(number))
        envelope = store.keep(built, path, digest, document)
        say("kept", number)
        publish(built, path, digest, document, envelope)


if __name__ == "__main__":
    path, store = Path(sys.argv[1]), store_in(Path(sys.argv[2]))
    say("ready")
    for turn in itertools.count():
        number = turn % COUNT
        if store.restore(path, recipe_of(number), {}) is None:
            say("missing", number)
            build(store, path, number)
        if turn % 4 == 3:
            say("forgetting", number)
            store.forget([recipe_of(number).fingerprint])
