"""Stores for tests: engines of different fingerprints, kept as a build keeps them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from artifacts import DATA, NAME, make_document, make_recipe

from enginery.recipe import Recipe
from enginery.store.layout import LocalStore

ANNOTATIONS = {"enginery.model": "light", "enginery.sm": "86-89", "enginery.precision": "fp16"}


def recipe_of(number: int) -> Recipe:
    """One of many recipes; each has a fingerprint of its own."""
    return make_recipe(build={"number": number})


def fingerprint_of(number: int) -> str:
    return recipe_of(number).fingerprint


def data_of(number: int, size: int = 100_000) -> bytes:
    """The bytes of the engine that this recipe makes."""
    return hashlib.sha256(b"%d" % number).digest() * (size // 32)


def keep(
    store: LocalStore,
    recipe: Recipe,
    data: bytes = DATA,
    *,
    name: str = NAME,
    envelope: bytes | None = None,
    folder: Path | None = None,
) -> str:
    """Build an engine, beside the store if nowhere else, and add it; its fingerprint."""
    folder = folder or store.root.parent
    folder.mkdir(parents=True, exist_ok=True)
    engine = folder / f"{recipe.fingerprint}.engine"
    engine.write_bytes(data)
    store.add(
        engine,
        sha256_hex=sha256(data),
        document=make_document(Path(name), data, recipe),
        envelope=envelope,
        name=name,
        annotations=ANNOTATIONS,
    )
    engine.unlink()
    return recipe.fingerprint


def keep_number(store: LocalStore, number: int) -> str:
    return keep(store, recipe_of(number), data_of(number))


def restored(store: LocalStore, fingerprint: str, folder: Path) -> bytes | None:
    """The bytes that a store gives for a fingerprint, if it has it."""
    stored = store.find(fingerprint)
    if stored is None:
        return None
    output = folder / "restored"
    try:
        digest = store.fetch(stored, output)
        data = output.read_bytes()
    finally:
        output.unlink(missing_ok=True)
    assert sha256(data) == digest
    return data


def blob(store: LocalStore, sha256_hex: str) -> Path:
    return store.root / "blobs" / "sha256" / sha256_hex


def blobs(store: LocalStore) -> list[str]:
    return sorted(path.name for path in (store.root / "blobs" / "sha256").iterdir())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
