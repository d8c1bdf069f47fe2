"""The CPU's level, from recorded /proc/cpuinfo (sources: recorded/README.md) and from here."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from recordings import recorded

from enginery.probing import cpu
from enginery.probing.root import Root


@pytest.mark.parametrize(
    ("machine", "recording", "level"),
    [
        ("x86_64", "ryzen-9-5950x", "x86-64-v3"),
        ("x86_64", "core-ultra-9-285", "x86-64-v3-vnni"),
        ("x86_64", "granite-rapids", "x86-64-v4-amx-vnni"),
        ("aarch64", "jetson-nano", "aarch64"),
        ("aarch64", "clara-agx", "aarch64-fp16"),
        ("aarch64", "orin-nano-jetpack6", "aarch64-dotprod-fp16"),
        ("aarch64", "agx-thor", "aarch64-bf16-dotprod-fp16-i8mm-sve"),
        ("aarch64", "gb10", "aarch64-bf16-dotprod-fp16-i8mm-sve"),
    ],
)
def test_recorded(machine: str, recording: str, level: str) -> None:
    assert cpu.level_of(machine, recorded(recording)) == level


@pytest.mark.parametrize(
    ("without", "level"),
    [
        ("avx512vl", "x86-64-v3-amx-vnni"),
        ("bmi2", "x86-64-v2-amx-vnni"),
        ("sse4_2", "x86-64-amx-vnni"),
        ("amx_tile", "x86-64-v4-vnni"),
        ("avx512_vnni", "x86-64-v4-amx-vnni"),  # avx_vnni is there still
    ],
)
def test_a_level_needs_all_of_its_features(tmp_path: Path, without: str, level: str) -> None:
    text = recorded("granite-rapids").text("/proc/cpuinfo")
    assert text is not None
    assert f" {without} " in text
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(text.replace(f" {without} ", " "))
    assert cpu.level_of("x86_64", Root(tmp_path)) == level


@pytest.mark.parametrize(
    ("machine", "level"),
    [
        ("AMD64", "x86-64"),
        ("arm64", "arm64"),
        ("ppc64le", "ppc64le"),
        ("i_586", "i-586"),
        ("", "unknown"),
    ],
)
def test_without_cpuinfo_it_is_the_architecture(tmp_path: Path, machine: str, level: str) -> None:
    assert cpu.level_of(machine, Root(tmp_path)) == level


def test_here_it_is_found_quickly_and_fit_for_a_name() -> None:
    cpu.level.cache_clear()
    started = time.perf_counter()
    level = cpu.level()
    assert time.perf_counter() - started < 0.1  # 0.2 ms on the machine it was written on
    assert re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", level)
    assert cpu.level() is level
