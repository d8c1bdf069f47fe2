"""A release: one spelling, read strictly, and it says what its engines are."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artifacts import IRREGULAR, flip_bit, make_recipe, publish_artifact, replace_by, within
from keys import make_pair
from releases import ORIN, data_of, make_release

from enginery import EngineIntegrityError, EngineryError, release, trust
from enginery.errors import SignatureError
from enginery.install import install, installed
from enginery.release import MEDIA_TYPE, Release, ReleaseTarget
from enginery.release_source import source_of
from enginery.signing import envelope_path, sign
from enginery.trust import Policy


@pytest.fixture
def made(tmp_path: Path) -> Release:
    return make_release(tmp_path)


def test_what_is_written_is_read(made: Release) -> None:
    assert release.read(made.document()) == made


def test_the_document(tmp_path: Path) -> None:
    made = make_release(tmp_path, ("vit",))
    name = ORIN.format("vit")
    document = json.loads(made.document())
    assert set(document) == {"schema", "targets", "engines"}
    assert document["schema"] == 1
    assert document["targets"] == {
        "desktop": {
            "sm": [86, 89],
            "jetpack": None,
            "cpu": None,
            "runtime": "tensorrt_rtx",
            "version": "1.7.1.116",
        },
        "orin": {
            "sm": [87],
            "jetpack": "6.2",
            "cpu": None,
            "runtime": "tensorrt",
            "version": "10.3.0.30",
        },
        "server": {
            "sm": [],
            "jetpack": None,
            "cpu": "x86-64-v3",
            "runtime": "onnxruntime",
            "version": "1.26.0",
        },
    }
    (engine,) = (one for one in document["engines"] if one["target"] == "orin")
    fingerprint = engine.pop("fingerprint")
    assert engine == {
        "name": name,
        "model": "vit",
        "precision": "fp16",
        "target": "orin",
        "sha256": hashlib.sha256(data_of(name)).hexdigest(),
        "size": len(data_of(name)),
    }
    assert fingerprint == trust.verified(tmp_path / name).fingerprint


def test_one_spelling(made: Release, tmp_path: Path) -> None:
    """The order in which engines are found and built does not show, and nor does the time."""
    again = tmp_path / "again"
    again.mkdir()
    other = make_release(again, ("ResNet+", "vit"))
    assert other.document() == made.document()
    assert other.digest == made.digest == hashlib.sha256(made.document()).hexdigest()
    assert b" " not in made.document()
    assert b"\n" not in made.document()


def test_engines_of_a_target(made: Release) -> None:
    names = [engine.name for engine in made.of_target("orin")]
    assert names == [ORIN.format("+res+net++"), ORIN.format("vit")]
    assert {engine.model for engine in made.of_target("orin")} == {"ResNet+", "vit"}


def test_a_wrong_target_says_which_there_are(made: Release) -> None:
    with pytest.raises(EngineryError, match="has no target 'thor'; it has desktop, orin, server"):
        made.of_target("thor")


def test_an_engine_is_verified_before_it_is_released(tmp_path: Path) -> None:
    engine = publish_artifact(tmp_path)
    flip_bit(engine, 5)
    with pytest.raises(EngineIntegrityError, match="is damaged"):
        release.describe("rtx", engine)
    engine.unlink()
    with pytest.raises(EngineIntegrityError, match="cannot be read"):
        release.describe("rtx", engine)


def test_a_runtime_that_did_not_say_its_name(tmp_path: Path) -> None:
    engine = publish_artifact(tmp_path, recipe=make_recipe(toolchain={"tensorrt": "1.7.1.116"}))
    assert release.describe("rtx", engine)[0].runtime is None


def test_an_engine_under_another_name_is_not_released(tmp_path: Path) -> None:
    with pytest.raises(EngineryError, match=r"is not the name of an engine.*under their own names"):
        release.describe("rtx", publish_artifact(tmp_path, name="model.engine"))


def test_one_target_is_one_hardware(tmp_path: Path) -> None:
    one = release.describe("rtx", publish_artifact(tmp_path))
    other = release.describe("rtx", publish_artifact(tmp_path, name=ORIN.format("vit")))
    with pytest.raises(EngineryError, match="is not for the hardware and version that other"):
        release.make([one, other])


def test_an_engine_is_released_once(tmp_path: Path) -> None:
    one = release.describe("rtx", publish_artifact(tmp_path))
    with pytest.raises(EngineryError, match="not in the order of their names, each once"):
        release.make([one, one])
    with pytest.raises(EngineryError, match="names no engine"):
        release.make([])


@pytest.mark.parametrize("target", ["", "a/b", "..", "-x", "é", "x" * 101, "a b"])
def test_a_targets_name_can_be_a_folders(tmp_path: Path, target: str) -> None:
    with pytest.raises(EngineryError, match="which is no target of it"):
        release.make([release.describe(target, publish_artifact(tmp_path))])


def edit(change: Callable[[Any], object]) -> Callable[[Release], bytes]:
    """A change to the document, in the one spelling unless the change is of the spelling."""

    def changed(made: Release) -> bytes:
        document = json.loads(made.document())
        result = change(document)
        document = result if isinstance(result, list) else document
        return json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()

    return changed


def engine_of(document: Any) -> Any:
    return document["engines"][0]


def rename(document: Any, name: str) -> None:
    engine_of(document).update(name=name)
    document["engines"].sort(key=lambda engine: engine["name"])


MALFORMED: dict[str, tuple[Callable[[Release], bytes], str]] = {
    "empty": (lambda _: b"", "is malformed"),
    "garbage": (lambda _: b"garbage", "is malformed"),
    "array": (edit(lambda document: [document]), "is malformed"),
    "depth": (lambda _: b"[" * 100_000, "is malformed"),
    "no UTF-8": (lambda made: made.document().replace(b"vit", b"v\xff"), "is malformed"),
    "two documents": (lambda made: made.document() * 2, "is malformed"),
    "white space": (lambda made: made.document() + b"\n", "not in the one spelling"),
    "order of keys": (
        lambda made: json.dumps(
            dict(reversed(json.loads(made.document()).items())), separators=(",", ":")
        ).encode(),
        "not in the one spelling",
    ),
    "a key twice": (
        lambda made: made.document().replace(b'"schema":1', b'"schema":1,"schema":1'),
        "not in the one spelling",
    ),
    "order of engines": (
        edit(lambda document: document["engines"].reverse()),
        "not in the order of their names",
    ),
    "an engine twice": (
        edit(lambda document: document["engines"].insert(0, engine_of(document))),
        "not in the order of their names, each once",
    ),
    "no engines": (edit(lambda document: document["engines"].clear()), "names no engine"),
    "unknown key": (edit(lambda document: document.update(note="x")), "unknown field"),
    "unknown key of an engine": (
        edit(lambda document: engine_of(document).update(note="x")),
        "unknown field",
    ),
    "missing key": (edit(lambda document: document.pop("targets")), "missing required field"),
    "a float": (edit(lambda document: engine_of(document).update(size=1.5)), "is malformed"),
    "a negative size": (edit(lambda document: engine_of(document).update(size=-1)), "malformed"),
    "a digest of upper case": (
        edit(lambda document: engine_of(document).update(sha256="A" * 64)),
        "is no SHA-256",
    ),
    "a short fingerprint": (
        edit(lambda document: engine_of(document).update(fingerprint="a" * 63)),
        "is no SHA-256",
    ),
    "a path for a name": (
        edit(lambda document: rename(document, "../../" + ORIN.format("vit"))),
        "is not the name of an engine",
    ),
    "a hidden name": (
        edit(lambda document: rename(document, "." + ORIN.format("vit"))),
        "is not the name of an engine",
    ),
    "another model": (
        edit(lambda document: engine_of(document).update(model="other")),
        "is not what its name says",
    ),
    "another precision": (
        edit(lambda document: engine_of(document).update(precision="fp8")),
        "is not what its name says",
    ),
    "another target's": (
        edit(lambda document: engine_of(document).update(target="orin")),
        "is not what its name says",
    ),
    "a target that is not there": (
        edit(lambda document: engine_of(document).update(target="thor")),
        "is for 'thor', which is no target of it",
    ),
    "other hardware": (
        edit(lambda document: document["targets"]["orin"].update(sm=[86])),
        "is not what its name says",
    ),
    "another JetPack": (
        edit(lambda document: document["targets"]["orin"].update(jetpack=None)),
        "is not what its name says",
    ),
    "another version": (
        edit(lambda document: document["targets"]["orin"].update(version="10.3.0.31")),
        "is not what its name says",
    ),
    "a target without engines": (
        edit(lambda document: document["targets"].update(thor=document["targets"]["orin"])),
        "its target thor has no engine",
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_whatever_is_not_a_release_is_refused(made: Release, what: str) -> None:
    change, words = MALFORMED[what]
    document = change(made)
    assert document != made.document()
    with within(10), pytest.raises(EngineryError, match=words) as raised:
        release.read(document, "a/release.json")
    assert str(raised.value).startswith("a/release.json is malformed: ")
    assert str(raised.value).endswith("; get it again")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_is_said_whatever_else_it_holds(version: int) -> None:
    document = json.dumps({"schema": version, "bundles": []}).encode()
    with pytest.raises(EngineryError, match=f"has schema {version}, this enginery reads 1"):
        release.read(document)


def test_cut_short_anywhere(made: Release) -> None:
    whole = made.document()
    for size in range(0, len(whole), 13):
        with pytest.raises(EngineryError):
            release.read(whole[:size])


def test_a_changed_byte_anywhere_is_another_release_or_none(made: Release) -> None:
    whole = made.document()
    for position in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[position] ^= 1
        try:
            other = release.read(bytes(changed))
        except EngineryError:
            continue
        assert other.digest != made.digest


def test_a_file_and_its_signature(made: Release, tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "keys")
    path = tmp_path / "release.json"
    path.write_bytes(made.document())
    assert release.read_file(path) == (made.document(), None)
    envelope = sign(made.document(), pair.private, payload_type=MEDIA_TYPE)
    envelope_path(path).write_bytes(envelope)
    assert release.read_file(path) == release.read_file(tmp_path) == (made.document(), envelope)
    check_signed(made.document(), envelope, Policy((pair.public,), "all"))


def check_signed(document: bytes, envelope: bytes | None, policy: Policy) -> None:
    trust.check_document(
        policy,
        document=document,
        envelope=envelope,
        payload_type=MEDIA_TYPE,
        name="the release",
        origin="remote",
    )


def test_signatures_that_are_refused(made: Release, tmp_path: Path) -> None:
    pair, stranger = make_pair(tmp_path / "keys"), make_pair(tmp_path / "stranger")
    policy = Policy((pair.public,), "remote")
    document = made.document()
    other = make_release(tmp_path, ("vit",)).document()
    for envelope, words in (
        (None, "the release is not signed"),
        (b"garbage", "the signature of the release is malformed"),
        (sign(document, stranger.private, payload_type=MEDIA_TYPE), "no key that is trusted here"),
        (sign(other, pair.private, payload_type=MEDIA_TYPE), "is about another document"),
        (sign(document, pair.private), "is about 'application/vnd.in-toto"),
    ):
        with pytest.raises(SignatureError, match=words):
            check_signed(document, envelope, policy)
        check_signed(document, envelope, Policy((pair.public,)))


@pytest.mark.parametrize("version", ["v1"])
def test_golden_releases(version: str, tmp_path: Path) -> None:
    """Those of every released version, made with OpenSSL and a shell, are believed for ever."""
    folder = Path(__file__).parent / "golden" / version
    policy = Policy((folder / "team.pub.pem",), "all")
    document, envelope = release.read_file(folder)
    done = install(
        document, envelope, target="rtx", into=tmp_path, source=source_of(folder), policy=policy
    )
    assert installed(tmp_path, policy=policy).digest == done.digest
    assert done.digest == hashlib.sha256(document).hexdigest()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EngineryError, match=r"there is no release .*gone\.json; correct the path"):
        release.read_file(tmp_path / "gone.json")
    with pytest.raises(EngineryError, match=r"there is no release .*release\.json"):
        release.read_file(tmp_path)


@pytest.mark.parametrize("kind", ["FIFO", "dangling symlink"])
def test_no_plain_file(tmp_path: Path, kind: str) -> None:
    assert kind in IRREGULAR
    replace_by(kind, tmp_path / "release.json")
    with within(10), pytest.raises(EngineryError, match=r"cannot be read|there is no release"):
        release.read_file(tmp_path)


def test_a_file_too_large(tmp_path: Path) -> None:
    with (tmp_path / "release.json").open("wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(EngineryError, match="is larger than"):
        release.read_file(tmp_path)


def test_ten_thousand_engines(tmp_path: Path) -> None:
    one = make_release(tmp_path, ("vit",))
    described = [
        (
            one.targets["orin"],
            type(one.of_target("orin")[0])(
                name=ORIN.format(f"vit{number}"),
                model=f"vit{number}",
                precision=one.of_target("orin")[0].precision,
                target="orin",
                fingerprint="1" * 64,
                sha256="2" * 64,
                size=number,
            ),
        )
        for number in range(10_000)
    ]
    document = release.make(described).document()
    assert len(document) < release.LIMIT
    with within(20):
        assert len(release.read(document).engines) == 10_000


def test_targets_are_equal_by_value() -> None:
    one = ReleaseTarget(sm=(87,), jetpack="6.2", cpu=None, runtime="tensorrt", version="10.3.0.30")
    assert one == ReleaseTarget(
        sm=(87,), jetpack="6.2", cpu=None, runtime="tensorrt", version="10.3.0.30"
    )


def test_a_device_loads_nothing_of_the_compiler() -> None:
    script = (
        "import enginery.install, enginery.release, enginery.folder, enginery.release_source\n"
        "import sys; print(sorted({name for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(run.stdout))
    assert "enginery.install" in loaded
    unwanted = {"doit", "argparse", "onnx", "numpy", "polygraphy", "tensorrt", "tensorrt_rtx"}
    unwanted |= {"cryptography", "securesystemslib", "http.client", "ssl"}
    unwanted |= {f"enginery.{name}" for name in ("compiler", "plan", "jobs", "corpus", "runtimes")}
    assert loaded & unwanted == set()
