"""Input files as they come in pieces."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from submitter import small_order

from enginery.digest import sha256_bytes
from enginery.errors import FarmError
from enginery.farm.blobs import InputBlobs, laid_out

DATA = os.urandom(10_000)
DIGEST = sha256_bytes(DATA)


@pytest.fixture
def blobs(tmp_path: Path) -> InputBlobs:
    return InputBlobs(tmp_path / "inputs", keep_bytes=1 << 30)


def send(blobs: InputBlobs, data: bytes = DATA, *, sender: str = "a", piece: int = 999) -> str:
    digest = sha256_bytes(data)
    for offset in range(0, len(data), piece):
        blobs.expect(sender, digest, len(data), offset, data[offset : offset + piece])()
    return digest


def test_a_file(blobs: InputBlobs) -> None:
    with blobs.wanted({DIGEST: len(DATA)}):
        assert blobs.missing([DIGEST, DIGEST]) == [DIGEST]
        send(blobs)
        assert blobs.missing([DIGEST]) == []
        # Once more, from one who did not know.
        send(blobs, sender="b")
    assert blobs.path(DIGEST).read_bytes() == DATA
    assert [path.name for path in blobs.folder.iterdir()] == [DIGEST]
    assert not blobs.path(DIGEST).stat().st_mode & 0o222


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.integers(-1, 4)), max_size=12
    )
)
def test_whatever_comes_in_whatever_order(
    tmp_path: Path, pieces: list[tuple[str, int, int]]
) -> None:
    """A file is there only if it is what it should be, and never half."""
    blobs = InputBlobs(tmp_path / os.urandom(4).hex(), keep_bytes=1 << 30)
    data = DATA[:40]
    digest = sha256_bytes(data)
    with blobs.wanted({digest: len(data)}):
        for sender, at, length in pieces:
            try:
                blobs.expect(
                    sender, digest, len(data), at * 10, data[at * 10 : (at + length) * 10]
                )()
            except FarmError:
                continue
    files = list(blobs.folder.iterdir())
    assert all(file.name == digest and file.read_bytes() == data for file in files)


def test_two_at_a_time(blobs: InputBlobs) -> None:
    with blobs.wanted({DIGEST: len(DATA)}):
        threads = [
            threading.Thread(target=send, args=(blobs,), kwargs={"sender": name, "piece": 7})
            for name in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert blobs.path(DIGEST).read_bytes() == DATA
    assert len(list(blobs.folder.iterdir())) == 1


def test_one_sends_wrong_bytes_and_another_right_ones(blobs: InputBlobs) -> None:
    with blobs.wanted({DIGEST: len(DATA)}):
        blobs.expect("bad", DIGEST, len(DATA), 0, bytes(5000))()
        blobs.expect("good", DIGEST, len(DATA), 0, DATA[:5000])()
        with pytest.raises(FarmError, match="its bytes are"):
            blobs.expect("bad", DIGEST, len(DATA), 5000, bytes(5000))()
        blobs.expect("good", DIGEST, len(DATA), 5000, DATA[5000:])()
    assert blobs.path(DIGEST).read_bytes() == DATA


def test_what_is_half_received_goes(blobs: InputBlobs) -> None:
    with blobs.wanted({DIGEST: len(DATA)}):
        blobs.expect("a", DIGEST, len(DATA), 0, DATA[:10])()
        assert list(blobs.folder.iterdir())
    assert not list(blobs.folder.iterdir())
    (blobs.folder / f"{DIGEST}.1234.part").touch()
    InputBlobs(blobs.folder, keep_bytes=0)
    assert not list(blobs.folder.iterdir())


def test_nothing_is_taken_that_no_build_waits_for(blobs: InputBlobs) -> None:
    for wanted in ({}, {DIGEST: 1}):
        with blobs.wanted(wanted), pytest.raises(FarmError, match="no build waits"):
            send(blobs)
    with pytest.raises(FarmError, match="no build waits"):
        send(blobs)


def test_an_empty_file_is_never_sent(blobs: InputBlobs) -> None:
    empty = sha256_bytes(b"")
    with blobs.wanted({empty: 0}):
        assert blobs.missing([empty]) == []


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    blobs = InputBlobs(tmp_path, keep_bytes=250)
    files = [os.urandom(100) for _ in range(4)]
    held = [sha256_bytes(data) for data in files]
    with blobs.wanted(dict.fromkeys(held, 100)):
        for data in files:
            send(blobs, data)
        for age, digest in enumerate(held):
            os.utime(blobs.path(digest), (1000 + age, 1000 + age))
        # What a build needs stays, however much it is.
        blobs.prune()
        assert blobs.missing(held) == []
    assert blobs.missing(held) == held[:2]


def test_what_was_damaged_is_dropped(blobs: InputBlobs) -> None:
    with blobs.wanted({DIGEST: len(DATA)}):
        send(blobs)
    assert blobs.drop_damaged([DIGEST, "0" * 64]) == []
    blobs.path(DIGEST).chmod(0o644)
    blobs.path(DIGEST).write_bytes(DATA[::-1])
    assert blobs.drop_damaged([DIGEST]) == [DIGEST]
    assert blobs.missing([DIGEST]) == [DIGEST]


def test_a_disk_without_room(blobs: InputBlobs) -> None:
    with pytest.raises(FarmError, match="GB free; make room in"), blobs.wanted({DIGEST: 1 << 60}):
        pytest.fail("there was room")


def test_laid_out_under_their_names(blobs: InputBlobs, tmp_path: Path) -> None:
    order = small_order(tmp_path / "models", weights="weights.bin")
    sizes = {one.sha256: one.size for one in order.request.inputs}
    folder = tmp_path / "build"
    with blobs.wanted(sizes):
        with pytest.raises(FarmError, match="cannot be laid out"):
            laid_out(order.request, blobs, folder)
        for file in order.files.values():
            send(blobs, file.read_bytes())
        laid_out(order.request, blobs, folder)
    for file in order.files.values():
        assert (folder / file.name).read_bytes() == file.read_bytes()
    model = next(one for one in order.request.inputs if one.role == "onnx")
    assert (folder / model.name).samefile(blobs.path(model.sha256))
    # onnx refuses hard links among external data.
    assert (folder / "weights.bin").stat().st_nlink == 1
