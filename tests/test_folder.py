"""A folder of engines: each one is believed, or what is wrong with it is said."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from artifacts import (
    DATA,
    IRREGULAR,
    NAME,
    OTHER_NAME,
    flip_bit,
    make_document,
    make_recipe,
    provenance_of,
    publish_artifact,
    replace_by,
    sidecar_of,
    snapshot,
    within,
)
from keys import Pair, make_pair

from enginery import EngineryError, Sha256Sidecar, folder
from enginery.folder import Condition, Finding, verify_folder
from enginery.signing import envelope_path, sign
from enginery.trust import Policy

NAMES = tuple(f"{model}_{NAME.partition('_')[2]}" for model in ("ant", "bee", "cat", "dog"))


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    path = tmp_path / "engines"
    path.mkdir()
    for name in NAMES:
        publish_artifact(path, name=name, data=name.encode() * 1000)
    return path


def found(path: Path, policy: Policy | None = None) -> dict[str, Finding]:
    """What is found, by file name; nothing is changed by looking."""
    before = snapshot(path)
    with within(20):
        findings = list(verify_folder(path, policy))
    assert snapshot(path) == before
    assert all("\n" not in finding.words for finding in findings)
    return {finding.path.name: finding for finding in findings}


def test_good_engines(engines: Path) -> None:
    findings = found(engines)
    assert tuple(findings) == NAMES
    for finding in findings.values():
        assert (finding.condition, finding.words, finding.bad) == (Condition.GOOD, "good", False)
        assert finding.statement is not None
        assert finding.statement.subject[0].name == finding.path.name


def test_an_empty_folder(tmp_path: Path) -> None:
    assert found(tmp_path) == {}


def rename_with_all(path: Path) -> None:
    for place in (lambda path: path, provenance_of):
        place(path).replace(place(path.with_name(OTHER_NAME)))
    sidecar_of(path).unlink()
    Sha256Sidecar.write(path.with_name(OTHER_NAME))


WRONG: dict[str, tuple[Callable[[Path], object], Condition, str]] = {
    "damaged": (lambda p: flip_bit(p, 99), Condition.DAMAGED, "is damaged: its bytes are"),
    "truncated": (lambda p: p.write_bytes(b""), Condition.DAMAGED, "is damaged"),
    "no sidecar": (lambda p: sidecar_of(p).unlink(), Condition.SIDECAR, "sidecar .* is missing"),
    "bad sidecar": (lambda p: sidecar_of(p).write_text("x"), Condition.SIDECAR, "is malformed"),
    "no engine": (lambda p: p.unlink(), Condition.ABSENT, "though .*engine.sha256 is"),
    "provenance alone": (
        lambda p: (p.unlink(), sidecar_of(p).unlink()),
        Condition.ABSENT,
        r"it is not there, though .*\.provenance\.json is",
    ),
    "no provenance": (
        lambda p: provenance_of(p).unlink(),
        Condition.PROVENANCE,
        "the provenance of .* is missing",
    ),
    "bad provenance": (
        lambda p: provenance_of(p).write_text("{}"),
        Condition.PROVENANCE,
        "is malformed",
    ),
    "provenance of other bytes": (
        lambda p: provenance_of(p).write_bytes(make_document(p, b"other", make_recipe())),
        Condition.PROVENANCE,
        "the provenance of .* is about d9298a10d1b0, its bytes are",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said(engines: Path, what: str) -> None:
    damage, condition, words = WRONG[what]
    damage(engines / NAMES[1])
    findings = found(engines)
    assert tuple(findings) == NAMES
    bad = findings[NAMES[1]]
    assert bad.condition is condition, bad.words
    assert bad.bad
    assert bad.statement is None
    assert re.search(words, bad.words), bad.words
    assert [name for name in NAMES if findings[name].bad] == [NAMES[1]]


def test_a_renamed_engine(engines: Path) -> None:
    rename_with_all(engines / NAMES[0])
    finding = found(engines)[OTHER_NAME]
    assert finding.condition is Condition.PROVENANCE
    assert "is for another file" in finding.words


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("place", [lambda path: path, sidecar_of, provenance_of, envelope_path])
def test_what_is_no_plain_file(
    engines: Path, tmp_path: Path, kind: str, place: Callable[[Path], Path]
) -> None:
    pair = make_pair(tmp_path / "keys")
    for name in NAMES:
        sign_engine(engines / name, pair)
    replace_by(kind, place(engines / NAMES[1]))
    findings = found(engines, Policy((pair.public,), "all"))
    assert findings[NAMES[1]].bad
    assert [name for name in NAMES if findings[name].bad] == [NAMES[1]]


def sign_engine(engine: Path, pair: Pair) -> None:
    envelope = sign(provenance_of(engine).read_bytes(), pair.private)
    envelope_path(engine).write_bytes(envelope)


@pytest.mark.parametrize("require", ["remote", "all"])
def test_signatures(engines: Path, tmp_path: Path, require: str) -> None:
    pair, stranger = make_pair(tmp_path / "keys"), make_pair(tmp_path / "stranger")
    sign_engine(engines / NAMES[0], pair)
    sign_engine(engines / NAMES[1], stranger)
    envelope_path(engines / NAMES[2]).write_bytes(envelope_path(engines / NAMES[0]).read_bytes())
    policy = Policy((pair.public,), require)  # type: ignore[arg-type]
    findings = found(engines, policy)
    assert not findings[NAMES[0]].bad
    for name, words in zip(NAMES[1:], ("no key", "another document", "not signed"), strict=True):
        assert findings[name].condition is Condition.SIGNATURE
        assert words in findings[name].words
    assert not any(finding.bad for finding in found(engines).values())


def test_a_signature_without_its_engine(engines: Path, tmp_path: Path) -> None:
    sign_engine(engines / NAMES[0], make_pair(tmp_path / "keys"))
    for place in (lambda path: path, sidecar_of, provenance_of):
        place(engines / NAMES[0]).unlink()
    finding = found(engines)[NAMES[0]]
    assert finding.words.endswith(".engine.dsse.json is")
    assert finding.bad


def test_foreign_files_are_said_and_are_not_bad(engines: Path) -> None:
    (engines / "README.md").write_text("engines of the team")
    (engines / "readme.sha256").write_text("x")
    (engines / "plugins").mkdir()
    (engines / "plugins" / NAME).write_bytes(DATA)
    findings = found(engines)
    foreign = {name: one for name, one in findings.items() if one.condition is Condition.FOREIGN}
    assert set(foreign) == {"README.md", "readme.sha256", "plugins"}
    assert not any(one.bad for one in foreign.values())
    assert foreign["plugins"].words == "a folder that is no engine's"
    assert foreign["README.md"].words == "a file that is no engine's"


def test_an_engine_that_someone_else_put_there(engines: Path) -> None:
    """Whatever is called an engine might be loaded as one."""
    (engines / "model.engine").write_bytes(DATA)
    assert found(engines)["model.engine"].condition is Condition.SIDECAR


def test_files_of_running_builds_and_releases_are_left_out(engines: Path) -> None:
    for name in (
        f".{NAME}.lock",
        f".{NAME}.0123abcd.tmp",
        "release.json",
        "release.json.dsse.json",
    ):
        (engines / name).write_bytes(b"")
    (engines / ".enginery").mkdir()
    assert tuple(found(engines)) == NAMES


def test_a_link_to_the_folder(engines: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(engines)
    assert len([one for one in verify_folder(tmp_path / "current") if not one.bad]) == len(NAMES)


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_no_folder(tmp_path: Path, what: str) -> None:
    path = tmp_path / "nowhere"
    if what == "a file":
        path.write_bytes(b"")
    with pytest.raises(EngineryError, match=r"nowhere cannot be read: .*; correct the path"):
        verify_folder(path)


def test_a_key_that_cannot_be_used_is_said_once(engines: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineryError, match="is not there"):
        verify_folder(engines, Policy((tmp_path / "gone.pem",), "all"))


def test_engines_are_hashed_in_parallel(engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two engines at a time: each waits for the other before it is done."""
    barrier = threading.Barrier(2, timeout=20)
    examine = folder.examine

    def waiting(path: Path, policy: Policy) -> Finding:
        barrier.wait()
        return examine(path, policy)

    monkeypatch.setattr(folder, "examine", waiting)
    findings = list(verify_folder(engines, threads=2))
    assert [finding.path.name for finding in findings] == list(NAMES)


def test_who_wants_no_more_need_not_wait(engines: Path) -> None:
    threads = threading.active_count()
    findings = verify_folder(engines, threads=2)
    assert not next(iter(findings)).bad
    findings.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads
