"""Trust: a signature is about one engine under one name, by one of the keys, or it is refused."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from artifacts import (
    DATA,
    IRREGULAR,
    NAME,
    OTHER_NAME,
    make_document,
    make_recipe,
    provenance_of,
    publish_artifact,
    replace_by,
    sidecar_of,
    snapshot,
    within,
)
from keys import KINDS, UNSUITABLE, Pair, make_pair

from enginery import (
    EngineIntegrityError,
    EngineryError,
    ProvenanceError,
    Sha256Sidecar,
    read_verified,
    trust,
)
from enginery.digest import sha256_bytes
from enginery.envelope import read_key
from enginery.errors import SignatureError
from enginery.signing import envelope_path, sign
from enginery.trust import Origin, Policy

SHA256 = sha256_bytes(DATA)


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    return make_pair(tmp_path / "keys", request.param)


@pytest.fixture
def policy(pair: Pair) -> Policy:
    return Policy(keys=(pair.public,), require="all")


@pytest.fixture
def engine(tmp_path: Path, pair: Pair) -> Path:
    """An engine, published and signed."""
    folder = tmp_path / "engines"
    folder.mkdir()
    return sign_engine(publish_artifact(folder), pair)


def sign_engine(engine: Path, pair: Pair) -> Path:
    document = provenance_of(engine).read_bytes()
    envelope_path(engine).write_bytes(sign(document, pair.private))
    return engine


def edit_envelope(engine: Path, change: Callable[[Any], object]) -> None:
    envelope = json.loads(envelope_path(engine).read_bytes())
    change(envelope)
    envelope_path(engine).write_text(json.dumps(envelope))


def assert_believed(engine: Path, policy: Policy) -> None:
    assert read_verified(engine, policy) == engine.read_bytes()
    assert trust.verified(engine, policy).sha256_hex == sha256_bytes(engine.read_bytes())


def assert_refused(
    engine: Path, policy: Policy, words: str, kind: type[EngineryError] = SignatureError
) -> None:
    """Both ways of reading refuse it, in one line, and change nothing."""
    before = snapshot(engine.parent)
    for read in (read_verified, trust.verified):
        with within(30), pytest.raises(kind, match=words) as raised:
            read(engine, policy)
        assert "\n" not in str(raised.value)
        assert type(raised.value) is kind
    assert snapshot(engine.parent) == before


def test_a_signed_engine_is_believed(engine: Path, policy: Policy) -> None:
    assert_believed(engine, policy)


def test_it_may_be_moved(engine: Path, policy: Policy, tmp_path: Path) -> None:
    folder = engine.parent.rename(tmp_path / "elsewhere")
    assert_believed(folder / engine.name, policy)


# What is refused: wrong key, altered payload, swapped statement, renamed engine, other hardware,
# stripped signature, old statement under a new name, garbage.


def test_wrong_key(engine: Path, pair: Pair, tmp_path: Path) -> None:
    for kind in KINDS:
        stranger = make_pair(tmp_path / "stranger", kind, name=f"stranger-{kind}")
        others = Policy(keys=(stranger.public,), require="all")
        assert_refused(engine, others, f"no key that is trusted here .stranger-{kind}.pub.pem")
        sign_engine(engine, stranger)
        assert_refused(engine, Policy((pair.public,), "all"), "no key that is trusted here")
        sign_engine(engine, pair)


def test_a_wrong_key_that_says_it_is_the_right_one(
    engine: Path, pair: Pair, policy: Policy, tmp_path: Path
) -> None:
    sign_engine(engine, make_pair(tmp_path / "stranger"))
    edit_envelope(
        engine, lambda envelope: envelope["signatures"][0].update(keyid=sha256_bytes(pair.der))
    )
    assert_refused(engine, policy, "no key that is trusted here")


def test_altered_payload(engine: Path, policy: Policy) -> None:
    """The provenance is altered, and the envelope with it; the signature stays."""
    document = provenance_of(engine).read_bytes().replace(b"0.1.0", b"6.6.6")
    provenance_of(engine).write_bytes(document)
    edit_envelope(
        engine, lambda envelope: envelope.update(payload=base64.b64encode(document).decode())
    )
    assert_refused(engine, policy, "or was altered")


def test_altered_provenance(engine: Path, policy: Policy) -> None:
    """Altered beside the envelope, even if only in its white space."""
    with provenance_of(engine).open("ab") as stream:
        stream.write(b"\n")
    assert_refused(engine, policy, "is about another document than the one beside it")


def test_altered_engine(engine: Path, policy: Policy) -> None:
    """Sidecar and provenance are made to fit; only the signature cannot be."""
    other = b"other plan"
    engine.write_bytes(other)
    Sha256Sidecar.write(engine)
    provenance_of(engine).write_bytes(make_document(engine, other, make_recipe()))
    assert_refused(engine, policy, "is about another document")


def test_altered_engine_with_the_statement_that_was_signed(engine: Path, policy: Policy) -> None:
    engine.write_bytes(b"other plan")
    Sha256Sidecar.write(engine)
    assert_refused(engine, policy, "its bytes are", ProvenanceError)


def test_swapped_statement(engine: Path, pair: Pair, policy: Policy) -> None:
    """Another engine's statement and signature, both in good order."""
    other = sign_engine(publish_artifact(engine.parent, name=OTHER_NAME, data=b"other"), pair)
    envelope_path(other).replace(envelope_path(engine))
    assert_refused(engine, policy, "is about another document")
    provenance_of(other).replace(provenance_of(engine))
    assert_refused(engine, policy, "is for another file", ProvenanceError)


def move(path: Path, name: str) -> Path:
    """Rename an engine with all that lies beside it, and make its sidecar fit."""
    new = path.with_name(name)
    for place in (lambda path: path, provenance_of, envelope_path):
        place(path).replace(place(new))
    sidecar_of(path).unlink()
    Sha256Sidecar.write(new)
    return new


RENAMED = {
    "model": NAME.replace("light", "heavy"),
    "hardware": NAME.replace("sm86-89", "sm120"),
    "jetpack": NAME.replace("nojp", "jp6.2"),
    "version": NAME.replace("1.7.1.116", "1.8.0.1"),
    "precision": NAME.replace("fp16", "int8"),
    "case": NAME.upper(),
}


@pytest.mark.parametrize("what", RENAMED)
def test_renamed_engine(engine: Path, policy: Policy, what: str) -> None:
    """Under another model's, hardware's or version's name; one that loads it would run it."""
    renamed = move(engine, RENAMED[what])
    assert_refused(renamed, policy, "is for another file", ProvenanceError)


def test_other_hardware(engine: Path, policy: Policy) -> None:
    """Renamed, and the statement rewritten for the new name: it is not what was signed."""
    renamed = move(engine, OTHER_NAME)
    document = make_document(renamed, DATA, make_recipe(target={"sm": [120], "jetpack": None}))
    provenance_of(renamed).write_bytes(document)
    assert_refused(renamed, policy, "is about another document")
    edit_envelope(
        renamed, lambda envelope: envelope.update(payload=base64.b64encode(document).decode())
    )
    assert_refused(renamed, policy, "no key that is trusted here .*, or was altered")


def test_stripped_signature(engine: Path, policy: Policy) -> None:
    envelope_path(engine).unlink()
    assert_refused(engine, policy, "is not signed; sign it")


def test_stripped_provenance(engine: Path, policy: Policy) -> None:
    provenance_of(engine).unlink()
    assert_refused(engine, policy, "the provenance .* is missing", ProvenanceError)


def test_stripped_of_all_but_the_sidecar(engine: Path, policy: Policy) -> None:
    provenance_of(engine).unlink()
    envelope_path(engine).unlink()
    assert_refused(engine, policy, "is missing", ProvenanceError)


def test_old_statement_under_a_new_name(engine: Path, pair: Pair, policy: Policy) -> None:
    """The signed statement of an old engine beside a new one, and beside the old one's bytes."""
    new = publish_artifact(engine.parent, name=OTHER_NAME, data=b"new")
    envelope_path(engine).replace(envelope_path(new))
    provenance_of(engine).replace(provenance_of(new))
    assert_refused(new, policy, "is for another file", ProvenanceError)
    new.write_bytes(DATA)
    Sha256Sidecar.write(new)
    assert_refused(new, policy, "is for another file", ProvenanceError)


def check(policy: Policy, engine: Path, **changes: Any) -> None:
    """`trust.check` as a store calls it, with what lies beside an engine."""
    settings = {
        "document": provenance_of(engine).read_bytes(),
        "envelope": envelope_path(engine).read_bytes(),
        "engine_sha256": SHA256,
        "engine_name": engine.name,
        "origin": "remote",
    }
    trust.check(policy, **{**settings, **changes})


def test_a_store_is_told_the_same(engine: Path, policy: Policy) -> None:
    """What a store calls looks at name and digest itself: no file lies there yet."""
    check(policy, engine)
    for change, words in (
        ({"engine_name": OTHER_NAME}, "is for another file"),
        ({"engine_sha256": "0" * 64}, "is about .*, its bytes are 000000000000"),
        ({"envelope": None}, "is not signed"),
        ({"document": make_document(engine, b"", make_recipe())}, "is about another document"),
        ({"envelope": b"garbage"}, "is malformed"),
    ):
        with pytest.raises(SignatureError, match=words):
            check(policy, engine, **change)


def test_a_signed_document_that_is_no_provenance(engine: Path, pair: Pair, policy: Policy) -> None:
    for document in (b"", b"garbage", b"{}", b"[" * 100_000, b"\xff"):
        with pytest.raises(SignatureError, match="is no provenance"):
            check(policy, engine, document=document, envelope=sign(document, pair.private))


def test_a_signature_for_another_purpose(engine: Path, pair: Pair, policy: Policy) -> None:
    """The same key signs releases too: what it signed as one thing is not believed as another."""
    document = provenance_of(engine).read_bytes()
    envelope = sign(document, pair.private, payload_type="application/vnd.enginery.release+json")
    envelope_path(engine).write_bytes(envelope)
    assert_refused(engine, policy, "is about 'application/vnd.enginery.release")
    edit_envelope(engine, lambda parsed: parsed.update(payloadType="application/vnd.in-toto+json"))
    assert_refused(engine, policy, "or was altered")


GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "text": b"garbage",
    "zeros": b"\0" * 100,
    "null": b"null",
    "array": b"[]",
    "object": b"{}",
    "no signatures": b'{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[]}',
    "many signatures": b'{"payload":"","payloadType":"","signatures":['
    + b",".join([b'{"sig":""}'] * 1000)
    + b"]}",
    "no base64": b'{"payload":"!","payloadType":"","signatures":[{"sig":""}]}',
    "no base64 in a signature": b'{"payload":"","payloadType":"","signatures":[{"sig":"!"}]}',
    "not ASCII": '{"payload":"é","payloadType":"","signatures":[{"sig":""}]}'.encode(),
    "numbers": b'{"payload":1,"payloadType":2,"signatures":3}',
    "depth": b"[" * 100_000,
    "no UTF-8": b"\xff\xfe{}",
    "surrogate": b'{"payload":"\\ud800","payloadType":"","signatures":[{"sig":""}]}',
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage(engine: Path, policy: Policy, kind: str) -> None:
    envelope_path(engine).write_bytes(GARBAGE[kind])
    assert_refused(engine, policy, "the signature of .* is malformed")


def test_cut_short_anywhere(engine: Path, policy: Policy) -> None:
    whole = envelope_path(engine).read_bytes().rstrip()
    for size in range(0, len(whole), 19):
        with pytest.raises(SignatureError):
            check(policy, engine, envelope=whole[:size])


def test_a_changed_byte_anywhere(engine: Path, policy: Policy) -> None:
    """It is refused, or it is in a part that says nothing: the hint which key it was, or the bits
    of base64's last character that belong to no byte."""
    whole = envelope_path(engine).read_bytes()
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 1
        try:
            check(policy, engine, envelope=bytes(changed))
        except SignatureError:
            continue
        before, after = json.loads(whole), json.loads(changed)
        assert base64.b64decode(before["payload"]) == base64.b64decode(after["payload"])
        assert before["payloadType"] == after["payloadType"]
        assert base64.b64decode(before["signatures"][0]["sig"]) == base64.b64decode(
            after["signatures"][0]["sig"]
        )


@pytest.mark.parametrize("signature", [b"", b"x", b"x" * 64, b"\0" * 64, b"x" * 10_000])
def test_a_signature_of_any_length(engine: Path, policy: Policy, signature: bytes) -> None:
    text = base64.b64encode(signature).decode()
    edit_envelope(engine, lambda envelope: envelope["signatures"][0].update(sig=text))
    assert_refused(engine, policy, "no key that is trusted here")


@pytest.mark.parametrize("kind", [*IRREGULAR, "too large"])
def test_an_envelope_that_is_no_plain_file(engine: Path, policy: Policy, kind: str) -> None:
    if kind == "too large":
        os.truncate(envelope_path(engine), 1 << 30)
    else:
        replace_by(kind, envelope_path(engine))
    assert_refused(engine, policy, "cannot be read: .*(regular file|larger than)")


# What is believed.


def test_one_of_several_keys_is_enough(engine: Path, pair: Pair, tmp_path: Path) -> None:
    """A new key takes over: both are trusted for a while, and then the new one alone."""
    new = make_pair(tmp_path / "new", name="new")
    both = Policy(keys=(pair.public, new.public), require="all")
    assert_believed(engine, both)
    sign_engine(engine, new)
    assert_believed(engine, both)
    assert_believed(engine, Policy(keys=(new.public,), require="all"))
    assert_refused(engine, Policy(keys=(pair.public,), require="all"), "no key that is trusted")


def test_one_of_several_signatures_is_enough(
    engine: Path, policy: Policy, pair: Pair, tmp_path: Path
) -> None:
    stranger = make_pair(tmp_path / "stranger")
    theirs = json.loads(sign(provenance_of(engine).read_bytes(), stranger.private))
    edit_envelope(engine, lambda envelope: envelope["signatures"].insert(0, *theirs["signatures"]))
    assert_believed(engine, policy)


def envelope_without_key_ids(envelope: Any) -> None:
    for signature in envelope["signatures"]:
        del signature["keyid"]


DSSE_ALLOWS: dict[str, Callable[[Any], object]] = {
    "no key id": envelope_without_key_ids,
    "empty key id": lambda envelope: envelope["signatures"][0].update(keyid=""),
    "null key id": lambda envelope: envelope["signatures"][0].update(keyid=None),
    "other fields": lambda envelope: envelope.update(future=[{}]),
    "other fields in a signature": lambda envelope: envelope["signatures"][0].update(cert="x"),
    "base64 for addresses": lambda envelope: envelope.update(
        payload=envelope["payload"].replace("+", "-").replace("/", "_")
    ),
}


@pytest.mark.parametrize("what", DSSE_ALLOWS)
def test_what_dsse_allows_is_read(engine: Path, policy: Policy, what: str) -> None:
    edit_envelope(engine, DSSE_ALLOWS[what])
    assert_believed(engine, policy)


@pytest.mark.parametrize(
    ("require", "demanded"),
    [("none", set()), ("remote", {"remote"}), ("all", {"local", "remote"})],
)
def test_what_must_be_signed(engine: Path, pair: Pair, require: Any, demanded: set[str]) -> None:
    policy = Policy(keys=(pair.public,), require=require)
    for origin in get_args(Origin):
        assert policy.demands(origin) == (origin in demanded)
        check(policy, engine, origin=origin)
        if origin in demanded:
            with pytest.raises(SignatureError, match="is not signed"):
                check(policy, engine, origin=origin, envelope=None)
        else:
            check(policy, engine, origin=origin, envelope=None)


def test_who_reads_cannot_tell_where_a_file_came_from(engine: Path, pair: Pair) -> None:
    remote = Policy(keys=(pair.public,), require="remote")
    assert_believed(engine, remote)
    envelope_path(engine).unlink()
    assert_refused(engine, remote, "is not signed")
    assert_believed(engine, Policy(keys=(pair.public,)))
    assert_believed(engine, Policy())
    assert read_verified(engine, policy=None) == DATA


def test_nothing_demanded_changes_nothing(engine: Path) -> None:
    """Without a policy it is as it always was: a sidecar alone will do, garbage is not looked at."""
    envelope_path(engine).write_bytes(b"garbage")
    provenance_of(engine).unlink()
    assert read_verified(engine) == read_verified(engine, Policy()) == DATA


def test_a_policy_is_checked_when_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'some' is unknown; write none, remote or all"):
        Policy(require="some")  # type: ignore[arg-type]
    for require in ("remote", "all"):
        with pytest.raises(ValueError, match=f"{require!r} needs keys"):
            Policy(require=require)  # type: ignore[arg-type]
    assert Policy() == Policy(keys=(), require="none")


# Keys.


def test_a_key_id_is_what_openssl_says(pair: Pair) -> None:
    """`openssl pkey -pubin -in team.pub.pem -outform DER | sha256sum`."""
    assert read_key(pair.public).key_id == sha256_bytes(pair.der)


def test_a_p256_key_in_its_short_form(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pair = make_pair(tmp_path, "p256")
    point = pair.key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    der = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    pair.public.write_text(pem("PUBLIC KEY", der))
    engine = sign_engine(publish_artifact(tmp_path), pair)
    assert_believed(engine, Policy((pair.public,), "all"))
    assert read_key(pair.public).key_id == sha256_bytes(pair.der)


def pem(label: str, der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"


def test_a_key_file_may_have_words_around_the_key(engine: Path, pair: Pair, policy: Policy) -> None:
    text = pair.public.read_text()
    pair.public.write_bytes(f"team key of 2026\n{text}# \n".replace("\n", "\r\n").encode())
    assert_believed(engine, policy)


def assert_key_refused(path: Path, words: str) -> None:
    with within(10), pytest.raises(EngineryError, match=words) as raised:
        trust.read_keys(Policy(keys=(path,), require="all"))
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    assert not isinstance(raised.value, EngineIntegrityError)  # no engine is at fault


def test_a_private_key_is_not_for_a_device(pair: Pair) -> None:
    assert_key_refused(pair.private, "is a private key, which belongs where engines are signed")


@pytest.mark.parametrize("kind", UNSUITABLE)
def test_another_kind_of_key_is_named(tmp_path: Path, kind: str) -> None:
    assert_key_refused(make_pair(tmp_path, kind).public, "of the kind .*; use Ed25519 or P-256")


def test_a_missing_key(tmp_path: Path, pair: Pair) -> None:
    missing = tmp_path / "gone.pem"
    assert_key_refused(missing, "is not there; correct the path, or make one: openssl pkey")
    with pytest.raises(EngineryError, match="is not there"):
        trust.read_keys(Policy(keys=(pair.public, missing), require="all"))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "garbage",
        pem("CERTIFICATE", b"x" * 100),
        pem("RSA PUBLIC KEY", b"x" * 100),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE team",
        "-----BEGIN PUBLIC KEY-----\nMCow",
    ],
    ids=lambda content: repr(content[:30]),
)
def test_garbage_for_a_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.pem"
    path.write_text(content)
    assert_key_refused(path, "is no file with one public key in PEM; make one: openssl pkey")


@pytest.mark.parametrize(
    "content",
    [
        pem("PUBLIC KEY", b""),
        pem("PUBLIC KEY", b"x"),
        pem("PUBLIC KEY", b"x" * 44),
        pem("PUBLIC KEY", bytes.fromhex("302a300506032b6570032100") + b"x" * 31),
        "-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY-----\n",
    ],
)
def test_a_damaged_key(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.pem"
    path.write_text(content)
    assert_key_refused(path, "is damaged.*; copy it again")


def test_two_keys_in_one_file(pair: Pair) -> None:
    pair.public.write_text(pair.public.read_text() * 2)
    assert_key_refused(pair.public, "is no file with one public key")


def test_a_key_that_cannot_be_used_is_no_fault_of_the_engine(engine: Path, pair: Pair) -> None:
    """Who takes an integrity error for a miss would build everything again."""
    policy = Policy(keys=(pair.public,), require="all")
    pair.public.unlink()
    assert_refused(engine, policy, "is not there", EngineryError)


# The envelope of every released version, made with OpenSSL and a shell, is believed for ever.


@pytest.mark.parametrize("version", ["v1"])
def test_golden_envelopes(version: str) -> None:
    folder = Path(__file__).parent / "golden" / version
    policy = Policy((folder / "team.pub.pem",), "all")
    assert_believed(folder / NAME, policy)


# What a device needs.

READ = """
import sys
for name in sys.argv[1].split():
    sys.modules[name] = None
from pathlib import Path
from enginery import read_verified
from enginery.errors import EngineryError
from enginery.trust import Policy
policy = Policy((Path(sys.argv[3]),), sys.argv[4])
try:
    print(read_verified(sys.argv[2], policy))
except EngineryError as error:
    print(type(error).__name__, error)
print(sorted({"cryptography", "securesystemslib"}.intersection(n for n, m in sys.modules.items() if m)))
"""


def read_without(missing: str, engine: Path, key: Path, require: str = "all") -> str:
    run = subprocess.run(
        [sys.executable, "-c", READ, missing, engine, key, require],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_without_packages_for_signatures(tmp_path: Path, kind: str) -> None:
    pair = make_pair(tmp_path / "keys", kind)
    engine = sign_engine(publish_artifact(tmp_path), pair)
    both = "cryptography securesystemslib"
    assert read_without(both, engine, pair.public, "none").startswith(repr(DATA))
    said = read_without(both, engine, pair.public)
    assert "pip install 'enginery[verify]'" in said
    said = read_without("cryptography", engine, pair.public)
    if kind == "ed25519":
        assert said.startswith(repr(DATA))
    else:
        assert "(cryptography); pip install 'enginery[sign]'" in said


def test_without_cryptography_nothing_wrong_is_believed(tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "keys")
    stranger = make_pair(tmp_path / "stranger")
    engine = sign_engine(publish_artifact(tmp_path), pair)
    assert "SignatureError" in read_without("cryptography", engine, stranger.public)
    edit_envelope(engine, lambda envelope: envelope["signatures"][0].update(sig="AAAA"))
    assert "SignatureError" in read_without("cryptography", engine, pair.public)


def test_nothing_is_loaded_where_nothing_is_demanded(tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "keys")
    engine = publish_artifact(tmp_path)
    assert read_without("", engine, pair.public, "none").endswith("[]\n")
