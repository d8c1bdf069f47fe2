"""Pruning: what goes, in which order, and what never does."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from artifacts import DATA, flip_bit, replace_by, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import blob, blobs, data_of, fingerprint_of, keep, keep_number, recipe_of, restored

from enginery.errors import StoreError
from enginery.store.entry import Entry
from enginery.store.layout import LocalStore
from enginery.store.prune import GRACE_S, Held, choose

DAY = 86400.0
SIZE = 100_000


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "cache" / "store")


def used(store: LocalStore, number: int, *, days_ago: float) -> str:
    """Keep an engine that was last used some days ago."""
    fingerprint = keep_number(store, number)
    age(manifest_path(store, fingerprint), days_ago * DAY)
    return fingerprint


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def manifest_path(store: LocalStore, fingerprint: str) -> Path:
    index = json.loads((store.root / "index.json").read_bytes())
    for entry in index["manifests"]:
        if entry["annotations"]["org.opencontainers.image.ref.name"] == fingerprint:
            return blob(store, entry["digest"].removeprefix("sha256:"))
    raise KeyError(fingerprint)


def prune(store: LocalStore, **limits: Any) -> list[str]:
    """Prune, after a dry run that has to say the same and change nothing."""
    arguments: dict[str, Any] = {"max_bytes": None, "max_age_s": None, "keep": (), **limits}
    before = snapshot(store.root)
    said = store.prune(**arguments, dry_run=True)
    assert snapshot(store.root) == before
    assert store.prune(**arguments, dry_run=False) == said
    assert all(entry.reason for entry in said)
    return [entry.fingerprint for entry in said]


def held(store: LocalStore) -> set[str]:
    return {entry.fingerprint for entry in store.entries()}


def test_nothing_goes_that_need_not(store: LocalStore) -> None:
    kept = {used(store, number, days_ago=number) for number in range(3)}
    assert prune(store) == []
    assert prune(store, max_bytes=10 * SIZE, max_age_s=10 * DAY) == []
    assert held(store) == kept


def test_the_least_recently_used_goes_first(store: LocalStore, tmp_path: Path) -> None:
    old, older, oldest = (used(store, number, days_ago=number) for number in (1, 2, 3))
    restored(store, oldest, tmp_path)
    assert prune(store, max_bytes=int(2.5 * SIZE)) == [older]
    assert prune(store, max_bytes=int(1.5 * SIZE)) == [old]
    assert held(store) == {oldest}
    assert len(blobs(store)) == 4
    assert prune(store, max_bytes=0) == [oldest]
    assert blobs(store) == []


def test_what_is_too_old_goes(store: LocalStore) -> None:
    one, two, three = (used(store, number, days_ago=number) for number in (1, 2, 3))
    (entry, *_) = store.prune(max_bytes=None, max_age_s=2.5 * DAY, keep=(), dry_run=True)
    assert entry.reason == "not used for 3 days"
    assert prune(store, max_age_s=2.5 * DAY) == [three]
    assert prune(store, max_age_s=0.5 * DAY) == [two, one]


def test_what_is_named_stays(store: LocalStore) -> None:
    one, two, three = (used(store, number, days_ago=number) for number in (1, 2, 3))
    assert prune(store, max_bytes=0, max_age_s=0, keep={one, three}) == [two]
    assert prune(store, max_bytes=0, max_age_s=0, keep={one, three}) == []
    assert held(store) == {one, three}


def test_an_engine_that_another_still_needs_stays(store: LocalStore, tmp_path: Path) -> None:
    one = used(store, 1, days_ago=2)
    twin = keep(store, recipe_of(2), data_of(1))
    assert prune(store, max_bytes=SIZE + 4000) == [one]
    assert restored(store, twin, tmp_path) == data_of(1)


@pytest.mark.parametrize("which", ["manifest", "engine", "document"])
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_what_is_damaged_goes(store: LocalStore, which: str, how: str) -> None:
    damaged, sound = keep_number(store, 1), keep_number(store, 2)
    manifest = manifest_path(store, damaged)
    layers = json.loads(manifest.read_bytes())["layers"]
    path = manifest
    if which != "manifest":
        path = blob(store, layers[which == "document"]["digest"].removeprefix("sha256:"))
    if how == "missing":
        path.unlink()
    elif which == "engine":
        os.truncate(path, 5)
    else:
        flip_bit(path, 100)
    assert prune(store, keep={damaged}) == []
    (entry,) = store.prune(max_bytes=None, max_age_s=None, keep=(), dry_run=True)
    assert entry.reason.startswith("damaged: ")
    assert prune(store) == [damaged]
    assert held(store) == {sound}


def test_what_others_keep_stays(store: LocalStore) -> None:
    """An image of someone else's with all that it leads to, and what we cannot read at all."""
    used(store, 1, days_ago=9)

    def write(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        path = blob(store, digest)
        path.write_bytes(data)
        age(path, 9 * DAY)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    layer = write(b"\x1f\x8b a layer")
    config = write(b'{"rootfs": {}}')
    manifest = write(json.dumps({"config": config, "layers": [layer]}).encode())
    nested = write(json.dumps({"manifests": [{"mediaType": "x/y", **manifest}]}).encode())
    odd = write(b"not JSON")
    index = json.loads((store.root / "index.json").read_bytes())
    index["manifests"] += [
        {"mediaType": "application/vnd.oci.image.index.v1+json", **nested},
        {"odd": odd["digest"]},
    ]
    later = {
        "mediaType": "application/vnd.enginery.later+json",
        **write(b"{}"),
        "annotations": {"org.opencontainers.image.ref.name": "f" * 64},
    }
    index["manifests"].append(later)
    (store.root / "index.json").write_text(json.dumps(index))
    assert prune(store, max_bytes=0, max_age_s=0) == [fingerprint_of(1)]
    assert len(blobs(store)) == 6
    assert (
        json.loads((store.root / "index.json").read_bytes())["manifests"] == index["manifests"][1:]
    )


def test_what_nothing_names_goes_after_an_hour(store: LocalStore, tmp_path: Path) -> None:
    kept = keep_number(store, 1)
    before = blobs(store)
    folder = store.root / "blobs" / "sha256"
    fresh, stale, link, directory = (folder / (digit * 64) for digit in "abcd")
    fresh.write_bytes(b"another tool is about to name it")
    stale.write_bytes(b"nobody ever named it")
    age(stale, GRACE_S + 60)
    link.symlink_to(tmp_path)
    then = time.time() - GRACE_S - 60
    os.utime(link, (then, then), follow_symlinks=False)
    directory.mkdir()
    age(directory, GRACE_S + 60)
    (folder / "notes.txt").write_text("someone's")
    age(folder / "notes.txt", 9 * DAY)
    assert prune(store) == []
    assert blobs(store) == sorted([*before, fresh.name, directory.name, "notes.txt"])
    assert restored(store, kept, tmp_path) == data_of(1)


def test_what_a_rebuild_replaced_goes(store: LocalStore, tmp_path: Path) -> None:
    keep(store, recipe_of(1), b"first build")
    for name in blobs(store):
        age(blob(store, name), GRACE_S + 60)
    again = keep(store, recipe_of(1), b"second build")
    assert len(blobs(store)) == 8
    assert prune(store) == []
    assert len(blobs(store)) == 4
    assert restored(store, again, tmp_path) == b"second build"


def test_what_killed_processes_left_goes(store: LocalStore) -> None:
    keep_number(store, 1)
    before = blobs(store)
    folder = store.root / "blobs" / "sha256"
    for path in (
        folder / f".{'a' * 64}.12345678.tmp",
        folder / f".{'a' * 64}.lock",
        store.root / ".index.json.12345678.tmp",
        store.root / ".oci-layout.12345678.tmp",
    ):
        path.write_bytes(b"half")
    assert prune(store) == []
    assert blobs(store) == before
    assert {path.name for path in store.root.iterdir()} == {"blobs", "index.json", "oci-layout"}


@pytest.mark.parametrize("kind", ["directory", "symlink", "FIFO"])
def test_an_index_that_is_no_file(store: LocalStore, kind: str) -> None:
    """A dry run says so; pruning makes the index anew first."""
    kept = keep_number(store, 1)
    replace_by(kind, store.root / "index.json")
    with pytest.raises(StoreError, match="was not pruned"):
        store.prune(max_bytes=None, max_age_s=None, keep=(), dry_run=True)
    assert store.prune(max_bytes=None, max_age_s=None, keep=(), dry_run=False) == []
    assert store.find(kept) is not None


ENGINES = st.lists(
    st.tuples(st.integers(0, 50), st.sets(st.integers(0, 5), min_size=1), st.booleans()),
    max_size=12,
)


@given(engines=ENGINES, max_bytes=st.integers(0, 60), max_age=st.integers(0, 50))
@settings(deadline=None, max_examples=200)
def test_choosing(engines: list[tuple[int, set[int], bool]], max_bytes: int, max_age: int) -> None:
    """Whatever is shared, named or old: within the limits, and no more than that asks for."""
    all_held = [
        Held(
            Entry(f"{number}", "", {}, 0, 0.0, float(50 - age)),
            {f"own {number}": 1, **{f"blob {one}": 10 for one in shared}},
        )
        for number, (age, shared, _) in enumerate(engines)
    ]
    named = {f"{number}" for number, (*_, is_named) in enumerate(engines) if is_named}

    def size(of: list[Held]) -> int:
        return sum({name: size for one in of for name, size in one.blobs.items()}.values())

    going = choose(all_held, max_bytes=max_bytes, max_age_s=max_age, keep=named, now=50.0)
    gone = {entry.fingerprint for entry in going}
    stay = [one for one in all_held if one.entry.fingerprint not in gone]
    assert not gone & named
    assert all(50 - one.entry.used <= max_age or one.entry.fingerprint in named for one in stay)
    assert size(stay) <= max_bytes or {one.entry.fingerprint for one in stay} <= named
    times = [entry.used for entry in going]
    assert times == sorted(times)
    if going and 50 - going[-1].used <= max_age:
        last = next(one for one in all_held if one.entry.fingerprint == going[-1].fingerprint)
        assert size([*stay, last]) > max_bytes


def test_a_size_of_nothing_and_no_engines(store: LocalStore) -> None:
    keep_number(store, 1)
    store.remove(fingerprint_of(1))
    assert prune(store, max_bytes=0, max_age_s=0) == []
    assert store.find(fingerprint_of(1)) is None
    assert keep(store, recipe_of(1), DATA)
