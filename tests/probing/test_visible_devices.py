"""CUDA_VISIBLE_DEVICES, as NVIDIA's programming guide describes it."""

from __future__ import annotations

import pytest

from enginery.host import Gpu
from enginery.probing.visible import select

# NVIDIA/open-gpu-kernel-modules issue 387: `nvidia-smi -L` of four RTX 2080 Ti.
TURING = tuple(
    Gpu(index=index, name="NVIDIA GeForce RTX 2080 Ti", sm=75, uuid=uuid)
    for index, uuid in enumerate(
        [
            "GPU-67a571b1-79ee-1016-8ea3-c1fff3f1c1d2",
            "GPU-3e34e62f-d88e-f448-415e-be2cbf2c6178",
            "GPU-2d540dd6-583b-cf11-80dd-cc28edc1dd62",
            "GPU-80be5c9a-eb7d-2388-ad7c-7d3ee8f87235",
        ]
    )
)
# influxdata/telegraf issue 5812: `nvidia-smi -L` of A100s, MIG on the first (two of its four).
A100 = (
    Gpu(
        index=0,
        name="NVIDIA A100-SXM4-80GB",
        sm=80,
        uuid="GPU-513536b6-7d19-9063-b049-1e69664bb298",
        mig=(
            "MIG-ce861fb0-a248-58ce-a9a8-f9adbc22a66a",
            "MIG-a45882f0-9215-5733-a0c1-49286ab31cb5",
        ),
    ),
    Gpu(
        index=1,
        name="NVIDIA A100-SXM4-80GB",
        sm=80,
        uuid="GPU-d8594bd4-0fc3-8595-e355-7c98138f3b95",
    ),
)
# LostRuins/koboldcpp issue 634: an RTX 3060 before an RTX 4090 on the bus.
MIXED = (
    Gpu(index=0, name="NVIDIA GeForce RTX 3060", sm=86),
    Gpu(index=1, name="NVIDIA GeForce RTX 4090", sm=89),
)


def indices(listed: str) -> list[int]:
    gpus, _ = select(TURING, {"CUDA_VISIBLE_DEVICES": listed})
    return [gpu.index for gpu in gpus]


def test_all_where_it_is_not_set() -> None:
    assert select(TURING, {}) == (TURING, ())


@pytest.mark.parametrize(
    ("listed", "seen"),
    [
        ("2,1", [2, 1]),
        (" 2 , 1 ", [2, 1]),
        ("0,2,-1,1", [0, 2]),  # the guide's own example
        ("1gpu2,2ampere", [1, 2]),
        ("GPU-3e34e62f-d88e-f448-415e-be2cbf2c6178,GPU-67a5", [1, 0]),
        ("3,", [3]),
    ],
)
def test_some_in_the_order_asked_for(listed: str, seen: list[int]) -> None:
    assert indices(listed) == seen
    assert select(TURING, {"CUDA_VISIBLE_DEVICES": listed})[1] == ()


@pytest.mark.parametrize("listed", ["", "-1", "-1,0"])
def test_none_says_why(listed: str) -> None:
    gpus, remarks = select(TURING, {"CUDA_VISIBLE_DEVICES": listed})
    assert gpus == ()
    assert remarks == (
        f"no GPU is visible, since CUDA_VISIBLE_DEVICES is {listed!r}: unset it to see all",
    )


@pytest.mark.parametrize(
    ("listed", "refused", "seen"),
    [
        ("1,7,0", "7", [1]),
        ("GPU-2d540dd6,0", "0", [2]),
        ("0,GPU-2d540dd6", "GPU-2d540dd6", [0]),
        ("GPU-", "GPU-", []),  # four begin so
        ("GPU-ffff", "GPU-ffff", []),
        ("MIG-ce861fb0", "MIG-ce861fb0", []),  # of another machine
        ("NoDevFiles", "NoDevFiles", []),  # what Slurm writes
    ],
)
def test_an_entry_that_is_none_ends_the_list(listed: str, refused: str, seen: list[int]) -> None:
    gpus, remarks = select(TURING, {"CUDA_VISIBLE_DEVICES": listed})
    assert [gpu.index for gpu in gpus] == seen
    assert len(remarks) == 1
    assert f"is followed only up to {refused!r}, which is no GPU here" in remarks[0]
    assert "nvidia-smi -L" in remarks[0]


@pytest.mark.parametrize("listed", ["0,0", "1,1gpu", "GPU-2d54,GPU-2d540"])
def test_twice_is_none(listed: str) -> None:
    gpus, remarks = select(TURING, {"CUDA_VISIBLE_DEVICES": listed})
    assert gpus == ()
    assert "names a GPU twice" in remarks[0]


def test_one_instance_of_a_gpu() -> None:
    gpus, remarks = select(A100, {"CUDA_VISIBLE_DEVICES": "MIG-a45882f0"})
    assert [(gpu.index, gpu.mig) for gpu in gpus] == [
        (0, ("MIG-a45882f0-9215-5733-a0c1-49286ab31cb5",))
    ]
    assert remarks == ()


def test_instances_of_one_gpu_are_one_gpu() -> None:
    gpus, _ = select(A100, {"CUDA_VISIBLE_DEVICES": "MIG-a4,MIG-ce"})
    assert [(gpu.index, gpu.mig) for gpu in gpus] == [(0, A100[0].mig[::-1])]


@pytest.mark.parametrize("listed", [None, "0", "1,0"])
def test_where_gpus_differ_the_order_of_cuda_is_noted(listed: str | None) -> None:
    environ = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}
    _, remarks = select(MIXED, environ)
    assert len(remarks) == 1
    assert "set CUDA_DEVICE_ORDER=PCI_BUS_ID" in remarks[0]
    assert select(MIXED, {**environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})[1] == ()
