"""Jetsons from recorded files (sources: recorded/README.md) and what CUDA's driver said there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recordings import recorded

from enginery.probing import jetson
from enginery.probing.cuda_driver import CudaAnswer, CudaDevice
from enginery.probing.jetpack import jetpack_of
from enginery.probing.root import Root

# OE4T/meta-tegra pull request 2088, deviceQuery on an AGX Orin: Device 0: "Orin", 8.7.
ORIN = CudaDevice(name="Orin", sm=87, memory_mib=None)
# vllm-project/vllm issue 34470: "GPU 0: NVIDIA Thor"; pytorch/pytorch pull request 169719: 11.0.
THOR = CudaDevice(name="NVIDIA Thor", sm=110, memory_mib=None)
NOT_LOADED = CudaAnswer(fault="it cannot be loaded (libcuda.so.1: cannot open shared object file)")


def answers(answer: CudaAnswer) -> Callable[[], CudaAnswer]:
    return lambda: answer


def find(
    machine: str, answer: CudaAnswer = NOT_LOADED, environ: dict[str, str] | None = None
) -> jetson.Jetson:
    found = jetson.find(
        recorded(machine), machine="aarch64", environ=environ or {}, ask_cuda=answers(answer)
    )
    assert found is not None
    return found


def test_agx_thor() -> None:
    found = find("agx-thor", CudaAnswer(devices=(THOR,), version=13000))
    assert found.board == "NVIDIA Jetson AGX Thor Developer Kit"
    assert (found.l4t, found.jetpack, found.cuda) == ("38.2.0", "7.0", "13.0")
    assert [(gpu.name, gpu.sm, gpu.memory_mib, gpu.uuid) for gpu in found.gpus] == [
        ("NVIDIA Thor", 110, None, None)
    ]
    assert found.remarks == ()


def test_orin_nano_on_jetpack_6() -> None:
    found = find("orin-nano-jetpack6", CudaAnswer(devices=(ORIN,), version=12060))
    assert found.board == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (found.l4t, found.jetpack, found.cuda) == ("36.4.3", "6.2", "12.6")
    assert [gpu.sm for gpu in found.gpus] == [87]
    assert found.remarks == ()


def test_orin_nano_on_jetpack_5() -> None:
    found = find("orin-nano-jetpack5", CudaAnswer(devices=(ORIN,), version=11040))
    assert (found.l4t, found.jetpack) == ("35.3.1", "5.1.1")
    assert found.driver == "35.3.1"  # the kernel module of that time has the number of the release


def test_agx_orin_on_jetpack_7() -> None:
    found = find("agx-orin-jetpack7", CudaAnswer(devices=(ORIN,), version=13020))
    assert (found.l4t, found.jetpack, found.cuda) == ("39.2.0", "7.2", "13.2")


def test_container_has_the_release_from_its_package() -> None:
    found = find("orin-nx-container", CudaAnswer(devices=(ORIN,), version=12060))
    assert (found.l4t, found.jetpack, found.board) == ("36.3.0", "6.0", None)
    assert [gpu.sm for gpu in found.gpus] == [87]


@pytest.mark.parametrize(
    ("machine", "soc", "sm"),
    [
        ("agx-thor", "tegra264", 110),
        ("orin-nano-jetpack5", "tegra234", 87),
        ("clara-agx", "tegra194", 72),
    ],
)
def test_without_cuda_the_device_tree_says_the_capability(machine: str, soc: str, sm: int) -> None:
    found = find(machine)
    assert [gpu.sm for gpu in found.gpus] == [sm]
    assert (
        f"cannot open shared object file); the compute capability is that of every {soc}"
        in found.remarks[-1]
    )
    assert "--runtime nvidia" in found.remarks[-1]


def test_without_cuda_and_device_tree_there_is_no_gpu() -> None:
    found = find("agx-orin-jetpack7")
    assert found.gpus == ()
    assert "the GPU of this board is not known" in found.remarks[-1]
    assert "declare the host in ENGINERY_HOST" in found.remarks[-1]


def test_hidden_gpu_stays_hidden_without_cuda() -> None:
    found = find("agx-thor", environ={"CUDA_VISIBLE_DEVICES": ""})
    assert found.gpus == ()
    assert (
        found.remarks[-1]
        == "no GPU is visible, since CUDA_VISIBLE_DEVICES is '': unset it to see all"
    )


def test_cuda_that_sees_nothing_is_believed() -> None:
    found = find("agx-thor", CudaAnswer(version=13000), {"CUDA_VISIBLE_DEVICES": "-1"})
    assert found.gpus == ()
    assert found.remarks == (
        "CUDA's driver sees no GPU, since CUDA_VISIBLE_DEVICES is '-1': unset it to see all",
    )


def test_unknown_release_has_no_jetpack() -> None:
    found = find("clara-agx", CudaAnswer(devices=(ORIN,), version=11040))
    assert (found.l4t, found.jetpack) == ("34.1.2", None)
    (remark,) = found.remarks
    assert remark.startswith("the JetPack of Jetson Linux 34.1.2 is not known to this version")
    assert remark.endswith("declare it in ENGINERY_HOST, or update enginery")


def test_board_without_a_release_says_so() -> None:
    found = find("agx-orin-without-release", CudaAnswer(devices=(ORIN,), version=12060))
    assert (found.l4t, found.jetpack, found.board) == (None, None, None)
    assert (
        "neither /etc/nv_tegra_release nor the package nvidia-l4t-core is there" in found.remarks[0]
    )


def test_unknown_system_on_a_chip(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/compatible").write_bytes(b"nvidia,p9999\0nvidia,tegra999\0")
    found = jetson.find(Root(tmp_path), machine="aarch64", environ={}, ask_cuda=answers(NOT_LOADED))
    assert found is not None
    assert "the GPU of tegra999 is not known" in found.remarks[-1]


@pytest.mark.parametrize("recording", ["granite-rapids", "gb10"])
def test_other_machines_are_none(recording: str) -> None:
    def never() -> CudaAnswer:
        raise AssertionError("CUDA is asked on a machine that is no Jetson")

    machine = "x86_64" if recording == "granite-rapids" else "aarch64"
    assert jetson.find(recorded(recording), machine=machine, environ={}, ask_cuda=never) is None


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("36.4", "6.1"),
        ("36.4.0", "6.1"),
        ("36.4.7", "6.2.1"),
        ("38.4.0", "7.1"),
        ("39.2.1", "7.2.1"),
        ("36.2.0", None),  # the preview of 6.0
        ("36.4.2", None),  # 6.1 (rev. 1) or 6.1.1
        ("36.4.5", None),  # between two that are known
        ("32.7.1", None),  # JetPack 4
        ("40.0.0", None),
        ("36", None),
    ],
)
def test_jetpack_is_known_or_not(l4t: str, jetpack: str | None) -> None:
    assert jetpack_of(l4t) == jetpack
