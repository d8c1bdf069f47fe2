"""A build's progress: that of real builds with TensorRT-RTX, and what is told of it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import onnx_models
import pytest

from enginery import (
    EngineBuildError,
    HostCapabilities,
    OptimizationProfile,
    PrecisionMode,
    load_runtime,
    read_verified,
    worker,
)
from enginery.build import BuildConfig, BuildProgress
from enginery.runtimes.progress import Phases, Relay


def config(folder: Path, name: str, shape: tuple[int, ...], input_name: str) -> BuildConfig:
    return BuildConfig(
        precision=PrecisionMode.FP32,
        workspace_mb=64,
        calibration_dataset=None,
        optimization_profiles=(OptimizationProfile(input_name, shape, shape, shape),),
        engine_path=folder / f"{name}.engine",
        host=HostCapabilities(89, None, load_runtime("tensorrt_rtx").installed_version()),
    )


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, BuildConfig]:
    model = tmp_path / "small.onnx"
    onnx_models.write_small(model, seed=1)
    return model, config(tmp_path, "small", (1, 3, 16, 16), "input")


def build(model: Path, config: BuildConfig) -> bytes:
    return read_verified(load_runtime("tensorrt_rtx").compile_engine(model, config).engine_path)


def test_a_real_build_tells_how_far_it_is(tmp_path: Path) -> None:
    model = tmp_path / "slow.onnx"
    onnx_models.write_slow(model)
    plain = config(tmp_path, "plain", (1, 3, 224, 224), onnx_models.SLOW_INPUT)
    told: list[BuildProgress] = []
    watched = replace(plain, engine_path=tmp_path / "watched.engine", progress=told.append)
    assert build(model, watched) == build(model, plain)

    root = told[0]
    assert (root.parent, root.step, root.done) == (None, 0, False)
    assert (told[-1].phase, told[-1].done) == (root.phase, True)
    under_way: dict[str, int] = {}
    for one in told:
        assert one.parent is None or one.parent in under_way, "a part without its whole"
        assert under_way.get(one.phase, 0) <= one.step <= one.steps
        under_way[one.phase] = one.step
        if one.done:
            del under_way[one.phase]
    assert not under_way
    assert len({one.phase for one in told}) >= 5
    # The graph alone takes thousands of steps.
    assert sum(not one.done and one.step > 0 for one in told) < 200


def test_the_callback_is_not_called_in_the_thread_that_builds(
    small: tuple[Path, BuildConfig],
) -> None:
    threads: set[int] = set()
    build(small[0], replace(small[1], progress=lambda _: threads.add(threading.get_ident())))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_error_of_the_callback_costs_no_engine(
    small: tuple[Path, BuildConfig], caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[BuildProgress] = []

    def show(progress: BuildProgress) -> None:
        calls.append(progress)
        raise ZeroDivisionError("the screen is on fire")

    with caplog.at_level(logging.WARNING, "enginery"):
        assert build(small[0], replace(small[1], progress=show))
    assert len(calls) == 1
    assert [record.message for record in caplog.records] == [
        "small.engine: its progress was not shown: ZeroDivisionError('the screen is on fire')"
    ]


# It says far more than a pipe holds.
TALKATIVE = """
from enginery import worker

def talk(request):
    for _ in range(2000):
        worker.report(request["line"])
    return "done"
"""
LINE = msgspec.json.encode(BuildProgress("graph" * 30, None, 0, 1, done=False)).decode()


def heard(folder: Path, show: Callable[[str], None]) -> object:
    """What the child gives back, which never ends where nobody reads what it says."""
    (folder / "talkative.py").write_text(TALKATIVE)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    answer: list[object] = []

    def call() -> None:
        with worker.started("talkative:talk", environment={"PYTHONPATH": path}, show=show) as talk:
            answer.append(talk({"line": LINE}))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "the parent waits for ever"
    return answer[0]


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_whatever_a_callback_raises_is_kept(tmp_path: Path, kind: type[BaseException]) -> None:
    calls: list[BuildProgress] = []

    def show(progress: BuildProgress) -> None:
        calls.append(progress)
        raise kind

    relay = Relay(show)
    assert heard(tmp_path, relay) == "done"
    assert type(relay.error) is kind
    assert len(calls) == 1


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_an_error_of_whoever_listens_stops_no_child(
    tmp_path: Path, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: raised.append(told.exc_type))
    calls: list[str] = []

    def show(line: str) -> None:
        calls.append(line)
        raise kind

    assert heard(tmp_path, show) == "done"
    assert calls == [LINE]
    assert raised == [kind]


def test_a_build_that_fails(small: tuple[Path, BuildConfig]) -> None:
    told: list[BuildProgress] = []
    target = HostCapabilities((75, 86), None, load_runtime("tensorrt_rtx").installed_version())
    with pytest.raises(EngineBuildError):
        build(small[0], replace(small[1], host=target, progress=told.append))
    assert told == []


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[BuildProgress]:
    return []


@pytest.fixture
def phases(told: list[BuildProgress], clock: Clock) -> Phases:
    return Phases(told.append, clock)


def test_steps_come_ten_times_a_second(
    phases: Phases, told: list[BuildProgress], clock: Clock
) -> None:
    phases.start("graph", None, 6000)
    for step in range(6000):
        clock.now += 0.001
        phases.step("graph", step)
    phases.finish("graph")
    assert 55 <= len(told) - 2 <= 60
    assert told[0] == BuildProgress("graph", None, 0, 6000, done=False)
    assert told[-1] == BuildProgress("graph", None, 6000, 6000, done=True)


def test_what_lies_deep_is_told_where_there_is_time(
    phases: Phases, told: list[BuildProgress], clock: Clock
) -> None:
    clock.now = 10
    for name, parent in [("a", None), ("b", "a"), ("c", "b"), ("d", "c"), ("e", "d")]:
        phases.start(name, parent, 1)
    # No time has gone by since `d`, so `e` is left out, and what is in it.
    phases.start("f", "e", 1)
    clock.now = 11
    phases.step("f", 0)
    phases.start("g", "e", 1)
    for name in "gfedcba":
        phases.finish(name)
    assert [(one.phase, one.done) for one in told] == [
        *((name, False) for name in "abcd"),
        *((name, True) for name in "dcba"),
    ]


def test_a_name_can_come_again(phases: Phases, told: list[BuildProgress]) -> None:
    for _ in range(2):
        phases.start("costs", None, 1)
        phases.step("costs", 0)
        phases.finish("costs")
    phases.finish("costs")
    phases.step("costs", 0)
    assert [one.done for one in told if one.step == 1][-1]
    assert sum(one.done for one in told) == 2


def test_names_of_any_length(phases: Phases, told: list[BuildProgress]) -> None:
    """A line has to stay short enough to be written at once."""
    phases.start("n" * 10_000, None, 1)
    phases.start("child", "n" * 10_000, 1)
    assert [len(one.phase) for one in told] == [500, 5]
    assert told[1].parent == told[0].phase
