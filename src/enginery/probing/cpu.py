"""The CPU's architecture and feature level, as the hardware tag of engines that run on it.

x86 levels are those of the psABI; suffixes name what ONNX Runtime's kernels (MLAS) and its
optimizer choose by beyond a level, in the order of the alphabet. Two CPUs with one tag may still
run at different speed; they run the same kernels.
"""

from __future__ import annotations

import platform
import re
from functools import cache

from .root import HERE, Root

# x86-64 psABI, "Micro-architecture levels" (gitlab.com/x86-psABIs/x86-64-ABI, x86-64-ABI/
# low-level-sys-info.tex), by the names of Linux's /proc/cpuinfo (arch/x86/include/asm/
# cpufeatures.h): pni is SSE3, abm is LZCNT, lahf_lm is LAHF-SAHF, xsave stands for OSXSAVE
# because Linux hides AVX where it does not save its registers.
_X86_LEVELS = (
    ("x86-64-v2", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"),
    ("x86-64-v3", "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"),
    ("x86-64-v4", "avx512bw avx512cd avx512dq avx512f avx512vl"),
)

# What onnxruntime/core/mlas/lib/platform.cpp looks at beyond the levels. Either VNNI will do for
# one suffix: below v4 there is only the 256 bit one, and from v4 on only the other is looked at.
_X86_SUFFIXES = (
    ("amx", ("amx_int8 amx_tile",)),
    ("vnni", ("avx512_vnni", "avx_vnni")),
)
# onnxruntime/core/common/cpuid_info.cc; names of arch/arm64/kernel/cpuinfo.c.
_ARM_SUFFIXES = (
    ("bf16", ("bf16",)),
    ("dotprod", ("asimddp",)),
    ("fp16", ("asimdhp",)),
    ("i8mm", ("i8mm",)),
    ("sme", ("sme",)),
    ("sve", ("sve",)),
)


@cache
def level() -> str:
    """This machine's CPU, such as "x86-64-v4-vnni" or "aarch64-dotprod-fp16"; no underscore."""
    return level_of(platform.machine(), HERE)


def level_of(machine: str, root: Root) -> str:
    """The level of a CPU, from the machine's name as the kernel says it and its /proc/cpuinfo.

    Where the features cannot be read the architecture alone is the level.
    """
    name = machine.lower()
    if name in ("x86_64", "amd64"):
        flags = _flags(root, "flags")
        return "-".join(("x86-64", *_x86_level(flags), *_having(_X86_SUFFIXES, flags)))
    if name == "aarch64":
        return "-".join((name, *_having(_ARM_SUFFIXES, _flags(root, "Features"))))
    return re.sub("[^a-z0-9]+", "-", name).strip("-") or "unknown"


def _x86_level(flags: frozenset[str]) -> tuple[str, ...]:
    reached = ""
    for name, needed in _X86_LEVELS:
        if not flags.issuperset(needed.split()):
            break
        reached = name.removeprefix("x86-64-")
    return (reached,) if reached else ()


def _having(
    suffixes: tuple[tuple[str, tuple[str, ...]], ...], flags: frozenset[str]
) -> tuple[str, ...]:
    return tuple(
        name
        for name, choices in suffixes
        if any(flags.issuperset(needed.split()) for needed in choices)
    )


def _flags(root: Root, key: str) -> frozenset[str]:
    # Line by line: the kernel writes kilobytes per CPU, and the first CPU's will do, because it
    # shows only what all CPUs of the machine have.
    try:
        with root.at("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return frozenset(value.split())
    except OSError:
        return frozenset()
    return frozenset()
