"""skopeo reads what the store writes, and the store what skopeo writes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from artifacts import DATA, NAME, make_recipe
from stores import (
    ANNOTATIONS,
    blobs,
    data_of,
    fingerprint_of,
    keep,
    keep_number,
    restored,
    sha256,
)

from enginery.store.layout import LocalStore

pytestmark = pytest.mark.skipif(
    shutil.which("skopeo") is None, reason="skopeo is not installed (apt-get install skopeo)"
)

SIGNATURE = b'{"payloadType": "application/vnd.in-toto+json"}'


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    keep(store, make_recipe(), envelope=SIGNATURE)
    keep_number(store, 1)
    return store


FINGERPRINT = make_recipe().fingerprint


def skopeo(*arguments: str) -> bytes:
    run = subprocess.run(["skopeo", *arguments], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def reference(store: LocalStore, name: str = FINGERPRINT) -> str:
    return f"oci:{store.root}:{name}"


def raw_index(store: LocalStore) -> Any:
    return json.loads((store.root / "index.json").read_bytes())


def test_inspect_shows_what_it_is(store: LocalStore) -> None:
    shown = json.loads(skopeo("inspect", reference(store)))
    assert shown["Labels"] == {
        **ANNOTATIONS,
        "enginery.fingerprint": FINGERPRINT,
        "enginery.kind": "engine",
    }
    assert shown["Layers"][0] == f"sha256:{sha256(DATA)}"
    assert len(shown["Layers"]) == 3
    stored = store.find(FINGERPRINT)
    assert stored is not None
    assert shown["Digest"] == stored.described.digest
    assert skopeo("inspect", "--raw", reference(store)) == stored.manifest_bytes
    config = json.loads(skopeo("inspect", "--config", reference(store)))
    assert config["config"]["Labels"] == shown["Labels"]


def test_a_copy_is_a_store(store: LocalStore, tmp_path: Path) -> None:
    """Every byte of manifest and blobs as it was, so that digests and signatures hold."""
    other = LocalStore(tmp_path / "other")
    for name in (FINGERPRINT, fingerprint_of(1)):
        skopeo("copy", reference(store, name), reference(other, name))
        assert other.find(name) == store.find(name)
    assert blobs(other) == blobs(store)
    assert restored(other, FINGERPRINT, tmp_path) == DATA
    assert restored(other, fingerprint_of(1), tmp_path) == data_of(1)
    assert [entry.name for entry in other.entries()] == [NAME, NAME]
    assert other.reasons == {}


def test_a_copy_can_be_written(store: LocalStore, tmp_path: Path) -> None:
    other = LocalStore(tmp_path / "other")
    skopeo("copy", reference(store), reference(other))
    keep_number(other, 2)
    assert other.remove(FINGERPRINT)
    assert restored(other, fingerprint_of(2), tmp_path) == data_of(2)
    assert json.loads(skopeo("inspect", reference(other, fingerprint_of(2))))["Labels"]


def test_what_skopeo_adds_is_found_and_stays(store: LocalStore, tmp_path: Path) -> None:
    """An engine under its fingerprint is ours; under another name it is someone else's."""
    other = LocalStore(tmp_path / "other")
    keep_number(other, 2)
    keep_number(other, 3)
    skopeo("copy", reference(other, fingerprint_of(2)), reference(store, fingerprint_of(2)))
    skopeo("copy", reference(other, fingerprint_of(3)), reference(store, "latest"))
    assert restored(store, fingerprint_of(2), tmp_path) == data_of(2)
    assert store.find(fingerprint_of(3)) is None
    gone = store.prune(max_bytes=0, max_age_s=0, keep=(), dry_run=False)
    assert len(gone) == 3
    assert len(raw_index(store)["manifests"]) == 1
    assert len(blobs(store)) == 4
    skopeo("copy", reference(store, "latest"), reference(other, "again"))


def test_the_store_is_left_as_it_is(store: LocalStore, tmp_path: Path) -> None:
    before = raw_index(store)
    skopeo("copy", reference(store), f"dir:{tmp_path / 'dir'}")
    assert (tmp_path / "dir" / sha256(DATA)).read_bytes() == DATA
    skopeo("copy", f"dir:{tmp_path / 'dir'}", reference(store))
    assert raw_index(store)["manifests"][0] == before["manifests"][0]
    assert restored(store, FINGERPRINT, tmp_path) == DATA
