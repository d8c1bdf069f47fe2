"""The local store: what was added is found, and nothing else is ever believed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artifacts import (
    DATA,
    IRREGULAR,
    NAME,
    OTHER_NAME,
    flip_bit,
    make_document,
    make_recipe,
    replace_by,
    snapshot,
    within,
)
from stores import (
    ANNOTATIONS,
    blob,
    blobs,
    data_of,
    fingerprint_of,
    keep,
    keep_number,
    recipe_of,
    restored,
    sha256,
)

from enginery.errors import StoreError
from enginery.store.layout import LocalStore

DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "cache" / "store")


@pytest.fixture
def kept(store: LocalStore) -> str:
    """The fingerprint of the one engine that the store has."""
    return keep(store, make_recipe(), envelope=b'{"signed": true}')


def index_of(store: LocalStore) -> Any:
    return json.loads((store.root / "index.json").read_bytes())


def write_index(store: LocalStore, index: object) -> None:
    (store.root / "index.json").write_text(json.dumps(index))


def files(store: LocalStore) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}


def test_what_was_added_is_found(store: LocalStore, kept: str, tmp_path: Path) -> None:
    stored = store.find(kept)
    assert stored is not None
    assert (stored.fingerprint, stored.name, stored.envelope) == (kept, NAME, b'{"signed": true}')
    assert json.loads(stored.document)["subject"][0]["digest"]["sha256"] == DIGEST
    assert stored.manifest.annotations.items() >= ANNOTATIONS.items()
    assert (stored.engine.sha256_hex, stored.engine.size) == (DIGEST, len(DATA))
    assert store.fetch(stored, tmp_path / "out") == DIGEST
    assert (tmp_path / "out").read_bytes() == DATA
    assert store.reasons == {}


def test_another_process_finds_it(store: LocalStore, kept: str, tmp_path: Path) -> None:
    assert restored(LocalStore(store.root), kept, tmp_path) == DATA


def test_nothing_is_made_before_something_is_added(store: LocalStore, tmp_path: Path) -> None:
    assert store.find("0" * 64) is None
    assert store.reasons == {}
    assert list(store.entries()) == []
    assert not store.remove("0" * 64)
    for dry_run in (True, False):
        assert store.prune(max_bytes=0, max_age_s=0, keep=(), dry_run=dry_run) == []
    assert list(tmp_path.iterdir()) == []


def test_it_is_an_oci_image_layout(store: LocalStore, kept: str) -> None:
    assert sorted(path.name for path in store.root.iterdir()) == [
        "blobs",
        "index.json",
        "oci-layout",
    ]
    assert json.loads((store.root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = index_of(store)
    (entry,) = index.pop("manifests")
    assert index == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
    }
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": kept}
    assert entry["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    for name in blobs(store):
        assert hashlib.sha256(blob(store, name).read_bytes()).hexdigest() == name
    assert len(blobs(store)) == 5


def test_neither_side_shares_a_file_with_the_store(store: LocalStore, tmp_path: Path) -> None:
    """Writing to the engine that was added, or to the one restored, leaves the store alone."""
    engine = tmp_path / NAME
    engine.write_bytes(DATA)
    recipe = make_recipe()
    store.add(
        engine,
        sha256_hex=DIGEST,
        document=make_document(engine, DATA, recipe),
        name=NAME,
        annotations={},
    )
    stored = store.find(recipe.fingerprint)
    assert stored is not None
    store.fetch(stored, tmp_path / "out")
    for path in (engine, tmp_path / "out"):
        assert path.stat().st_nlink == 1
        with path.open("r+b") as stream:
            stream.write(b"careless")
    assert restored(store, recipe.fingerprint, tmp_path) == DATA


def test_adding_again_writes_nothing(store: LocalStore, kept: str) -> None:
    """It only counts as used."""
    manifest, before = manifest_path(store), snapshot(store.root)
    os.utime(manifest, (0, 0))
    keep(store, make_recipe(), envelope=b'{"signed": true}')
    assert manifest.stat().st_mtime > before[manifest.name][2] / 1e9 - 1
    os.utime(manifest, ns=(0, before[manifest.name][2]))
    assert snapshot(store.root) == before


def test_the_newest_build_of_a_fingerprint_stays(
    store: LocalStore, kept: str, tmp_path: Path
) -> None:
    keep(store, make_recipe(), b"built again, with other tactics", name=OTHER_NAME)
    assert restored(store, kept, tmp_path) == b"built again, with other tactics"
    stored = store.find(kept)
    assert stored is not None
    assert (stored.name, stored.envelope) == (OTHER_NAME, None)
    assert len(index_of(store)["manifests"]) == 1


def test_two_fingerprints_share_one_engine(store: LocalStore, kept: str, tmp_path: Path) -> None:
    other = keep(store, recipe_of(1))
    assert restored(store, kept, tmp_path) == restored(store, other, tmp_path) == DATA
    assert store.remove(kept)
    assert store.find(kept) is None
    assert restored(store, other, tmp_path) == DATA


def test_a_damaged_engine_is_not_reused_for_another_fingerprint(
    store: LocalStore, kept: str, tmp_path: Path
) -> None:
    flip_bit(engine_path(store), 5)
    other = keep(store, recipe_of(1))
    assert restored(store, other, tmp_path) == DATA
    assert restored(store, kept, tmp_path) == DATA


def test_many(store: LocalStore, tmp_path: Path) -> None:
    numbers = range(20)
    assert [keep_number(store, n) for n in numbers] == [fingerprint_of(n) for n in numbers]
    for number in numbers:
        assert restored(store, fingerprint_of(number), tmp_path) == data_of(number)
    assert {entry.fingerprint for entry in store.entries()} == set(map(fingerprint_of, numbers))


def test_an_entry(store: LocalStore, kept: str, tmp_path: Path) -> None:
    (entry,) = store.entries()
    assert (entry.fingerprint, entry.name, entry.reason) == (kept, NAME, "")
    assert entry.annotations.items() >= ANNOTATIONS.items()
    assert entry.size == sum(blob(store, name).stat().st_size for name in blobs(store))
    before = entry.used
    os.utime(manifest_path(store), (before - 1000, before - 1000))
    (entry,) = store.entries()
    assert entry.used == pytest.approx(before - 1000)
    index = (store.root / "index.json").stat()
    restored(store, kept, tmp_path)
    (entry,) = store.entries()
    assert entry.used >= before
    assert (store.root / "index.json").stat() == index


def test_removing(store: LocalStore, kept: str) -> None:
    other = keep_number(store, 1)
    assert store.remove(kept)
    assert not store.remove(kept)
    assert store.find(kept) is None
    assert store.find(other) is not None
    assert len(blobs(store)) == 4
    assert store.remove(other)
    assert blobs(store) == []


def manifest_path(store: LocalStore) -> Path:
    (entry,) = index_of(store)["manifests"]
    return blob(store, entry["digest"].removeprefix("sha256:"))


def config_path(store: LocalStore) -> Path:
    return layer_path(store, lambda manifest: manifest["config"])


def engine_path(store: LocalStore) -> Path:
    return layer_path(store, lambda manifest: manifest["layers"][0])


def document_path(store: LocalStore) -> Path:
    return layer_path(store, lambda manifest: manifest["layers"][1])


def envelope_path(store: LocalStore) -> Path:
    return layer_path(store, lambda manifest: manifest["layers"][2])


def layer_path(store: LocalStore, which: Callable[[Any], Any]) -> Path:
    manifest = json.loads(manifest_path(store).read_bytes())
    return blob(store, which(manifest)["digest"].removeprefix("sha256:"))


def swap(path: Path) -> None:
    """The bytes of another blob, so that the store has both names and one content."""
    other = next(one for one in sorted(path.parent.iterdir()) if one != path)
    shutil.copyfile(other, path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "first bit": lambda path: flip_bit(path, 0),
    "last bit": lambda path: flip_bit(path, path.stat().st_size * 8 - 1),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "huge": lambda path: os.truncate(path, 1 << 33),
    "swapped": swap,
    "missing": lambda path: path.unlink(),
    **{kind: lambda path, kind=kind: replace_by(kind, path) for kind in IRREGULAR},
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("which", [manifest_path, document_path, envelope_path, engine_path])
def test_a_damaged_blob_is_never_believed(
    store: LocalStore,
    kept: str,
    tmp_path: Path,
    which: Callable[[LocalStore], Path],
    damage: str,
) -> None:
    """A miss that says why, and the next build heals the store."""
    DAMAGE[damage](which(store))
    with within(20):
        stored = store.find(kept)
        if stored is None:
            assert store.reasons[kept].startswith(f"{store.root}: ")
        else:
            assert which is engine_path
            with pytest.raises(StoreError, match="was not restored"):
                store.fetch(stored, tmp_path / "out")
            assert not (tmp_path / "out").exists()
            assert store.find(kept) is None
            assert store.reasons == {}
        keep(store, make_recipe(), envelope=b'{"signed": true}')
        assert restored(store, kept, tmp_path) == DATA
    assert store.reasons == {}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_config_costs_nothing(
    store: LocalStore, kept: str, tmp_path: Path, damage: str
) -> None:
    """It is there for skopeo: nothing of ours is read from it."""
    DAMAGE[damage](config_path(store))
    assert restored(store, kept, tmp_path) == DATA


@pytest.mark.parametrize("kind", ["directory", "symlink", "FIFO", "first bit", "truncated"])
def test_damage_that_shows_only_after_it_was_found(
    store: LocalStore, kept: str, tmp_path: Path, kind: str
) -> None:
    stored = store.find(kept)
    assert stored is not None
    DAMAGE[kind](engine_path(store))
    with within(20), pytest.raises(StoreError, match="was not restored"):
        store.fetch(stored, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    keep(store, make_recipe())
    assert restored(store, kept, tmp_path) == DATA


def test_what_was_removed_after_it_was_found(store: LocalStore, kept: str, tmp_path: Path) -> None:
    stored = store.find(kept)
    assert stored is not None
    store.remove(kept)
    with pytest.raises(StoreError, match="missing"):
        store.fetch(stored, tmp_path / "out")


def test_what_was_added_again_meanwhile_is_not_dropped(
    store: LocalStore, kept: str, tmp_path: Path
) -> None:
    stored = store.find(kept)
    assert stored is not None
    engine_path(store).unlink()
    keep(store, make_recipe(), b"another build")
    with pytest.raises(StoreError, match="missing"):
        store.fetch(stored, tmp_path / "out")
    assert restored(store, kept, tmp_path) == b"another build"


GARBAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, 100),
    "zeros": lambda path: path.write_bytes(bytes(1000)),
    "not UTF-8": lambda path: path.write_bytes(b'{"\xff": 1}'),
    "a list": lambda path: path.write_bytes(b"[]"),
    "nested": lambda path: path.write_bytes(b'{"manifests": ' + b"[" * 200_000),
    "a nested entry": lambda path: path.write_bytes(
        b'{"schemaVersion": 2, "manifests": [' + b"[" * 200_000 + b"]" * 200_000 + b"]}"
    ),
    "no manifests": lambda path: path.write_bytes(b'{"schemaVersion": 2}'),
    "other manifests": lambda path: path.write_bytes(b'{"schemaVersion": 2, "manifests": {}}'),
    "no version": lambda path: path.write_bytes(b'{"manifests": []}'),
    "a version in words": lambda path: path.write_bytes(b'{"schemaVersion": "2", "manifests": []}'),
    "trailing": lambda path: path.write_bytes(path.read_bytes() + b"}"),
    **{kind: lambda path, kind=kind: replace_by(kind, path) for kind in IRREGULAR},
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_damaged_index_is_a_miss_and_then_made_anew(
    store: LocalStore, kept: str, tmp_path: Path, garbage: str
) -> None:
    """What the store has is found again as soon as something is added."""
    keep(store, recipe_of(2), b"removed")
    store.remove(fingerprint_of(2))
    GARBAGE[garbage](store.root / "index.json")
    with within(20):
        assert store.find(kept) is None
        assert store.reasons[kept]
        with pytest.raises(StoreError, match="cannot be listed"):
            list(store.entries())
        keep_number(store, 1)
    assert restored(store, kept, tmp_path) == DATA
    assert restored(store, fingerprint_of(1), tmp_path) == data_of(1)
    assert len(index_of(store)["manifests"]) == 2
    assert list(store.root.glob("index.json.aside-*"))


def test_what_is_removed_under_a_damaged_index_stays_away(store: LocalStore, kept: str) -> None:
    (store.root / "index.json").write_bytes(b"")
    assert store.remove(kept)
    keep_number(store, 1)
    assert store.find(kept) is None


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("index.json", b'{"schemaVersion": 3, "manifests": []}'),
        ("index.json", b'{"schemaVersion": 10, "entries": {}}'),
        ("oci-layout", b'{"imageLayoutVersion": "2.0.0"}'),
        ("oci-layout", b"garbage"),
    ],
)
def test_an_unknown_version_is_a_miss_and_is_left_alone(
    store: LocalStore, kept: str, name: str, data: bytes
) -> None:
    (store.root / name).write_bytes(data)
    before = snapshot(store.root)
    assert store.find(kept) is None
    assert "unknown" in store.reasons[kept]
    for change in (
        lambda: keep_number(store, 1),
        lambda: store.remove(kept),
        lambda: store.prune(max_bytes=0, max_age_s=0, keep=(), dry_run=False),
    ):
        with pytest.raises(StoreError, match="unknown"):
            change()
    assert snapshot(store.root) == before


def test_a_folder_of_something_else_is_left_alone(store: LocalStore) -> None:
    store.root.mkdir(parents=True)
    (store.root / "index.json").write_text("[]")
    (store.root / "blobs" / "sha256").mkdir(parents=True)
    for change in (
        lambda: keep_number(store, 1),
        lambda: store.remove(fingerprint_of(1)),
        lambda: store.prune(max_bytes=0, max_age_s=0, keep=(), dry_run=False),
    ):
        with pytest.raises(StoreError, match=r"was not .*index\.json is malformed"):
            change()
    assert files(store) == {store.root / "index.json": b"[]"}


def test_a_store_without_its_version_file(store: LocalStore, kept: str, tmp_path: Path) -> None:
    (store.root / "oci-layout").unlink()
    assert restored(store, kept, tmp_path) == DATA
    keep_number(store, 1)
    assert (store.root / "oci-layout").is_file()


def other_fingerprint(entry: Any) -> None:
    entry["annotations"]["org.opencontainers.image.ref.name"] = fingerprint_of(1)


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(digest="sha256:" + "0" * 64),
        lambda entry: entry.update(digest="sha256:../../../../etc/passwd"),
        lambda entry: entry.update(digest="sha512:" + "0" * 128),
        lambda entry: entry.update(size=entry["size"] - 1),
        lambda entry: entry.update(size=-1),
        lambda entry: entry.update(size=1 << 60),
        lambda entry: entry.update(mediaType="application/vnd.oci.image.index.v1+json"),
        lambda entry: entry.update(mediaType="application/vnd.enginery.later.v2+json"),
    ],
)
def test_an_odd_entry_is_a_miss_of_its_own(
    store: LocalStore, kept: str, tmp_path: Path, change: Callable[[Any], object]
) -> None:
    other = keep_number(store, 1)
    index = index_of(store)
    change(index["manifests"][0])
    write_index(store, index)
    assert store.find(kept) is None
    assert store.reasons[kept]
    assert restored(store, other, tmp_path) == data_of(1)
    keep(store, make_recipe())
    assert restored(store, kept, tmp_path) == DATA


def test_a_manifest_for_another_fingerprint(store: LocalStore, kept: str) -> None:
    index = index_of(store)
    other_fingerprint(index["manifests"][0])
    write_index(store, index)
    assert store.find(fingerprint_of(1)) is None
    assert "another fingerprint" in store.reasons[fingerprint_of(1)]


FOREIGN: list[Any] = [
    {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:" + "a" * 64,
        "size": 5,
        "annotations": {"org.opencontainers.image.ref.name": "debian:12"},
        "platform": {"os": "linux", "architecture": "arm64"},
    },
    {"mediaType": "x/y", "digest": "sha512:" + "b" * 128, "size": 1 << 90},
    {"anything": [None, True, 1.50, "\u00e9"]},
    "text",
    None,
    5,
]


def test_what_others_keep_in_the_index_stays(store: LocalStore, kept: str, tmp_path: Path) -> None:
    """Byte for byte, in their order, whatever it is."""
    foreign = json.dumps(FOREIGN)[1:-1]
    ours = json.dumps(index_of(store)["manifests"])[1:-1]
    (store.root / "index.json").write_text(
        f'{{"manifests": [{foreign}, {ours}], "annotations": {{"a" :  "b"}}, "schemaVersion": 2,'
        ' "later": [1.0]}'
    )
    assert restored(store, kept, tmp_path) == DATA
    other = keep_number(store, 1)
    assert store.remove(kept)
    for entry in store.prune(max_bytes=0, max_age_s=None, keep=(), dry_run=False):
        assert entry.fingerprint == other
    assert (store.root / "index.json").read_text() == (
        '{"annotations":{"a" :  "b"},"schemaVersion":2,"later":[1.0],"manifests":['
        f"{','.join(map(json.dumps, FOREIGN))}]}}\n"
    )
    keep(store, make_recipe())
    assert restored(store, kept, tmp_path) == DATA


def test_an_engine_that_is_not_what_was_said(store: LocalStore, kept: str, tmp_path: Path) -> None:
    before = files(store)
    engine = tmp_path / NAME
    engine.write_bytes(b"something else")
    recipe = recipe_of(1)
    with pytest.raises(StoreError, match="the bytes are"):
        store.add(
            engine,
            sha256_hex=hashlib.sha256(b"said").hexdigest(),
            document=make_document(engine, b"said", recipe),
            name=NAME,
            annotations={},
        )
    with pytest.raises(StoreError, match="another engine"):
        store.add(
            engine,
            sha256_hex=hashlib.sha256(b"something else").hexdigest(),
            document=make_document(engine, b"said", recipe),
            name=NAME,
            annotations={},
        )
    assert files(store) == before


@pytest.mark.parametrize("kind", [*IRREGULAR, "missing"])
def test_an_engine_that_is_no_file(store: LocalStore, tmp_path: Path, kind: str) -> None:
    engine = tmp_path / NAME
    if kind != "missing":
        engine.write_bytes(DATA)
        replace_by(kind, engine)
    with within(20), pytest.raises(StoreError, match=f"{NAME} was not added"):
        store.add(
            engine,
            sha256_hex=DIGEST,
            document=make_document(engine, DATA, make_recipe()),
            name=NAME,
            annotations={},
        )


def test_the_output_is_a_new_file(store: LocalStore, kept: str, tmp_path: Path) -> None:
    stored = store.find(kept)
    assert stored is not None
    (tmp_path / "out").write_bytes(b"someone's")
    with pytest.raises(StoreError, match="File exists"):
        store.fetch(stored, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"someone's"
    with pytest.raises(StoreError, match="No such file"):
        store.fetch(stored, tmp_path / "missing" / "out")
    assert restored(store, kept, tmp_path) == DATA


def test_an_empty_engine(store: LocalStore, tmp_path: Path) -> None:
    """Not that one could be loaded; but it is what it says."""
    fingerprint = keep(store, recipe_of(1), b"")
    assert restored(store, fingerprint, tmp_path) == b""


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, (4 << 20) + 5])
def test_sizes_around_the_buffer(store: LocalStore, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    assert restored(store, keep(store, recipe_of(size), data), tmp_path) == data


def test_a_blob_is_read_for_a_push(store: LocalStore, kept: str) -> None:
    stored = store.find(kept)
    assert stored is not None
    for descriptor in stored.blobs:
        with store.open_blob(descriptor) as stream:
            descriptor.verify(stream.read())
    os.truncate(engine_path(store), 1)
    with pytest.raises(StoreError, match="1 bytes"):
        store.open_blob(stored.engine)


def test_finding_parses_the_index_once(store: LocalStore, kept: str) -> None:
    """Not by time, which says nothing on a busy machine: the parsed index is the same object."""
    layout = store._layout
    index = layout.index()
    for _ in range(3):
        assert store.find(kept) is not None
        assert layout.index() is index
    keep_number(LocalStore(store.root), 1)
    assert layout.index() is not index
    assert store.find(fingerprint_of(1)) is not None


def limited(store: LocalStore, folder: Path, *, file_size: int = -1) -> list[str]:
    """What a process says that may not write where the mode forbids it, or no large files."""
    drop: list[str] = []
    if os.geteuid() == 0:
        rights = "-dac_override,-dac_read_search,-fowner"
        drop = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]
    program = Path(__file__).with_name("limited.py")
    run = subprocess.run(
        [*drop, sys.executable, program, store.root, folder, str(file_size)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.mark.parametrize("file_size", [0, 1, 150, 450, 700, 1300, 2000, 50_000])
def test_a_full_disk_leaves_what_was_there(
    store: LocalStore, tmp_path: Path, file_size: int
) -> None:
    there = keep_number(store, 0)
    added, fetched = limited(store, tmp_path, file_size=file_size)
    assert added.startswith(f"{NAME} was not added to the store {store.root}: File too large")
    assert fetched.startswith(
        f"{NAME} was not restored from the store {store.root}: File too large"
    )
    assert not (tmp_path / "out").exists()
    assert store.find(fingerprint_of(1)) is None
    assert restored(store, there, tmp_path) == data_of(0)
    for name in blobs(store):
        assert hashlib.sha256(blob(store, name).read_bytes()).hexdigest() == name
    assert keep_number(store, 1)
    assert restored(store, fingerprint_of(1), tmp_path) == data_of(1)


def test_a_store_that_may_only_be_read(store: LocalStore, tmp_path: Path) -> None:
    there = keep_number(store, 0)
    before = files(store)
    folders = [store.root, *(path for path in store.root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    added, fetched, pruned, removed = limited(store, tmp_path)
    for folder in folders:
        folder.chmod(0o755)
    for said in (added, removed, pruned):
        assert said.endswith(": Permission denied; look whom it belongs to")
    assert fetched == "restored"
    assert (tmp_path / "out").read_bytes() == data_of(0)
    assert files(store) == before
    assert restored(store, there, tmp_path) == data_of(0)


@pytest.mark.parametrize("which", [manifest_path, document_path])
def test_what_may_not_be_read_is_another_users_and_not_damaged(
    store: LocalStore, tmp_path: Path, which: Callable[[LocalStore], Path]
) -> None:
    keep_number(store, 0)
    which(store).chmod(0)
    added, fetched, pruned, _ = limited(store, tmp_path)
    assert added == "added"
    assert "Permission denied" in fetched
    assert "Permission denied" in pruned


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"someone's")
    store = LocalStore(tmp_path / "file")
    with pytest.raises(StoreError, match=r"not added to the store .*/file: "):
        keep_number(store, 1)
    assert store.find(fingerprint_of(1)) is None
    assert (tmp_path / "file").read_bytes() == b"someone's"


def test_several_processes_at_once(store: LocalStore, tmp_path: Path) -> None:
    """They add, restore, remove and prune; nobody loses what he added."""
    program = Path(__file__).with_name("share_store.py")
    store.root.parent.mkdir()
    running = [
        subprocess.Popen(
            [sys.executable, program, store.root, str(process), "60"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(4)
    ]
    there: set[int] = set()
    for process in running:
        said, complaint = process.communicate(timeout=300)
        assert process.returncode == 0, complaint
        there |= set(map(int, said.split()))
    assert there
    for number in there:
        assert restored(store, fingerprint_of(number), tmp_path) == data_of(number % 100)
    unlocked_and_whole(store)


def unlocked_and_whole(store: LocalStore) -> None:
    """Nothing half-written is left, and every blob is what it is called."""
    assert {path.name for path in store.root.iterdir()} == {"blobs", "index.json", "oci-layout"}
    for name in blobs(store):
        assert sha256(blob(store, name).read_bytes()) == name


def kill_while_adding(store: LocalStore, number: int, after: float) -> tuple[set[int], set[int]]:
    """What was surely added, and what may be there or not."""
    program = Path(__file__).with_name("add_for_ever.py")
    with subprocess.Popen(
        [sys.executable, program, store.root, str(number)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(after)
        assert child.poll() is None, "it ended by itself"
        child.kill()
        said = [line.split() for line in child.stdout.read().splitlines()]
    added = {int(number) for verb, number in said if verb == "added"}
    removing = {int(number) for verb, number in said if verb == "removing"}
    return added - removing, removing | {max(added, default=number - 1) + 1}


@pytest.mark.parametrize("kills", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_kill_9_never_loses_what_was_added(store: LocalStore, tmp_path: Path, kills: int) -> None:
    chance = random.Random(20251125)  # noqa: S311 - no secret
    number = 1
    keep_number(store, 0)
    there: set[int] = set()
    for _ in range(kills):
        added, perhaps = kill_while_adding(store, number, after=chance.uniform(0, 0.15))
        there |= added
        for one in added | perhaps:
            data = restored(store, fingerprint_of(one), tmp_path)
            assert data == data_of(one) or (one in perhaps and data is None)
        number = max(added | perhaps) + 1
        assert restored(store, fingerprint_of(0), tmp_path) in map(data_of, range(-number, 1))
    assert len(there) > kills / 10, "next to nothing was ever added"
    for one in there:
        assert restored(store, fingerprint_of(one), tmp_path) == data_of(one)

    everything = {fingerprint_of(one) for one in range(number)}
    hour_ago = time.time() - 7200
    for path in (store.root / "blobs" / "sha256").iterdir():
        os.utime(path, (hour_ago, hour_ago))
    assert store.prune(max_bytes=None, max_age_s=None, keep=everything, dry_run=False) == []
    unlocked_and_whole(store)
    assert {entry.fingerprint for entry in store.entries()} >= set(map(fingerprint_of, there))
    assert len(blobs(store)) == 4 * len(list(store.entries()))


def test_what_is_slow_to_import_is_not_imported() -> None:
    """Neither a lock nor a thread is needed to look something up."""
    program = "import sys, enginery.store.layout; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    slow = {"filelock", "concurrent.futures", "asyncio", "ssl", "onnx", "numpy", "doit"}
    assert not slow & set(run.stdout.split())
