"""The figures of the local store, as ratios side by side in one run.

    python benchmarks/store.py [restore published find]

Nothing is asserted about a time; a ratio above its bar has `over` beside it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from pairs import measure, run, table

from enginery import provenance
from enginery.atomic import staged
from enginery.publish import publish
from enginery.recipe import Recipe
from enginery.store.layout import LocalStore

SIZE = 400_000_000
PAIRS = 15


def recipe_of(number: int) -> Recipe:
    """One of many recipes, each with a fingerprint of its own."""
    return Recipe(
        kind="engine",
        inputs={"onnx": "1" * 64},
        build={"number": number},
        toolchain={"runtime": "none"},
        target={"sm": [86]},
    )


def kept(store: LocalStore, engine: Path, number: int = 0) -> str:
    """Add an engine; its fingerprint."""
    digest = hashlib.sha256(engine.read_bytes()).hexdigest()
    recipe = recipe_of(number)
    document = provenance.write_statement(
        engine, digest, recipe, dependencies={}, versions={}, started=datetime.now(timezone.utc)
    )
    store.add(engine, sha256_hex=digest, document=document, name=engine.name, annotations={})
    return recipe.fingerprint


def large_engine(work: Path) -> Path:
    """Random bytes in place of an engine: neither copying nor hashing sees a difference."""
    work.mkdir(parents=True)
    engine = work / "large.engine"
    engine.write_bytes((os.urandom(1 << 24) * (SIZE // (1 << 24) + 1))[:SIZE])
    return engine


def restore(work: Path) -> Iterator[str]:
    """A large engine found and copied out of the store, against `cp` and OpenSSL."""
    engine = large_engine(work)
    store = LocalStore(work / "store")
    fingerprint = kept(store, engine)
    output = work / "restored"

    def ours() -> float:
        prepare(output)
        began = time.perf_counter()
        stored = LocalStore(store.root).find(fingerprint)
        assert stored is not None
        store.fetch(stored, output)
        return time.perf_counter() - began

    def other() -> float:
        prepare(output)
        copied = run(["cp", str(engine), str(output)], work)
        return copied + run(["openssl", "dgst", "-sha256", str(output)], work)

    yield measure(
        f"restore of an engine of {SIZE // 10**6} MB, against `cp` and `openssl dgst -sha256`",
        ours,
        other,
        pairs=PAIRS,
        bar=1.3,
    ).row()


def published(work: Path) -> Iterator[str]:
    """The same with all that makes it an engine that is believed, on the disk."""
    engine = large_engine(work)
    store = LocalStore(work / "store")
    fingerprint = kept(store, engine)
    output = work / "engines" / engine.name
    output.parent.mkdir()

    def ours() -> float:
        prepare(output)
        began = time.perf_counter()
        stored = LocalStore(store.root).find(fingerprint)
        assert stored is not None
        with staged(output) as temporary:
            publish(temporary, output, store.fetch(stored, temporary), stored.document)
        return time.perf_counter() - began

    def other() -> float:
        prepare(output)
        commands = (
            ["cp", str(engine), str(output)],
            ["openssl", "dgst", "-sha256", str(output)],
            ["sync", str(output)],
        )
        return sum(map(partial(run, folder=work), commands))

    yield measure(
        f"restore of an engine of {SIZE // 10**6} MB, synced and published, against `cp`, "
        "`openssl dgst -sha256` and `sync`",
        ours,
        other,
        pairs=PAIRS,
        bar=1.3,
    ).row()


def find(work: Path) -> Iterator[str]:
    """100 engines looked up in a store of 1000, against reading 200 files of their size."""
    work.mkdir(parents=True)
    store = LocalStore(work / "store")
    engine = work / "small.engine"
    for number in range(1000):
        engine.write_bytes(b"%d" % number)
        kept(store, engine, number)
    wanted = [recipe_of(number).fingerprint for number in range(0, 1000, 10)]

    def ours() -> float:
        began = time.perf_counter()
        fresh = LocalStore(store.root)
        assert all(fresh.find(fingerprint) for fingerprint in wanted)
        return time.perf_counter() - began

    def other() -> float:
        files = sorted((store.root / "blobs" / "sha256").iterdir())[:200]
        began = time.perf_counter()
        for file in files:
            file.read_bytes()
        return time.perf_counter() - began

    yield measure(
        "100 engines found in a store of 1000, against reading 200 of its files",
        ours,
        other,
        pairs=PAIRS,
        bar=None,
    ).row()


def prepare(output: Path) -> None:
    """Nothing there, and nothing of the run before still on its way to the disk."""
    for path in output.parent.glob(f"{output.name}*"):
        path.unlink()
    os.sync()


FIGURES = {f.__name__: f for f in (restore, published, find)}


if __name__ == "__main__":
    table(__doc__, FIGURES, needs=["openssl"])
