"""Lines of progress: only of a build that takes long, and not too many."""

from __future__ import annotations

from enginery import BuildProgress
from enginery.doit.progress import SlowBuild


def test_a_short_build_is_silent_and_a_long_one_speaks_now_and_then() -> None:
    now = [100.0]
    said: list[str] = []
    show = SlowBuild("vit:orin-fp16", said.append, lambda: now[0])
    for second in range(26):
        now[0] = 100.0 + second
        show(BuildProgress("Timing tactics", "Building", second, 400, done=False))
        show(BuildProgress("Done already", None, 1, 1, done=True))
    assert said == [
        "vit:orin-fp16: Timing tactics, 10 of 400 steps",
        "vit:orin-fp16: Timing tactics, 20 of 400 steps",
    ]


def test_how_long_it_has_taken_against_earlier_builds() -> None:
    now = [0.0]
    said: list[str] = []
    show = SlowBuild(
        "vit", said.append, lambda: now[0], against=lambda s: f"{s:.0f} s of about 40 s"
    )
    now[0] = 12.0
    show(BuildProgress("Building", None, 1, 3, done=False))
    assert said == ["vit: Building, 1 of 3 steps, 12 s of about 40 s"]


def test_a_phase_without_steps() -> None:
    now = [0.0]
    said: list[str] = []
    show = SlowBuild("vit", said.append, lambda: now[0])
    now[0] = 11.0
    show(BuildProgress("Building", None, 0, 0, done=False))
    assert said == ["vit: Building"]
