"""TensorRT's calibration cache: what is read, what is refused, and bits that stay."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginery import CalibrationCacheError
from enginery.calibration.cache import ALGORITHMS, CalibrationCache, read_cache, write_cache

HEADER = "TRT-100300-EntropyCalibration2"
GOOD = f"{HEADER}\ninput: 3caa5293\nfeatures: 3d1fa3c4\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calibration.cache"


def test_what_tensorrt_writes_is_read(path: Path) -> None:
    path.write_text(GOOD)
    cache = read_cache(path)
    assert (cache.algorithm, cache.version, cache.header) == ("EntropyCalibration2", 100300, HEADER)
    assert list(cache.scales) == ["input", "features"]
    assert cache.scales["input"] == struct.unpack(">f", bytes.fromhex("3caa5293"))[0]
    assert write_cache(cache) == GOOD.encode()


@pytest.mark.parametrize("version", [7103, 8001, 8601, 100300, 101600])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_headers_of_every_tensorrt(path: Path, version: int, algorithm: str) -> None:
    path.write_text(f"TRT-{version}-{algorithm}\nx: 3f800000\n")
    assert (read_cache(path).version, read_cache(path).algorithm) == (version, algorithm)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        GOOD.rstrip("\n"),
        GOOD + "\n\n",
        GOOD.replace("\n", "\r\n") + "\r\n",
        GOOD.replace("3caa5293", "3CAA5293"),
    ],
)
def test_ends_of_lines_and_case_do_not_matter(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
    assert write_cache(read_cache(path)) == GOOD.encode()


@pytest.mark.parametrize("name", ["a: b", "(Unnamed Layer* 12) [Constant]_output", "größe", "x:y"])
def test_names_with_colons_blanks_and_other_letters(path: Path, name: str) -> None:
    path.write_text(f"{HEADER}\n{name}: 3f800000\n", encoding="utf-8")
    assert dict(read_cache(path).scales) == {name: 1.0}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("EntropyCalibration2\nx: 3f800000\n", 1, "header"),
        ("TRT-100300-NoSuchCalibration\nx: 3f800000\n", 1, "header"),
        ("TRT--MinMaxCalibration\nx: 3f800000\n", 1, "header"),
        (f" {GOOD}", 1, "header"),
        (f"{HEADER}\n", 1, "no tensor"),
        (f"{HEADER}\nx 3f800000\n", 2, "8 hex digits"),
        (f"{HEADER}\n: 3f800000\n", 2, "8 hex digits"),
        (f"{HEADER}\nx: 3f80000\n", 2, "'3f80000' is not 8 hex digits"),
        (f"{HEADER}\nx: 3f8000000\n", 2, "not 8 hex digits"),
        (f"{HEADER}\nx: 0x3f8000\n", 2, "not 8 hex digits"),
        (f"{HEADER}\nx: \n", 2, "not 8 hex digits"),
        (f"{HEADER}\nx: 3f800000\nx: 3f800000\n", 3, "'x' has a scale already"),
        (f"{HEADER}\nx: 3f800000\n\ny: 3f800000\n", 3, "8 hex digits"),
        (f"{HEADER}\nx: 7fc00000\n", 2, "not a finite"),
        (f"{HEADER}\nx: 7f800000\n", 2, "not a finite"),
        (f"{HEADER}\nx: 00000000\n", 2, "not above zero"),
        (f"{HEADER}\nx: 80000000\n", 2, "not above zero"),
        (f"{HEADER}\nx: bf800000\n", 2, "not above zero"),
    ],
)
def test_a_fault_names_file_and_line(path: Path, text: str, line: int, words: str) -> None:
    path.write_text(text)
    with pytest.raises(CalibrationCacheError) as error:
        read_cache(path)
    message = str(error.value)
    assert message.startswith(f"{path}: line {line}: ")
    assert words in message
    assert ";" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (f"{HEADER}\nx".encode() + b"\xff: 3f800000\n", "line 2: it is no text"),
        (b"x" * ((16 << 20) + 1), "larger than"),
    ],
)
def test_what_is_no_text_is_refused(path: Path, data: bytes, words: str) -> None:
    path.write_bytes(data)
    with pytest.raises(CalibrationCacheError, match=words):
        read_cache(path)


def test_what_is_no_file_is_refused(path: Path) -> None:
    with pytest.raises(CalibrationCacheError, match="is not there"):
        read_cache(path)
    os.mkfifo(path)
    with pytest.raises(CalibrationCacheError, match="FIFO"):
        read_cache(path)
    with pytest.raises(CalibrationCacheError, match="a directory"):
        read_cache(path.parent)
    with pytest.raises(CalibrationCacheError, match="cannot be read"):
        read_cache(path / "below")


@pytest.mark.parametrize(
    ("name", "scale"),
    [("x", 0.0), ("x", -1.0), ("x", float("nan")), ("x", float("inf")), ("x", 1e39), ("x", 1e-46)]
    + [(name, 1.0) for name in ("", " x", "x ", "x\ny", "x\r")],
)
def test_what_would_not_read_back_is_not_written(name: str, scale: float) -> None:
    with pytest.raises(CalibrationCacheError):
        write_cache(CalibrationCache("MinMaxCalibration", 100300, {name: scale}))


SCALES = st.floats(width=32, min_value=2.0**-149, allow_infinity=False, allow_nan=False)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1).filter(
    lambda name: name.strip() == name and "\n" not in name and "\r" not in name
)


@given(
    st.sampled_from(ALGORITHMS),
    st.integers(0, 999_999_999),
    st.dictionaries(NAMES, SCALES, min_size=1),
)
def test_every_bit_survives(
    tmp_path_factory: pytest.TempPathFactory, algorithm: str, version: int, scales: dict[str, float]
) -> None:
    path = tmp_path_factory.mktemp("cache") / "c"
    path.write_bytes(write_cache(CalibrationCache(algorithm, version, scales)))
    cache = read_cache(path)
    assert list(cache.scales) == list(scales)
    for name, scale in scales.items():
        assert np.float32(cache.scales[name]).tobytes() == np.float32(scale).tobytes()
