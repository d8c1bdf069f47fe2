"""The sidecar: what `sha256sum` writes and checks, and nothing that needs interpretation."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from artifacts import DATA, IRREGULAR, NAME, flip_bit, replace_by, sidecar_of, within

from enginery import Sha256Sidecar, Sha256SidecarError

HEX = hashlib.sha256(DATA).hexdigest()
LINE = f"{HEX}  {NAME}\n".encode()


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.write_bytes(DATA)
    return path


def test_write_then_read_then_verify(engine: Path) -> None:
    assert Sha256Sidecar.write(engine) == HEX
    assert sidecar_of(engine).read_bytes() == LINE
    assert Sha256Sidecar.read(engine) == HEX
    assert Sha256Sidecar.verify(engine) is True
    assert set(engine.parent.iterdir()) == {engine, sidecar_of(engine)}


def test_a_digest_that_is_known_is_not_worked_out_again(engine: Path) -> None:
    assert Sha256Sidecar.write(engine, "0" * 64) == "0" * 64
    assert Sha256Sidecar.read(engine) == "0" * 64
    assert Sha256Sidecar.verify(engine) is False


def test_sha256sum_accepts_it(engine: Path) -> None:
    Sha256Sidecar.write(engine)
    check = ["sha256sum", "--check", "--strict", sidecar_of(engine).name]
    assert subprocess.run(check, cwd=engine.parent, check=False).returncode == 0
    flip_bit(engine, 5)
    assert subprocess.run(check, cwd=engine.parent, check=False).returncode == 1


@pytest.mark.parametrize("arguments", [["sha256sum"], ["sha256sum", "--binary"]])
def test_what_sha256sum_writes_is_read(engine: Path, arguments: list[str]) -> None:
    with sidecar_of(engine).open("wb") as stream:
        subprocess.run([*arguments, NAME], cwd=engine.parent, stdout=stream, check=True)
    assert Sha256Sidecar.verify(engine) is True


@pytest.mark.parametrize("text", [HEX, HEX + "\n", LINE.decode().rstrip("\n")])
def test_a_bare_digest_and_a_missing_newline_are_read(engine: Path, text: str) -> None:
    sidecar_of(engine).write_text(text)
    assert Sha256Sidecar.read(engine) == HEX
    assert Sha256Sidecar.verify(engine) is True


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip_bit(path, 0),
        lambda path: path.write_bytes(DATA[:-1]),
        lambda path: path.write_bytes(DATA + b"\0"),
        lambda path: path.write_bytes(b""),
    ],
)
def test_another_digest_is_false(engine: Path, damage: Callable[[Path], object]) -> None:
    Sha256Sidecar.write(engine)
    damage(engine)
    assert Sha256Sidecar.verify(engine) is False


def assert_refused(engine: Path, words: str = "") -> None:
    with within(10), pytest.raises(Sha256SidecarError, match=words):
        Sha256Sidecar.read(engine)
    with within(10), pytest.raises(Sha256SidecarError, match=words):
        Sha256Sidecar.verify(engine)


def test_missing(engine: Path) -> None:
    assert_refused(engine, f"the sidecar of {NAME} is missing")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"garbage\n",
        HEX.upper().encode() + f"  {NAME}\n".encode(),
        LINE[1:],
        b"0" + LINE,
        HEX[:63].encode(),
        HEX.encode() + b"0",
        bytes(range(256)),
        bytes(64),
        LINE + b"\0",
        HEX.encode() + b"\0",
        b"\0" + LINE,
        LINE.replace(b"\n", b"\r\n"),
        HEX.encode() + b"\r\n",
        LINE + LINE,
        LINE + b"\n",
        HEX.encode() + b"\n" + HEX.encode() + b"\n",
        b"# sha256\n" + LINE,
        b" " + LINE,
        b"\xef\xbb\xbf" + LINE,
        f"{HEX} {NAME}\n".encode(),
        f"{HEX}\t{NAME}\n".encode(),
        f"{HEX}  \n".encode(),
        f"SHA256 ({NAME}) = {HEX}\n".encode(),
        LINE.decode().encode("utf-16"),
    ],
    ids=lambda content: repr(content[:12]) + f"_{len(content)}",
)
def test_malformed(engine: Path, content: bytes) -> None:
    sidecar_of(engine).write_bytes(content)
    assert_refused(engine, r"\.sha256 is (malformed|for another file)|cannot be used")


@pytest.mark.parametrize("content", [LINE + b"x" * (1 << 20), b"0" * (1 << 20), LINE.ljust(1025)])
def test_too_large(engine: Path, content: bytes) -> None:
    sidecar_of(engine).write_bytes(content)
    assert_refused(engine, "larger than 1024 bytes")


@pytest.mark.parametrize(
    "name", ["other.engine", NAME + " ", NAME.upper(), "./" + NAME, "x\\n", "\udcff"]
)
def test_for_another_file(engine: Path, name: str) -> None:
    sidecar_of(engine).write_bytes(f"{HEX}  {name}\n".encode("utf-8", "surrogateescape"))
    assert_refused(engine, "is for another file")


@pytest.mark.parametrize("kind", IRREGULAR)
def test_no_regular_file(engine: Path, kind: str) -> None:
    Sha256Sidecar.write(engine)
    replace_by(kind, sidecar_of(engine))
    assert_refused(engine, "regular file")


def test_missing_engine(engine: Path) -> None:
    Sha256Sidecar.write(engine)
    engine.unlink()
    with pytest.raises(Sha256SidecarError, match="has a sidecar but cannot be read"):
        Sha256Sidecar.verify(engine)
    sidecar_of(engine).unlink()
    with pytest.raises(FileNotFoundError):
        Sha256Sidecar.write(engine)
    assert list(engine.parent.iterdir()) == []


@pytest.mark.parametrize("kind", IRREGULAR)
def test_an_engine_that_is_no_regular_file(engine: Path, kind: str) -> None:
    Sha256Sidecar.write(engine)
    replace_by(kind, engine)
    with within(10), pytest.raises(Sha256SidecarError, match="cannot be read"):
        Sha256Sidecar.verify(engine)
