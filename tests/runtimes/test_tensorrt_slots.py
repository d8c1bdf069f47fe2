"""One build at a time on a GPU: real processes, real locks, GPUs that are only declared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from enginery.host import Gpu, Host
from enginery.locks import locked_now
from enginery.runtimes.gpu_slots import Slot, slots_for, taken

SM, TRT = 89, "10.13.3.9"

# What a build does with its place, without the build.
BUILD = f"""
import json, sys, time
from enginery import HostCapabilities
from enginery.runtimes.tensorrt import TensorRT
with TensorRT().place(HostCapabilities({SM}, None, "{TRT}"), None) as place:
    began = time.monotonic()
    print("in", flush=True)
    time.sleep(float(sys.argv[1]))
    told = [place.environment, str(place.timing_cache), began, time.monotonic()]
print(json.dumps(told), flush=True)
"""


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def _sees_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts such a build on a host that is declared; whatever still runs ends with the test."""
    children: list[subprocess.Popen[str]] = []

    def start(host: str, seconds: float) -> subprocess.Popen[str]:
        environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "ENGINERY_HOST": host}
        command = [sys.executable, "-c", BUILD, str(seconds)]
        pipe = subprocess.PIPE
        child = subprocess.Popen(
            command, env={**os.environ, **environment}, text=True, stdout=pipe, stderr=pipe
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_six_builds_on_two_gpus(start: Start) -> None:
    children = [start(f"sm={SM}+{SM} trt={TRT}", 0.4) for _ in range(6)]
    said = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0] * 6, said
    on: dict[str, list[tuple[float, float]]] = {}
    for out, _ in said:
        variables, cache, began, ended = json.loads(out.splitlines()[1])
        assert variables["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        assert Path(cache).name == f"GPU-of-SM-8.9_sm{SM}_cuda-unknown_trt{TRT}.cache"
        on.setdefault(variables["CUDA_VISIBLE_DEVICES"], []).append((began, ended))
    assert set(on) == {"0", "1"}
    for times in on.values():
        assert all(first[1] <= then[0] for first, then in pairwise(sorted(times)))
    waits = [line for _, err in said for line in err.splitlines()]
    assert waits
    assert set(waits) == {"waiting for GPU gpu-0, gpu-1: one engine is built on it at a time"}
    assert all(err.count("\n") <= 1 for _, err in said)


def test_a_build_that_is_killed_frees_its_gpu(start: Start) -> None:
    first = start(f"sm={SM} trt={TRT}", 600)
    assert first.stdout is not None
    assert first.stdout.readline() == "in\n"
    second = start(f"sm={SM} trt={TRT}", 0)
    time.sleep(1)
    assert second.poll() is None
    first.send_signal(signal.SIGKILL)
    out, err = second.communicate(timeout=30)
    assert out.startswith("in\n"), err
    assert json.loads(out.splitlines()[1])[0] == {}, "the only GPU needs no number"


def test_no_gpu_of_that_kind(start: Start) -> None:
    child = start(f"sm=86 trt={TRT}", 0)
    _, err = child.communicate(timeout=60)
    assert f"ElsewhereError: an engine for SM 8.9, TensorRT {TRT} cannot be built here" in err
    assert "this is SM 8.6, TensorRT" in err


def gpu(index: int, sm: int, uuid: str | None = None, mig: tuple[str, ...] = ()) -> Gpu:
    return Gpu(index=index, name="NVIDIA A100-SXM4-40GB", sm=sm, uuid=uuid, mig=mig)


def test_slots_are_gpus_and_instances() -> None:
    gpus = (
        gpu(0, 80, "GPU-a"),
        gpu(1, 75, "GPU-b"),
        gpu(2, 80, "GPU-c", ("MIG-d", "MIG-GPU-c/1/0")),
    )
    found = slots_for(Host(source="probed", cpu="x86-64-v3", gpus=gpus), 80)
    assert found == (
        Slot("GPU-a", "NVIDIA-A100-SXM4-40GB", {"CUDA_VISIBLE_DEVICES": "GPU-a"}),
        Slot("MIG-d", "MIG-d", {"CUDA_VISIBLE_DEVICES": "MIG-d"}),
        Slot("MIG-GPU-c-1-0", "MIG-GPU-c-1-0", {"CUDA_VISIBLE_DEVICES": "MIG-GPU-c/1/0"}),
    )  # fmt: skip


def unnamed(*sms: int) -> Host:
    gpus = tuple(gpu(index, sm) for index, sm in enumerate(sms))
    return Host(source="[host]", cpu="x86-64-v3", gpus=gpus)


def test_gpus_without_an_identifier_have_their_numbers() -> None:
    numbers = {"0": "gpu-0", "2": "gpu-2"}
    assert slots_for(unnamed(80, 75, 80), 80) == tuple(
        Slot(name, "NVIDIA-A100-SXM4-40GB",
             {"CUDA_VISIBLE_DEVICES": number, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
        for number, name in numbers.items()
    )  # fmt: skip


@pytest.mark.parametrize(
    ("listed", "name"),
    [("1", "gpu-1"), ("3,5", "gpu-3"), ("", "gpu"), ("-1", "gpu--1"), ("GPU-a/b", "gpu-GPU-a-b")],
)
def test_what_the_user_lists_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, listed: str, name: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    for host in (unnamed(80), unnamed(80, 80), unnamed(80, 80, 80)):
        assert slots_for(host, 80) == (Slot(name, "NVIDIA-A100-SXM4-40GB", {}),)
    assert slots_for(unnamed(80, 80), 75) == ()


@pytest.mark.parametrize(
    ("listed", "entry"), [("3,5", "5"), ("3", None), ("3,5,7", None), ("", None)]
)
def test_a_gpu_of_another_kind_is_not_taken_for_the_first_of_the_list(
    monkeypatch: pytest.MonkeyPatch, listed: str, entry: str | None
) -> None:
    """Where the list has an entry for each GPU; elsewhere, which GPUs it names is not known."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    (slot,) = slots_for(unnamed(75, 80), 80)
    assert slot.environment == ({"CUDA_VISIBLE_DEVICES": entry} if entry else {})


def test_a_list_may_have_left_a_host_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    host = Host(source="probed", cpu="x86-64-v3", gpus=(gpu(7, 80),))
    assert slots_for(host, 80) == (Slot("gpu-7", "NVIDIA-A100-SXM4-40GB", {}),)


def test_an_identifier_is_used_whatever_the_user_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host has only the GPUs that the list leaves."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    host = Host(source="probed", cpu="x86-64-v3", gpus=(gpu(7, 80, "GPU-a"),))
    (slot,) = slots_for(host, 80)
    assert slot.environment == {"CUDA_VISIBLE_DEVICES": "GPU-a"}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _builds_without_a_lock(tmp_path / "file" / "gpus")


def _builds_without_a_lock(folder: Path) -> None:
    told: list[str] = []
    slot = Slot("GPU-a", "A100", {})
    with taken([slot], folder, told.append) as held:
        assert held is slot
    (line,) = told
    assert line.startswith(f"{folder} cannot be written")


@pytest.fixture
def locks() -> Iterator[Path]:
    """A folder for locks that any user may reach and write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "gpus"
        folder.mkdir()
        # What is imported for it, nobody may not read where it is root's.
        with locked_now(folder / "first"):
            pass
        for one in (folder, folder.parent):
            one.chmod(0o777)
        yield folder


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may open any file; nobody may not."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def _spoil(lock: Path, how: str) -> None:
    if how == "folder":
        lock.mkdir()
    elif how == "symlink":
        lock.symlink_to("elsewhere")
    else:
        lock.touch()
        lock.chmod(0)


SPOILT = pytest.mark.parametrize("how", ["folder", "symlink", "another user's"])


@SPOILT
def test_a_lock_that_cannot_be_used(locks: Path, how: str) -> None:
    _spoil(locks / ".GPU-a.lock", how)
    told: list[str] = []
    slot = Slot("GPU-a", "A100", {})
    with unprivileged(), taken([slot], locks, told.append) as held:
        assert held is slot
    (line,) = told
    assert line.startswith("GPU GPU-a cannot be locked: [Errno ")
    assert str(locks / ".GPU-a.lock") in line


@SPOILT
def test_a_gpu_that_can_be_locked_is_taken_first(locks: Path, how: str) -> None:
    _spoil(locks / ".GPU-a.lock", how)
    told: list[str] = []
    slots = [Slot(name, "A100", {}) for name in ("GPU-a", "GPU-b")]
    with unprivileged(), taken(slots, locks, told.append) as held:
        assert held is slots[1]
        assert (locks / ".GPU-b.lock").exists()
    assert not (locks / ".GPU-b.lock").exists()
    assert len(told) == 1


def test_an_error_of_the_build_is_none_of_the_lock(tmp_path: Path) -> None:
    told: list[str] = []
    slots = [Slot("GPU-a", "A100", {})]
    with pytest.raises(PermissionError, match="the build"), taken(slots, tmp_path, told.append):
        raise PermissionError("the build")
    assert told == []
    assert list(tmp_path.iterdir()) == []
