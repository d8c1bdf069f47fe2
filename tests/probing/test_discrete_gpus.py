"""GPUs through NVML: recorded answers in the place of the functions of the real pynvml."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pynvml
import pytest

from enginery.probing import discrete
from enginery.probing.root import Root


@dataclass(frozen=True)
class Card:
    """What NVML says of a GPU; `error` instead where it says nothing."""

    name: str = "NVIDIA A100-SXM4-80GB"
    capability: tuple[int, int] = (8, 0)
    uuid: str = "GPU-d8594bd4-0fc3-8595-e355-7c98138f3b95"
    memory_mib: int | None = 81920
    mig: int | None = 0
    instances: dict[int, str] = field(default_factory=dict)
    error: int | None = None


Driver = Callable[..., ModuleType]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """pynvml itself, whose functions answer from a list of cards.

    Every function is autospecced from the real one: neither a name nor an argument that the real
    package lacks can be used. Constants and exceptions are the real ones.
    """

    real = dict(vars(pynvml))

    def answer(name: str, does: Callable[..., Any]) -> None:
        monkeypatch.setattr(pynvml, name, create_autospec(real[name], side_effect=does))

    def fail(error: int) -> Any:
        raise pynvml.NVMLError(error)

    def install(
        *cards: Card,
        version: str = "580.126.09",
        cuda: int = 13000,
        init: int | None = None,
        count: int | None = None,
    ) -> ModuleType:
        def handle(index: int) -> Any:
            error = cards[index].error
            return cards[index] if error is None else fail(error)

        def instance(card: Card, place: int) -> str:
            return card.instances.get(place) or fail(pynvml.NVML_ERROR_NOT_FOUND)

        unsupported = pynvml.NVML_ERROR_NOT_SUPPORTED
        answer("nvmlInit", lambda: None if init is None else fail(init))
        answer("nvmlShutdown", lambda: None)
        answer("nvmlSystemGetDriverVersion", lambda: version)
        answer("nvmlSystemGetCudaDriverVersion_v2", lambda: cuda)
        answer("nvmlDeviceGetCount", lambda: len(cards) if count is None else fail(count))
        answer("nvmlDeviceGetHandleByIndex", handle)
        answer("nvmlDeviceGetName", lambda card: card.name)
        answer("nvmlDeviceGetUUID", lambda card: card.uuid if isinstance(card, Card) else card)
        answer("nvmlDeviceGetCudaComputeCapability", lambda card: card.capability)
        answer(
            "nvmlDeviceGetMemoryInfo",
            lambda card: (
                SimpleNamespace(total=card.memory_mib << 20)
                if card.memory_mib is not None
                else fail(unsupported)
            ),
        )
        answer(
            "nvmlDeviceGetMigMode",
            lambda card: [card.mig, card.mig] if card.mig is not None else fail(unsupported),
        )
        answer("nvmlDeviceGetMaxMigDeviceCount", lambda _: 7)
        answer("nvmlDeviceGetMigDeviceHandleByIndex", instance)
        return pynvml

    return install


def ask(nvml: ModuleType, **environ: str) -> discrete.Discrete:
    return discrete.ask(nvml, environ)


# influxdata/telegraf issue 5812: `nvidia-smi -L`; the compute capability of an A100 is 8.0
# (developer.nvidia.com/cuda-gpus).
INSTANCES = {
    0: "MIG-ce861fb0-a248-58ce-a9a8-f9adbc22a66a",
    1: "MIG-a45882f0-9215-5733-a0c1-49286ab31cb5",
    3: "MIG-f00d722c-f4e1-52c9-aa31-750441ae1bfe",
}
SLICED = Card(uuid="GPU-513536b6-7d19-9063-b049-1e69664bb298", mig=1, instances=INSTANCES)
WHOLE = Card()
# ArcticTraining pull request 345 (nvidia-smi: memory "Not Supported", MIG "N/A", driver 580.126.09,
# CUDA 13.0) and leptonai/gpud pull request 1170 (uuid); 12.1: facebookresearch/xformers pull 1278.
GB10 = Card(
    name="NVIDIA GB10",
    capability=(12, 1),
    uuid="GPU-2dee1e25-b3b5-007e-2b55-79f2d0f2ebe5",
    memory_mib=None,
    mig=None,
)
# NVIDIA/open-gpu-kernel-modules issue 387: four RTX 2080 Ti of which the second falls off the bus.
TURING = [
    Card(
        name="NVIDIA GeForce RTX 2080 Ti", capability=(7, 5), uuid=uuid, memory_mib=11264, mig=None
    )
    for uuid in (
        "GPU-67a571b1-79ee-1016-8ea3-c1fff3f1c1d2",
        "GPU-3e34e62f-d88e-f448-415e-be2cbf2c6178",
        "GPU-2d540dd6-583b-cf11-80dd-cc28edc1dd62",
        "GPU-80be5c9a-eb7d-2388-ad7c-7d3ee8f87235",
    )
]


def test_several_gpus_one_of_them_with_instances(driver: Driver) -> None:
    found = ask(driver(SLICED, WHOLE))
    assert (found.driver, found.cuda, found.remarks) == ("580.126.09", "13.0", ())
    assert [(gpu.index, gpu.sm, gpu.uuid) for gpu in found.gpus] == [
        (0, 80, SLICED.uuid),
        (1, 80, WHOLE.uuid),
    ]
    assert found.gpus[0].mig == tuple(INSTANCES.values())
    assert found.gpus[1].mig == ()
    assert found.gpus[1].memory_mib == 81920


def test_gpu_that_shares_the_memory_of_its_host(driver: Driver) -> None:
    (gpu,) = ask(driver(GB10)).gpus
    assert (gpu.name, gpu.sm, gpu.memory_mib, gpu.mig) == ("NVIDIA GB10", 121, None, ())


def test_mig_without_an_instance_is_no_gpu(driver: Driver) -> None:
    found = ask(driver(Card(mig=1), WHOLE))
    assert [gpu.index for gpu in found.gpus] == [1]
    (remark,) = found.remarks
    assert remark.startswith("GPU 0 is left out: MIG is on and it has no instance, so create one ")
    assert "nvidia-smi mig -i 0 -cgi <profile> -C" in remark
    assert ask(driver(Card(mig=1), WHOLE), CUDA_VISIBLE_DEVICES="1").remarks == ()


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_UNKNOWN])
def test_a_lost_gpu_leaves_the_others(driver: Driver, error: int) -> None:
    cards = [TURING[0], Card(error=error), *TURING[2:]]
    found = ask(driver(*cards))
    assert [gpu.index for gpu in found.gpus] == [0, 2, 3]
    assert len(found.remarks) == 1
    assert found.remarks[0].startswith("GPU 1 is left out: ")
    remedy = "see `dmesg` for an Xid" if error == pynvml.NVML_ERROR_GPU_IS_LOST else "nvidia-smi"
    assert remedy in found.remarks[0]


def test_no_permission_for_one(driver: Driver) -> None:
    found = ask(driver(Card(error=pynvml.NVML_ERROR_NO_PERMISSION)))
    assert found.gpus == ()
    assert "Insufficient Permissions; this user may not use the GPU" in found.remarks[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        # rapidsai/dask-cuda issue 949: pynvml's own words.
        (
            "NVML_ERROR_LIB_RM_VERSION_MISMATCH",
            "RM has detected an NVML/RM version mismatch; the driver was updated while it ran",
        ),
        ("NVML_ERROR_DRIVER_NOT_LOADED", "Driver Not Loaded; load the driver (`modprobe nvidia`)"),
        (
            "NVML_ERROR_LIBRARY_NOT_FOUND",
            "NVML Shared Library Not Found; install the driver's library",
        ),
        ("NVML_ERROR_NO_PERMISSION", "Insufficient Permissions; this user may not use the GPU"),
        ("NVML_ERROR_UNKNOWN", "Unknown Error; see what `nvidia-smi` says"),
    ],
)
def test_nvml_that_does_not_start(driver: Driver, error: str, words: str) -> None:
    found = ask(driver(init=getattr(pynvml, error)))
    assert (found.gpus, found.driver) == ((), None)
    assert len(found.remarks) == 1
    assert found.remarks[0].startswith(f"NVML does not start: {words}")
    pynvml.nvmlShutdown.assert_not_called()


def test_nvml_that_cannot_count_is_shut_down(driver: Driver) -> None:
    found = ask(driver(count=pynvml.NVML_ERROR_UNKNOWN))
    assert found.remarks == (
        "NVML cannot count the GPUs: Unknown Error; see what `nvidia-smi` says",
    )
    pynvml.nvmlShutdown.assert_called_once_with()


def test_driver_without_a_gpu(driver: Driver) -> None:
    found = ask(driver())
    assert (found.driver, found.gpus) == ("580.126.09", ())
    assert found.remarks == ("the NVIDIA driver runs and has no GPU: see `lspci -d 10de:`",)


def test_hidden_gpus(driver: Driver) -> None:
    found = ask(driver(WHOLE), CUDA_VISIBLE_DEVICES="")
    assert found.gpus == ()
    assert found.remarks == (
        "no GPU is visible, since CUDA_VISIBLE_DEVICES is '': unset it to see all",
    )


def test_every_name_that_is_used_is_in_the_real_package() -> None:
    assert [name for name in discrete._NEEDED if not hasattr(pynvml, name)] == []
    assert [name for name in discrete._REMEDIES if not hasattr(pynvml, name)] == []


def test_a_module_of_another_package() -> None:
    found = ask(ModuleType("pynvml"))
    assert "has no NVMLError, so it is another package's" in found.remarks[0]
    assert "pip install --force-reinstall nvidia-ml-py" in found.remarks[0]


def test_without_a_driver_nothing_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it would raise
    found = discrete.find(Root(tmp_path), {})
    assert found.remarks == (discrete._NO_DRIVER,)


@pytest.mark.parametrize("sign", discrete._SIGNS)
def test_any_sign_of_a_driver_asks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    file = Root(tmp_path).at(sign)
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert discrete.find(Root(tmp_path), {}).remarks == (discrete._NO_PACKAGE,)
    assert discrete._NO_PACKAGE.endswith("pip install nvidia-ml-py")
