"""Signing: DSSE envelopes by keys as openssl makes them, and clear words for all other keys."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from artifacts import IRREGULAR, replace_by, within
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from keys import KINDS, UNSUITABLE, Pair, make_pair

from enginery import EngineryError
from enginery.digest import sha256_bytes
from enginery.signing import PASSWORD_VARIABLE, SigningKey, envelope_path, sign

DOCUMENT = b'{"_type": "https://in-toto.io/Statement/v1"}\n'

# openssl genpkey -algorithm ed25519
OPENSSL_ED25519 = """\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIKP2keOFvDe41zlsjkh6D7wUeqaYZsXvEfmHgs+3SZdI
-----END PRIVATE KEY-----
"""

# openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256
OPENSSL_P256 = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg37tklHzkHBfMnlHT
NfC29/sCla28SNaanbQLxYwk0FihRANCAATozwQsJ+hwhQ2Mp5B5TZTAdGHAu5uO
ptbW6OiRUy5PjoH1pZQ98/yZ+VkEoe80ABUP7At/4fr8AD6IDbY+u+fg
-----END PRIVATE KEY-----
"""

# openssl genpkey -algorithm ed25519 -aes256 -pass pass:secret
OPENSSL_ENCRYPTED = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg1ofvnt6hVuwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEGZlxsdYpvGcaogQwfNqI/EEQGIH
Wpdve9G+mA0+k90IQ98dSDZWdNoSiDgrkn+zDyIhDFCgylK/FoVqJ8XmeNIr1c3K
ZA36GPRAV7+FpQW+78M=
-----END ENCRYPTED PRIVATE KEY-----
"""


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)


@pytest.mark.parametrize("kind", KINDS)
def test_the_envelope_is_dsse(tmp_path: Path, kind: str) -> None:
    """Taken apart with nothing but the standard: PAE of type and payload, and the bare key."""
    pair = make_pair(tmp_path, kind)
    envelope = json.loads(sign(DOCUMENT, pair.private))
    assert set(envelope) == {"payload", "payloadType", "signatures"}
    assert base64.b64decode(envelope["payload"]) == DOCUMENT
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    (signature,) = envelope["signatures"]
    assert signature["keyid"] == sha256_bytes(pair.der)
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(DOCUMENT), DOCUMENT)
    how = () if kind == "ed25519" else (ECDSA(SHA256()),)
    pair.key.public_key().verify(base64.b64decode(signature["sig"]), message, *how)


def test_the_library_itself_believes_it(tmp_path: Path) -> None:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    pair = make_pair(tmp_path, "p256")
    key = SigningKey.read(pair.private)
    envelope = Envelope.from_dict(json.loads(key.sign(DOCUMENT)))
    public = SSlibKey.from_crypto(pair.key.public_key(), key.key_id)
    assert envelope.verify([public], 1) == {key.key_id: public}


def test_one_key_signs_many(tmp_path: Path) -> None:
    key = SigningKey.read(make_pair(tmp_path).private)
    assert key.sign(b"one") != key.sign(b"two")
    assert key.sign(b"one") == key.sign(b"one")
    assert json.loads(key.sign(b"one", "text/plain"))["payloadType"] == "text/plain"


def test_the_envelope_lies_beside_what_it_is_about() -> None:
    assert envelope_path(Path("a/vit.engine")) == Path("a/vit.engine.dsse.json")


@pytest.mark.parametrize("pem", [OPENSSL_ED25519, OPENSSL_P256], ids=KINDS)
def test_keys_that_openssl_made(tmp_path: Path, pem: str) -> None:
    path = tmp_path / "key.pem"
    path.write_text(pem)
    assert len(SigningKey.read(path).key_id) == 64


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    path = tmp_path / "encrypted.pem"
    path.write_text(OPENSSL_ENCRYPTED)
    return path


def test_a_password_is_asked_for(encrypted: Path) -> None:
    asked = []

    def ask() -> str:
        asked.append(1)
        return "secret"

    key = SigningKey.read(encrypted, password=ask)
    assert key.sign(b"one")
    assert key.sign(b"two")
    assert asked == [1]


def test_a_password_from_the_environment(encrypted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    assert sign(DOCUMENT, encrypted)


def test_nobody_is_asked_where_nothing_is_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> str:
        raise AssertionError("asked for nothing")

    pair = make_pair(tmp_path)
    assert sign(DOCUMENT, pair.private, password=ask)
    monkeypatch.setenv(PASSWORD_VARIABLE, "of another key")
    assert sign(DOCUMENT, pair.private)


def assert_refused(path: Path, words: str, **settings: object) -> None:
    with within(10), pytest.raises(EngineryError, match=words) as raised:
        SigningKey.read(path, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_missing_password_is_said(encrypted: Path) -> None:
    assert_refused(encrypted, f"is encrypted; set its password in {PASSWORD_VARIABLE}")
    assert_refused(encrypted, "is encrypted", password=lambda: "")


@pytest.mark.parametrize("password", ["Secret", "secret ", "sécret", "x" * 5000, "\udcff"])
def test_a_wrong_password_is_said_and_not_told(encrypted: Path, password: str) -> None:
    with pytest.raises(EngineryError, match="the password is wrong") as raised:
        SigningKey.read(encrypted, password=lambda: password)
    assert password not in str(raised.value)


@pytest.mark.parametrize("kind", UNSUITABLE)
def test_another_kind_of_key_is_named(tmp_path: Path, kind: str) -> None:
    named = {"rsa": "RSA", "p384": "secp384r1", "ed448": "Ed448", "x25519": "X25519"}[kind]
    assert_refused(make_pair(tmp_path, kind).private, f"of the kind .*{named}.*; use Ed25519")


def test_a_public_key_does_not_sign(tmp_path: Path) -> None:
    assert_refused(make_pair(tmp_path).public, "is no private key; sign with the private half")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\0" * 100,
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\n" + b"!" * 64 + b"\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        OPENSSL_ED25519.encode()[:60],
    ],
    ids=lambda content: repr(content[:30]),
)
def test_garbage_for_a_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    assert_refused(path, "holds no private key that can be read; make one in PEM: openssl genpkey")


def test_a_missing_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    assert_refused(path, f"is not there; .*openssl genpkey -algorithm ed25519 -out {path}")


@pytest.mark.parametrize("kind", ["directory", "FIFO", "dangling symlink"])
def test_a_key_that_is_no_file(tmp_path: Path, kind: str) -> None:
    assert kind in IRREGULAR
    replace_by(kind, tmp_path / "key.pem")
    assert_refused(tmp_path / "key.pem", "cannot be read|is not there")


def test_a_key_too_large(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"-" * (1 << 20))
    assert_refused(path, "cannot be read: key.pem is larger than")


def test_a_mounted_secret_is_a_symlink(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    replace_by("symlink", pair.private)
    assert sign(DOCUMENT, pair.private)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1)])
def test_a_key_that_others_may_read_is_used_with_a_warning(
    tmp_path: Path, mode: int, warned: int
) -> None:
    pair = make_pair(tmp_path)
    pair.private.chmod(mode)
    warnings: list[str] = []
    assert SigningKey.read(pair.private, warn=warnings.append)
    assert len(warnings) == warned
    assert all(f"chmod 600 {pair.private}" in warning for warning in warnings)


@pytest.mark.parametrize("missing", ["cryptography", "securesystemslib"])
def test_a_missing_package_is_said(tmp_path: Path, missing: str) -> None:
    pair: Pair = make_pair(tmp_path)
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from pathlib import Path\n"
        "from enginery.signing import sign\n"
        "from enginery.errors import EngineryError\n"
        "try: sign(b'', Path(sys.argv[1]))\n"
        "except EngineryError as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, pair.private],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    assert missing in run.stdout
    assert "pip install 'enginery[sign]'" in run.stdout
