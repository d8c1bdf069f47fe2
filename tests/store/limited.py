"""Adds, restores, prunes and removes under limits, and says how each went.

test_layout.py runs it as a program: the store, a folder for files, the largest file it may write.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from artifacts import NAME, make_document
from stores import data_of, fingerprint_of, recipe_of, sha256

from enginery.errors import StoreError
from enginery.store.layout import LocalStore

store, folder, file_size = LocalStore(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
engine = folder / NAME
engine.write_bytes(data_of(1))


def add() -> None:
    store.add(
        engine,
        sha256_hex=sha256(data_of(1)),
        document=make_document(engine, data_of(1), recipe_of(1)),
        name=NAME,
        annotations={},
    )


def restore() -> None:
    stored = store.find(fingerprint_of(0))
    if stored is None:
        raise StoreError(store.reasons[fingerprint_of(0)])
    store.fetch(stored, folder / "out")


def attempt(what: Callable[[], object], done: str) -> str:
    try:
        what()
    except StoreError as error:
        return str(error)
    return done


if file_size >= 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY))
results = [
    attempt(add, "added"),
    attempt(restore, "restored"),
]
if file_size < 0:
    results += [
        attempt(lambda: store.prune(max_bytes=0, max_age_s=0, keep=(), dry_run=False), "pruned"),
        attempt(lambda: store.remove(fingerprint_of(0)), "removed"),
    ]
os.write(sys.stdout.fileno(), "\n".join(results).encode())
