"""Installing a release: all of it, verified, or what was there before."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from artifacts import flip_bit, make_document, make_recipe, provenance_of, sidecar_of, within
from keys import Pair, make_pair
from releases import ORIN, data_of, make_release, publish_engine, sign_file

from enginery import EngineIntegrityError, EngineryError, Sha256Sidecar, read_verified, release
from enginery.errors import SignatureError
from enginery.folder import verify_folder
from enginery.install import Installed, install, installed, rollback
from enginery.release import FILE_NAME, Release
from enginery.release_source import FolderSource, source_of
from enginery.signing import envelope_path
from enginery.store.layout import LocalStore
from enginery.trust import Policy

VIT, RESNET = ORIN.format("vit"), ORIN.format("+res+net++")


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return tmp_path / "device"


def install_from(
    folder: Path, device: Path, *, target: str = "orin", policy: Policy | None = None
) -> Installed:
    document, envelope = release.read_file(folder)
    with within(60):
        return install(
            document,
            envelope,
            target=target,
            into=device,
            source=source_of(folder),
            policy=policy,
        )


def tree(device: Path) -> dict[str, bytes | str]:
    """All that is in a device's folder."""
    found: dict[str, bytes | str] = {}
    for path in device.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(device))] = str(path.readlink())
        elif path.is_file():
            found[str(path.relative_to(device))] = path.read_bytes()
    return found


def assert_installed(device: Path, made: Release, versions: dict[str, int] | None = None) -> None:
    """The application reads each engine at its place, and there is nothing else."""
    found = installed(device)
    assert found.digest == made.digest
    current = device / "current"
    assert current.is_symlink()
    for model, name in (("vit", VIT), ("ResNet+", RESNET)):
        assert read_verified(current / name) == data_of(name, (versions or {}).get(model, 1))
    findings = list(verify_folder(current))
    assert [finding.path.name for finding in findings] == [RESNET, VIT]
    assert not any(finding.bad for finding in findings)


def test_a_release_is_installed_from_a_folder(tmp_path: Path, device: Path) -> None:
    made = make_release(tmp_path / "usb")
    done = install_from(tmp_path / "usb", device)
    assert (done.target, done.digest, done.received) == ("orin", made.digest, 2)
    assert {engine.name for engine in done.engines} == {VIT, RESNET}
    assert done.folder == device / "releases" / f"orin-{made.digest}"
    assert str((device / "current").readlink()) == f"releases/orin-{made.digest}"
    assert_installed(device, made)
    assert not os.path.lexists(device / "previous")
    assert sorted(path.name for path in device.iterdir()) == ["current", "releases"]


def test_another_target_of_the_same_release(tmp_path: Path, device: Path) -> None:
    make_release(tmp_path / "usb")
    done = install_from(tmp_path / "usb", device, target="server")
    assert all("cpu-x86-64-v3" in engine.name for engine in done.engines)
    assert len(list(verify_folder(device / "current"))) == 2


def test_the_folder_may_be_moved(tmp_path: Path, device: Path) -> None:
    made = make_release(tmp_path / "usb")
    install_from(tmp_path / "usb", device)
    assert_installed(device.rename(tmp_path / "mounted elsewhere"), made)


def test_a_second_run_does_nothing(tmp_path: Path, device: Path) -> None:
    made = make_release(tmp_path / "usb")
    install_from(tmp_path / "usb", device)
    inodes = {path.name: path.stat().st_ino for path in (device / "current").iterdir()}
    for path in (tmp_path / "usb").glob("*.engine"):
        path.unlink()  # nobody needs them any more
    assert install_from(tmp_path / "usb", device).received == 0
    assert inodes == {path.name: path.stat().st_ino for path in (device / "current").iterdir()}
    assert_installed(device, made)
    assert not os.path.lexists(device / "previous")


def test_the_next_release_takes_what_is_there(tmp_path: Path, device: Path) -> None:
    old = make_release(tmp_path / "old")
    new = make_release(tmp_path / "new", versions={"vit": 2})
    install_from(tmp_path / "old", device)
    (tmp_path / "new" / RESNET).unlink()  # it did not change, so it need not be sent
    assert install_from(tmp_path / "new", device).received == 1
    assert_installed(device, new, {"vit": 2})
    assert str((device / "previous").readlink()) == f"releases/orin-{old.digest}"
    before, now = device / "previous" / RESNET, device / "current" / RESNET
    assert before.stat().st_nlink == now.stat().st_nlink == 1  # a careless write harms one alone


def test_the_release_before_is_kept_and_no_other(tmp_path: Path, device: Path) -> None:
    made = []
    for version in (1, 2, 3):
        made.append(make_release(tmp_path / f"{version}", versions={"vit": version}))
        install_from(tmp_path / f"{version}", device)
    names = {path.name for path in (device / "releases").iterdir()}
    assert names == {f"orin-{one.digest}" for one in made[1:]}
    assert rollback(device).digest == made[1].digest
    assert_installed(device, made[1], {"vit": 2})


def test_back_and_forth(tmp_path: Path, device: Path) -> None:
    old = make_release(tmp_path / "old")
    new = make_release(tmp_path / "new", versions={"vit": 2})
    install_from(tmp_path / "old", device)
    install_from(tmp_path / "new", device)
    assert rollback(device).folder == device / "releases" / f"orin-{old.digest}"
    assert_installed(device, old)
    with pytest.raises(EngineryError, match="has no release before the one that is installed"):
        rollback(device)
    assert_installed(device, old)
    shutil.rmtree(tmp_path / "new" / "keys", ignore_errors=True)
    for path in (tmp_path / "new").glob("*.engine"):
        path.unlink()  # the release that was left is still on the device
    assert install_from(tmp_path / "new", device).received == 0
    assert_installed(device, new, {"vit": 2})
    assert rollback(device).digest == old.digest


def test_nothing_to_go_back_to(tmp_path: Path, device: Path) -> None:
    with pytest.raises(EngineryError, match="no release is installed in"):
        rollback(device)
    with pytest.raises(EngineryError, match="no release is installed in"):
        installed(device)
    assert not device.exists()
    make_release(tmp_path / "usb")
    install_from(tmp_path / "usb", device)
    with pytest.raises(EngineryError, match="has no release before"):
        rollback(device)


def test_a_damaged_release_is_not_gone_back_to(tmp_path: Path, device: Path) -> None:
    make_release(tmp_path / "old")
    new = make_release(tmp_path / "new", versions={"vit": 2})
    install_from(tmp_path / "old", device)
    install_from(tmp_path / "new", device)
    flip_bit(device / "previous" / VIT, 7)
    with pytest.raises(EngineIntegrityError, match=r"is damaged: .*vit.* is damaged: its bytes"):
        rollback(device)
    assert_installed(device, new, {"vit": 2})


# What is wrong with the source: nothing is changed, and it is said.


def refused(folder: Path, device: Path, words: str, **settings: object) -> EngineryError:
    """Installing fails, with what was there as it was, and an application that reads it."""
    before = tree(device / "current") if device.exists() else None
    with pytest.raises(EngineryError, match=words) as raised:
        install_from(folder, device, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    if before is not None:
        assert tree(device / "current") == before
        installed(device)
    else:
        assert not os.path.lexists(device / "current")
    return raised.value


def test_a_wrong_target_says_which_there_are(tmp_path: Path, device: Path) -> None:
    make_release(tmp_path / "usb")
    refused(
        tmp_path / "usb", device, "no target 'thor'; it has desktop, orin, server", target="thor"
    )
    assert not device.exists()


def other_engine(path: Path) -> None:
    """Another engine of that name, whole and proven: of another build, or of an attacker."""
    publish_engine(path.parent, "orin", "vit", version=6)


def other_recipe(path: Path) -> None:
    """The right bytes, with the provenance of another recipe."""
    document = make_document(path, path.read_bytes(), make_recipe())
    provenance_of(path).write_bytes(document)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda p: p.unlink(), "has no vit_.*, which the release names; copy it there too"),
    "flipped bit": (lambda p: flip_bit(p, 77), "is not the engine that the release names"),
    "truncated": (lambda p: p.write_bytes(b"x"), "is not the engine that the release names"),
    "another engine": (other_engine, "is not the engine that the release names"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "cannot be read"),
    "a FIFO": (lambda p: (p.unlink(), os.mkfifo(p)), "cannot be read"),
    "no provenance": (lambda p: provenance_of(p).unlink(), "has no vit_.*provenance.json, which"),
    "a folder for a provenance": (
        lambda p: (provenance_of(p).unlink(), provenance_of(p).mkdir()),
        "provenance of vit_.* cannot be read",
    ),
    "bad provenance": (lambda p: provenance_of(p).write_text("{}"), "is malformed"),
    "another recipe": (other_recipe, "was built from another recipe"),
    "other provenance": (
        lambda p: provenance_of(p).write_bytes(make_document(p, b"other", make_recipe())),
        "the provenance of vit_.* is about",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("first", [True, False], ids=["first release", "next release"])
def test_what_is_wrong_with_an_engine(tmp_path: Path, device: Path, what: str, first: bool) -> None:
    versions = {"vit": 5, "ResNet+": 5}
    if not first:
        make_release(tmp_path / "old")
        install_from(tmp_path / "old", device)
    new = make_release(tmp_path / "new", versions=versions)
    damage, words = DAMAGE[what]
    damage(tmp_path / "new" / VIT)
    refused(tmp_path / "new", device, words)
    shutil.rmtree(tmp_path / "new")
    make_release(tmp_path / "new", versions=versions)
    done = install_from(tmp_path / "new", device)
    assert done.received == 1  # the other engine was there already
    assert_installed(device, new, versions)


def test_a_sidecar_is_not_needed_in_the_source(tmp_path: Path, device: Path) -> None:
    made = make_release(tmp_path / "usb")
    for path in (tmp_path / "usb").glob("*.sha256"):
        path.unlink()
    install_from(tmp_path / "usb", device)
    assert_installed(device, made)


def test_links_in_the_source_are_followed_and_not_copied(tmp_path: Path, device: Path) -> None:
    """A folder under git-annex or DVC is one of links."""
    made = make_release(tmp_path / "usb")
    (tmp_path / "cache").mkdir()
    for path in (tmp_path / "usb").glob("*.engine*"):
        path.rename(tmp_path / "cache" / path.name)
        path.symlink_to(tmp_path / "cache" / path.name)
    install_from(tmp_path / "usb", device)
    assert not any(path.is_symlink() for path in (device / "current").iterdir())
    assert_installed(device, made)


def test_a_malformed_release(tmp_path: Path, device: Path) -> None:
    make_release(tmp_path / "usb")
    (tmp_path / "usb" / FILE_NAME).write_bytes(b"garbage")
    refused(tmp_path / "usb", device, "is malformed")
    assert not device.exists()


def test_no_source(tmp_path: Path) -> None:
    with pytest.raises(EngineryError, match=r"there is no folder .*; correct the path"):
        source_of(tmp_path / "nowhere")


# Signatures.


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path / "keys")


@pytest.mark.parametrize("require", ["remote", "all"])
def test_a_signed_release(tmp_path: Path, device: Path, pair: Pair, require: str) -> None:
    policy = Policy((pair.public,), require)  # type: ignore[arg-type]
    made = make_release(tmp_path / "usb", signed_by=pair)
    assert install_from(tmp_path / "usb", device, policy=policy).received == 2
    assert installed(device, policy=policy).digest == made.digest
    assert read_verified(device / "current" / VIT, policy) == data_of(VIT)
    assert not any(finding.bad for finding in verify_folder(device / "current", policy))
    newer = make_release(tmp_path / "newer", versions={"vit": 2}, signed_by=pair)
    assert install_from(tmp_path / "newer", device, policy=policy).received == 1
    assert installed(device, policy=policy).digest == newer.digest
    assert rollback(device, policy=policy).digest == made.digest


def strip_all(folder: Path, *_: Pair) -> None:
    for path in folder.glob("*.dsse.json"):
        path.unlink()


def strip_release(folder: Path, *_: Pair) -> None:
    envelope_path(folder / FILE_NAME).unlink()


def strip_engine(folder: Path, *_: Pair) -> None:
    envelope_path(folder / VIT).unlink()


def sign_release_with_another(folder: Path, _: Pair, stranger: Pair) -> None:
    sign_file(folder / FILE_NAME, folder / FILE_NAME, stranger, release.MEDIA_TYPE)


def sign_engine_with_another(folder: Path, _: Pair, stranger: Pair) -> None:
    sign_file(folder / VIT, provenance_of(folder / VIT), stranger)


def swap_signatures(folder: Path, *_: Pair) -> None:
    envelope_path(folder / VIT).write_bytes(envelope_path(folder / RESNET).read_bytes())


def change_release(folder: Path, *_: Pair) -> None:
    """A release that leaves an engine out, with the signature of the whole one."""
    made = release.read((folder / FILE_NAME).read_bytes())
    targets = {"orin": made.targets["orin"]}
    other = Release(targets=targets, engines=made.of_target("orin"))
    (folder / FILE_NAME).write_bytes(other.document())


UNSIGNED: dict[str, tuple[Callable[..., None], str]] = {
    "nothing is signed": (strip_all, "the release is not signed"),
    "the release is not": (strip_release, "the release is not signed"),
    "an engine is not": (strip_engine, "vit_.* is not signed"),
    "the release is by another": (sign_release_with_another, "the release is signed by no key"),
    "an engine is by another": (sign_engine_with_another, "vit_.* is signed by no key"),
    "an engine has another's": (swap_signatures, "is about another document"),
    "the release has another's": (change_release, "is about another document"),
}


@pytest.mark.parametrize("what", UNSIGNED)
def test_what_is_not_signed(tmp_path: Path, device: Path, pair: Pair, what: str) -> None:
    policy = Policy((pair.public,), "remote")
    make_release(tmp_path / "usb", signed_by=pair)
    stranger = make_pair(tmp_path / "stranger")
    change, words = UNSIGNED[what]
    change(tmp_path / "usb", pair, stranger)
    assert isinstance(refused(tmp_path / "usb", device, words, policy=policy), SignatureError)
    install_from(tmp_path / "usb", device)  # where nothing must be signed
    with pytest.raises(EngineIntegrityError, match=words):
        installed(device, policy=policy)


def test_signatures_came_later(tmp_path: Path, device: Path, pair: Pair) -> None:
    """What was installed unsigned gets the signatures, and the engines stay where they are."""
    policy = Policy((pair.public,), "remote")
    make_release(tmp_path / "usb")
    install_from(tmp_path / "usb", device)
    made = make_release(tmp_path / "usb", signed_by=pair)
    assert install_from(tmp_path / "usb", device, policy=policy).received == 0
    assert installed(device, policy=policy).digest == made.digest
    assert len(list((device / "releases").iterdir())) == 1
    assert not os.path.lexists(device / "previous")


def test_another_key_takes_over(tmp_path: Path, device: Path, pair: Pair) -> None:
    new = make_pair(tmp_path / "new", name="new")
    make_release(tmp_path / "1", signed_by=pair)
    install_from(tmp_path / "1", device, policy=Policy((pair.public,), "all"))
    make_release(tmp_path / "2", versions={"vit": 2}, signed_by=new)
    install_from(tmp_path / "2", device, policy=Policy((pair.public, new.public), "all"))
    only = Policy((new.public,), "all")
    assert installed(device, policy=only)
    with pytest.raises(SignatureError, match="no key that is trusted here"):
        rollback(device, policy=only)


def test_a_release_is_signed_again(tmp_path: Path, device: Path, pair: Pair) -> None:
    """While both keys are trusted the device gets the new signatures, before the old key goes."""
    new = make_pair(tmp_path / "new", name="new")
    both = Policy((pair.public, new.public), "all")
    make_release(tmp_path / "usb", signed_by=pair)
    install_from(tmp_path / "usb", device, policy=both)
    made = make_release(tmp_path / "usb", signed_by=new)
    assert install_from(tmp_path / "usb", device, policy=both).received == 0
    assert installed(device, policy=Policy((new.public,), "all")).digest == made.digest


def test_a_key_that_cannot_be_used(tmp_path: Path, device: Path) -> None:
    make_release(tmp_path / "usb", signed_by=make_pair(tmp_path / "keys"))
    refused(
        tmp_path / "usb", device, "is not there", policy=Policy((tmp_path / "gone.pem",), "all")
    )


# What is wrong on the device.


def test_a_damaged_release_is_repaired(tmp_path: Path, device: Path) -> None:
    """While an application may have it open: the damaged one stays until the other is whole."""
    old = make_release(tmp_path / "old")
    made = make_release(tmp_path / "usb", versions={"vit": 2})
    install_from(tmp_path / "old", device)
    install_from(tmp_path / "usb", device)
    flip_bit(device / "current" / VIT, 5)
    with pytest.raises(EngineIntegrityError, match=r"is damaged: its bytes .*; install it again"):
        installed(device)
    assert install_from(tmp_path / "usb", device).received == 1
    assert_installed(device, made, {"vit": 2})
    assert rollback(device).digest == old.digest
    assert len(list((device / "releases").iterdir())) == 2


@pytest.mark.parametrize("what", ["release", "sidecar", "provenance", "engine", "everything"])
def test_what_is_missing_is_put_back(tmp_path: Path, device: Path, what: str) -> None:
    made = make_release(tmp_path / "usb")
    install_from(tmp_path / "usb", device)
    current = device / "current"
    if what == "everything":
        shutil.rmtree(current.resolve())
    else:
        {
            "release": current / FILE_NAME,
            "sidecar": sidecar_of(current / VIT),
            "provenance": provenance_of(current / VIT),
            "engine": current / VIT,
        }[what].unlink()
    with pytest.raises(EngineryError):
        installed(device)
    install_from(tmp_path / "usb", device)
    assert_installed(device, made)


def test_a_release_under_anothers_name(tmp_path: Path, device: Path) -> None:
    """A whole release in the place of another: of an older one, say."""
    make_release(tmp_path / "old")
    new = make_release(tmp_path / "new", versions={"vit": 2})
    install_from(tmp_path / "old", device)
    install_from(tmp_path / "new", device)
    old_folder, new_folder = (device / "previous").resolve(), (device / "current").resolve()
    shutil.rmtree(new_folder)
    shutil.copytree(old_folder, new_folder)
    with pytest.raises(EngineIntegrityError, match="is another release"):
        installed(device)
    install_from(tmp_path / "new", device)
    assert_installed(device, new, {"vit": 2})


@pytest.mark.parametrize("kind", ["folder", "file", "link elsewhere", "absolute link"])
def test_current_is_not_ours(tmp_path: Path, device: Path, kind: str) -> None:
    made = make_release(tmp_path / "usb")
    current = device / "current"
    device.mkdir()
    if kind == "folder":
        current.mkdir()
        (current / "precious").write_text("data")
    elif kind == "file":
        current.write_text("data")
    else:
        current.symlink_to(tmp_path if kind == "absolute link" else f"../orin-{made.digest}")
    before = tree(device)
    with pytest.raises(EngineryError, match="current was not made by enginery; move it away"):
        install_from(tmp_path / "usb", device)
    assert {name: data for name, data in tree(device).items() if "lock" not in name} == before


def test_what_else_is_there_stays(tmp_path: Path, device: Path) -> None:
    device.mkdir()
    (device / "notes.txt").write_text("mine")
    (device / "releases" / "mine").mkdir(parents=True)
    for version in (1, 2, 3):
        make_release(tmp_path / f"{version}", versions={"vit": version})
        install_from(tmp_path / f"{version}", device)
    assert (device / "notes.txt").read_text() == "mine"
    assert (device / "releases" / "mine").is_dir()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, device: Path) -> None:
    make_release(tmp_path / "usb")
    device.write_text("data")
    with pytest.raises(EngineryError, match=r"cannot be written to .*; what was installed there"):
        install_from(tmp_path / "usb", device)


def test_what_an_interrupted_run_left_is_used_and_cleared(tmp_path: Path, device: Path) -> None:
    made = make_release(tmp_path / "usb")
    partial = device / "releases" / f".orin-{made.digest}.partial"
    partial.mkdir(parents=True)
    for suffix in ("", ".sha256", ".provenance.json"):
        shutil.copy(tmp_path / "usb" / f"{VIT}{suffix}", partial)
    (partial / f".{RESNET}.0123abcd.tmp").write_bytes(b"half")
    (partial / RESNET).write_bytes(b"half")
    (partial / "stray").mkdir()
    (partial / "stray" / "file").write_bytes(b"")
    other = device / "releases" / f".orin-{'a' * 64}.partial"
    other.mkdir()
    (device / ".current.0123abcd.tmp").symlink_to("releases/x")
    assert install_from(tmp_path / "usb", device).received == 1
    assert_installed(device, made)
    assert [path.name for path in (device / "releases").iterdir()] == [f"orin-{made.digest}"]
    assert sorted(path.name for path in device.iterdir()) == ["current", "releases"]
    names = {path.name for path in (device / "current").iterdir()}
    assert names == {
        FILE_NAME,
        *(
            f"{name}{suffix}"
            for name in (VIT, RESNET)
            for suffix in ("", ".sha256", ".provenance.json")
        ),
    }


# Killed, full, and at once.

INSTALL = """
import sys
from pathlib import Path
from enginery import release
from enginery.errors import EngineryError
from enginery.install import install
from enginery.release_source import source_of
folder, device = map(Path, sys.argv[1:3])
document, envelope = release.read_file(folder)
try:
    done = install(document, envelope, target="orin", into=device, source=source_of(folder))
except EngineryError as error:
    sys.exit(str(error))
print(done.received)
"""


def run_install(folder: Path, device: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", before + INSTALL, folder, device],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_killed_at_any_change_of_the_file_system(tmp_path: Path, device: Path) -> None:
    for version in (1, 2):
        make_release(tmp_path / f"{version}", versions={"vit": version})
        install_from(tmp_path / f"{version}", device)
    (tmp_path / "2").rename(tmp_path / "old")
    make_release(tmp_path / "new", versions={"vit": 3, "ResNet+": 3})
    program = Path(__file__).with_name("install_killed.py")
    run = subprocess.run(
        [sys.executable, program, tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 40


def test_killed_while_it_copies(tmp_path: Path, device: Path) -> None:
    """Large engines, so that the kill comes in the middle of a write."""
    old = make_release(tmp_path / "old")
    install_from(tmp_path / "old", device)
    large = {path.name: os.urandom(8 << 20) for path in (tmp_path / "old").glob("*sm87*.engine")}
    for name, data in large.items():
        enlarge(tmp_path / "old" / name, data)
    made = release.make(
        release.describe("orin", path) for path in (tmp_path / "old").glob("*sm87*.engine")
    )
    (tmp_path / "old" / FILE_NAME).write_bytes(made.document())
    chance, finished = random.Random(5), 0  # noqa: S311 - no secret
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", f"print(flush=True)\n{INSTALL}", tmp_path / "old", device],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.1, 0.5))
        process.send_signal(signal.SIGKILL)
        finished += process.wait() == 0
        process.stdout.close()
        assert installed(device).digest in (old.digest, made.digest)
    assert run_install(tmp_path / "old", device).returncode == 0
    assert installed(device).digest == made.digest
    for name, data in large.items():
        assert read_verified(device / "current" / name) == data


def enlarge(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    Sha256Sidecar.write(path)
    recipe = make_recipe(build={"name": path.name}, toolchain={"runtime": "tensorrt"})
    provenance_of(path).write_bytes(make_document(path, data, recipe))


def test_a_full_disk(tmp_path: Path, device: Path) -> None:
    """The release that was there stays, and the disk does not stay full."""
    old = make_release(tmp_path / "old")
    install_from(tmp_path / "old", device)
    make_release(tmp_path / "new", versions={"vit": 2, "ResNet+": 2})
    before = tree(device)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1200, 1200))\n"
    run = run_install(tmp_path / "new", device, before=limit)
    assert run.returncode == 1
    assert "cannot be written to" in run.stderr
    assert "File too large; what was installed there is as it was" in run.stderr
    assert "Traceback" not in run.stderr
    assert tree(device) == before
    assert_installed(device, old)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1200


def test_several_at_once(tmp_path: Path, device: Path) -> None:
    made = [make_release(tmp_path / f"{number}", versions={"vit": number}) for number in range(3)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", INSTALL, tmp_path / f"{number % 3}", device],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(6)
    ]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert installed(device).digest in {one.digest for one in made}
    assert len(list((device / "releases").iterdir())) == 2


def test_an_application_reads_while_releases_change(tmp_path: Path, device: Path) -> None:
    """Through `current` there is always an engine, whole, of one release or the next."""
    for version in (1, 2):
        make_release(tmp_path / f"{version}", versions={"vit": version})
        install_from(tmp_path / f"{version}", device)
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from enginery import read_verified\n"
        "device, name = Path(sys.argv[1]), sys.argv[2]\n"
        "print(flush=True)\n"
        "seen, end = set(), time.monotonic() + 4\n"
        "while time.monotonic() < end:\n"
        "    folder = (device / 'current').resolve(strict=True)\n"
        "    seen.add(read_verified(folder / name))\n"
        "print(len(seen))"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", script, device, VIT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    reader.stdout.readline()
    while reader.poll() is None:
        install_from(tmp_path / "1", device)
        install_from(tmp_path / "2", device)
    output, errors = reader.communicate()
    assert reader.returncode == 0, errors
    assert output.strip() == "2"


# From an OCI image layout that was copied over.


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A local store with the engines of a release, and the release beside it."""
    make_release(tmp_path / "built")
    store = LocalStore(tmp_path / "layout")
    for path in (tmp_path / "built").glob("*.engine"):
        store.add(
            path,
            sha256_hex=Sha256Sidecar.read(path),
            document=provenance_of(path).read_bytes(),
            name=path.name,
            annotations={},
        )
    shutil.copy(tmp_path / "built" / FILE_NAME, tmp_path / "layout")
    return tmp_path / "layout"


def test_a_layout(layout: Path, device: Path) -> None:
    made = release.read((layout / FILE_NAME).read_bytes())
    assert install_from(layout, device).received == 2
    assert_installed(device, made)


def test_a_damaged_blob(layout: Path, device: Path) -> None:
    made = release.read((layout / FILE_NAME).read_bytes())
    engine = next(one for one in made.of_target("orin") if one.name == VIT)
    flip_bit(layout / "blobs" / "sha256" / engine.sha256, 5)
    refused(layout, device, "vit")


def test_a_missing_blob(layout: Path, device: Path) -> None:
    made = release.read((layout / FILE_NAME).read_bytes())
    engine = next(one for one in made.of_target("orin") if one.name == VIT)
    (layout / "blobs" / "sha256" / engine.sha256).unlink()
    refused(layout, device, "has no vit_.* which the release names .*missing.*; push or copy")


def test_an_engine_of_another_build(layout: Path, tmp_path: Path, device: Path) -> None:
    """The store has an engine of that recipe whose bytes are not those of the release."""
    path = tmp_path / "built" / VIT
    store = LocalStore(layout)
    made = release.read((layout / FILE_NAME).read_bytes())
    recipe = make_recipe(
        inputs={"onnx": "1" * 64},
        build={"name": VIT, "version": 1},
        toolchain={"runtime": "tensorrt", "tensorrt": "1.0"},
    )
    assert recipe.fingerprint in {engine.fingerprint for engine in made.engines}
    path.write_bytes(b"tactics chose otherwise")
    store.add(
        path,
        sha256_hex=Sha256Sidecar.write(path),
        document=make_document(path, path.read_bytes(), recipe),
        name=VIT,
        annotations={},
    )
    refused(layout, device, "is not the engine that the release names")


def test_a_source_is_asked_for_what_it_has(tmp_path: Path) -> None:
    made = make_release(tmp_path / "usb")
    engine = made.of_target("orin")[0]
    source = FolderSource(tmp_path / "usb")
    source.copy(engine, tmp_path / "output")
    assert (tmp_path / "output").read_bytes() == data_of(engine.name)
    documents = source.documents(engine)
    assert documents.provenance == provenance_of(tmp_path / "usb" / engine.name).read_bytes()
    assert documents.envelope is None
