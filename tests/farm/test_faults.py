"""What goes wrong on a farm, with real processes that build with TensorRT-RTX under declared tags."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import odd
import pytest
from conftest import Project, wait_for
from farms import RTX_VERSION, running_farm
from odd import Site

from enginery.trust import verified


@pytest.fixture
def fleet(tmp_path: Path, new_project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running_farm(tmp_path / "farm") as farm:
        yield odd.site(farm, new_project, monkeypatch)


def said_by(fleet: Site) -> str:
    return (fleet.project.path / "log").read_text()


def ended(fleet: Site, process: subprocess.Popen[bytes], code: int, seconds: float = 120) -> str:
    """What a doit said that has ended with a code."""
    process.wait(seconds)
    said = said_by(fleet)
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


class TestWorkers:
    def test_killed_in_the_midst_of_a_build(self, fleet: Site) -> None:
        fleet.models("slow", slow=True)
        one = fleet.worker("one")
        process = fleet.project.start()
        one.said("started")
        wait_for(lambda: fleet.farm.processes("tensorrt_build"))
        fleet.worker("two")
        fleet.farm.kill("one")
        said = ended(fleet, process, 0)
        assert "died in the midst of it; it is built again elsewhere" in said
        assert "by two" in said
        assert fleet.built() == ["slow"]
        assert verified(fleet.engine("slow"))
        assert fleet.is_clean()
        # Of the build that was killed nothing is left: its process is gone, and its files with the
        # next start.
        wait_for(lambda: not fleet.farm.processes("tensorrt_build"))
        fleet.worker("one")
        builds = fleet.farm.folder / "one" / "builds"
        wait_for(lambda: builds.is_dir() and not list(builds.iterdir()))

    def test_a_model_that_its_workers_die_of(self, fleet: Site) -> None:
        fleet.models("poison", "good")
        for name in ("one", "two", "three", "four"):
            fleet.worker(name, odd={"dies_of": ["poison"]})
        run = fleet.doit("--continue")
        assert run.returncode != 0
        assert "poison: every worker that built it died, 3 in all" in run.stdout
        assert run.built == ["good"]
        alive = [one for one in fleet.farm.workers.values() if one.process.poll() is None]
        assert len(alive) == 1
        assert fleet.is_clean()
        fleet.models("better")
        assert fleet.doit("better").built == ["better"]

    def test_none_with_the_tag(self, fleet: Site) -> None:
        fleet.project.edit("corpus.toml", "wait_for_worker = 20", "wait_for_worker = 3")
        fleet.models("far")
        fleet.models("near", target="near")
        fleet.worker("other", tags=(odd.tag(sm=89),))
        began = time.monotonic()
        process = fleet.project.start()
        lack = "no worker is connected that builds odd_rtx engines for SM 8.6"
        wait_for(lambda: lack in said_by(fleet))
        assert f"connected are 1 of {odd.tag(sm=89)}; waiting for one, 3 s at the most" in said_by(
            fleet
        )
        said = ended(fleet, process, 1)
        assert 3 < time.monotonic() - began < 15
        assert "none came within 3 s" in said
        assert "near_sm86" in said
        assert list(fleet.project.engines.glob("near_*.engine"))

    def test_one_that_comes_in_time(self, fleet: Site) -> None:
        fleet.models("far")
        process = fleet.project.start()
        wait_for(lambda: "connected are none at all" in said_by(fleet))
        fleet.worker("late")
        assert "by late" in ended(fleet, process, 0)

    def test_only_one_and_it_goes_away(self, fleet: Site) -> None:
        fleet.project.edit("corpus.toml", "wait_for_worker = 20", "wait_for_worker = 2")
        fleet.models("slow", slow=True)
        one = fleet.worker("one")
        process = fleet.project.start()
        one.said("started")
        fleet.farm.kill("one")
        assert "none came within 2 s" in ended(fleet, process, 1)

    def test_the_only_one_is_told_to_stop(self, fleet: Site) -> None:
        """It finishes what it builds, however long that takes, and is fetched from."""
        fleet.project.edit("corpus.toml", "wait_for_worker = 20", "wait_for_worker = 1")
        fleet.models("slow", slow=True)
        one = fleet.worker("one")
        process = fleet.project.start()
        one.said("started")
        one.process.send_signal(signal.SIGTERM)
        said = ended(fleet, process, 0)
        assert "by one" in said
        assert "no worker" not in said
        assert one.process.wait(30) == 0

    def test_another_tensorrt_than_its_tag_says(self, fleet: Site) -> None:
        version = "1.2.3.4"
        fleet.project.edit(
            "corpus.toml", "sm = 86\n[targets.near]", f'sm = 86\ntrt = "{version}"\n[targets.near]'
        )
        fleet.models("far", "far2")
        one = fleet.worker("one", tags=(odd.tag(version=version),))
        run = fleet.doit("--continue")
        assert run.returncode != 0
        assert "refuses it: " in run.said
        assert RTX_VERSION in run.said
        assert version in run.said
        assert "no other worker can build it" in run.stdout
        assert "started" not in one.log
        assert run.built == []

    def test_a_refusal_is_another_workers_build(self, fleet: Site) -> None:
        fleet.models("far")
        fleet.worker("narrow", options=["--max-input", "1"])
        process = fleet.project.start()
        wait_for(lambda: "refuses it" in said_by(fleet))
        ended(fleet, process, 1)
        fleet.worker("wide")
        for _ in range(3):  # whoever of the two is asked first
            run = fleet.doit()
            assert run.returncode == 0, run.said
            assert fleet.engine("far").exists()
            fleet.engine("far").unlink()


class TestLies:
    def test_wrong_bytes(self, fleet: Site) -> None:
        fleet.models("far", "far2")
        liar = fleet.worker("liar", odd={"blobs": 10_000})
        process = fleet.project.start("--continue")
        wait_for(lambda: "not used again in this run" in said_by(fleet))
        said = ended(fleet, process, 1)
        assert "is not taken from liar (" in said
        assert "its bytes are " in said
        assert "no other worker can build it" in said
        assert list(fleet.project.engines.glob("*.engine")) == []
        assert fleet.is_clean()
        # It is named once, and not asked again.
        assert said.count("is not taken from liar") == 1
        liar.process.send_signal(signal.SIGTERM)
        liar.process.wait(30)
        fleet.worker("liar", odd={"blobs": 10_000})
        honest = fleet.worker("honest")
        run = fleet.doit()
        assert run.returncode == 0, run.said
        assert verified(fleet.engine("far"))
        assert verified(fleet.engine("far2"))
        assert "built in" in honest.log

    def test_wrong_documents(self, fleet: Site) -> None:
        fleet.models("far")
        fleet.worker("liar", odd={"blobs": 100})
        run = fleet.doit()
        assert run.returncode == 1
        assert "liar" in run.said or "sent what was not asked for" in run.said
        assert "damaged" in run.said
        assert not fleet.engine("far").exists()

    def test_an_engine_of_another_fingerprint(self, fleet: Site) -> None:
        fleet.models("far", "far2", "far3")
        fleet.worker("liar", odd={"swaps": True})
        run = fleet.doit("--continue")
        assert run.returncode != 0
        assert "sent what was not asked for, and is not used again in this run" in run.said
        assert "it is for another fingerprint" in run.said
        assert run.built == ["far"]
        fleet.worker("honest")
        assert sorted(fleet.doit().built) == ["far2", "far3"]


class TestScheduler:
    def test_down_at_the_start(self, fleet: Site) -> None:
        fleet.models("far", "far2", "far3")
        fleet.models("near", target="near")
        fleet.farm.stop_scheduler()
        began = time.monotonic()
        run = fleet.doit("--continue")
        assert time.monotonic() - began < 12
        assert run.returncode != 0
        assert run.built == ["near"]
        said = f"the scheduler {fleet.farm.scheduler} cannot be reached"
        assert run.stdout.count(said) >= 3
        assert "ENGINERY_FARM=off" in run.stdout
        assert "Traceback" not in run.said

    def test_one_that_accepts_and_never_answers(self, fleet: Site) -> None:
        import socket

        fleet.models("far", "far2")
        fleet.farm.stop_scheduler()
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            deaf.bind(("127.0.0.1", fleet.farm.port))
            deaf.listen()
            began = time.monotonic()
            run = fleet.doit("--continue")
        assert time.monotonic() - began < 12
        assert "cannot be reached" in run.stdout

    def test_lost_and_back(self, fleet: Site) -> None:
        fleet.models("slow", slow=True)
        one = fleet.worker("one")
        process = fleet.project.start()
        one.said("started")
        fleet.farm.stop_scheduler()
        time.sleep(1)
        fleet.farm.start_scheduler()
        said = ended(fleet, process, 0)
        assert "lost" in said
        # It was built once: the worker went on, and had it when it was asked again.
        assert one.log.count(": started") == 1, one.log
        assert verified(fleet.engine("slow"))

    def test_lost_for_good(self, fleet: Site) -> None:
        fleet.project.edit("corpus.toml", "wait_for_worker = 20", "wait_for_worker = 2")
        fleet.models("slow", "slower", slow=True)
        one = fleet.worker("one")
        process = fleet.project.start("--continue")
        one.said("started")
        fleet.farm.stop_scheduler()
        began = time.monotonic()
        said = ended(fleet, process, 1, 40)
        assert time.monotonic() - began < 20
        assert said.count("was lost, and was not back within 2 s") >= 2

    def test_back_for_the_next_run(self, fleet: Site) -> None:
        fleet.models("far")
        fleet.farm.stop_scheduler()
        assert fleet.doit().returncode == 1
        fleet.farm.start_scheduler()
        fleet.worker("one")
        assert fleet.doit().built == ["far"]


class TestSubmitters:
    def test_killed(self, fleet: Site) -> None:
        fleet.models("slow", slow=True)
        one = fleet.worker("one")
        process = fleet.project.start()
        one.said("started")
        wait_for(lambda: fleet.farm.processes("tensorrt_build"))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        one.said("built in")
        run = fleet.doit()
        assert run.returncode == 0, run.said
        assert "restored from the farm's worker one" in run.stdout
        assert one.log.count("started") == 1
        assert verified(fleet.engine("slow"))
        assert fleet.is_clean()

    def test_killed_while_it_sends(self, fleet: Site) -> None:
        """Another who asks for the same sends it, too."""
        fleet.models("far")
        large = fleet.project.path / "cache"
        with large.open("wb") as stream:
            stream.truncate(1 << 30)
        fleet.project.edit(
            "corpus.toml", 'onnx = "far.onnx"', 'onnx = "far.onnx"\ncalibration = "cache"'
        )
        one = fleet.worker("one")
        process = fleet.project.start()
        one.said("started")
        wait_for(lambda: list((one.folder / "inputs").glob("*.part")))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        run = fleet.doit()
        assert run.built == ["far"], run.said

    @pytest.mark.slow
    def test_memory_of_everybody(self, fleet: Site) -> None:
        fleet.models("far")
        large = fleet.project.path / "cache"
        with large.open("wb") as stream:
            stream.truncate(2 << 30)
        fleet.project.edit(
            "corpus.toml", 'onnx = "far.onnx"', 'onnx = "far.onnx"\ncalibration = "cache"'
        )
        one = fleet.worker("one")
        process = fleet.project.start()
        peaks: dict[str, int] = {}
        assert fleet.farm._scheduler is not None
        watched = {
            "submitter": process.pid, "worker": one.process.pid, "scheduler": fleet.farm._scheduler.pid,
        }  # fmt: skip
        while process.poll() is None:
            peaks |= {name: _peak_mb(pid) or peaks.get(name, 0) for name, pid in watched.items()}
            time.sleep(0.05)
        assert "built in" in ended(fleet, process, 0)
        print(peaks)  # noqa: T201 - for docs/farm.md
        assert all(0 < peak < 300 for peak in peaks.values()), peaks


def _peak_mb(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next(
        (int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")),
        0,
    )
