"""What is known of a Jetson: board, Jetson Linux, JetPack and GPU."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from enginery.host import Gpu

from . import dpkg, visible
from .cuda_driver import CudaAnswer, ask, dotted_cuda
from .jetpack import jetpack_of
from .root import Root

# What CUDA calls the GPU of a system on a chip, and its compute capability: NVIDIA, "CUDA GPU
# Compute Capability" (developer.nvidia.com/cuda-gpus). Thor was 10.1 for CUDA 12.9 on its first
# driver and is 11.0 since CUDA 13.0, which Jetson Linux has on it from its first release on
# (github.com/facebookresearch/xformers/pull/1278).
_SOCS = {
    "tegra186": ("NVIDIA Tegra X2", 62),
    "tegra194": ("Xavier", 72),
    "tegra234": ("Orin", 87),
    "tegra264": ("NVIDIA Thor", 110),
}

_UNKNOWN_RELEASE = (
    "the JetPack of Jetson Linux {} is not known to this version of enginery: declare it in "
    "ENGINERY_HOST, or update enginery"
)
_NO_RELEASE = (
    "the release of Jetson Linux is not known, since neither /etc/nv_tegra_release nor the "
    "package nvidia-l4t-core is there: declare JetPack in ENGINERY_HOST"
)

_RELEASE = re.compile(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
_DRIVER = re.compile(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", re.MULTILINE)


class Jetson(msgspec.Struct, frozen=True, kw_only=True):
    """A Jetson as it was found; the fields are those of `Host`."""

    board: str | None
    l4t: str | None
    jetpack: str | None
    driver: str | None
    cuda: str | None
    gpus: tuple[Gpu, ...]
    remarks: tuple[str, ...]


def find(
    root: Root,
    *,
    machine: str,
    environ: Mapping[str, str],
    ask_cuda: Callable[[], CudaAnswer] = ask,
) -> Jetson | None:
    """The Jetson that this machine is, or None where it is none.

    Args:
        root: Where its files lie.
        machine: Its architecture as the kernel says it.
        environ: The environment, for CUDA_VISIBLE_DEVICES.
        ask_cuda: Asks CUDA's driver library.
    """
    soc = _soc(root)
    l4t = _l4t(root, soc is not None or machine == "aarch64")
    if soc is None and l4t is None:
        return None
    jetpack = jetpack_of(l4t) if l4t else None
    answer = ask_cuda()
    gpus, gpu_remarks = _gpus(answer, soc, environ)
    return Jetson(
        board=_line(root, "/proc/device-tree/model"),
        l4t=l4t,
        jetpack=jetpack,
        driver=_driver(root),
        cuda=dotted_cuda(answer.version) if answer.version else None,
        gpus=gpus,
        remarks=(*_release_remarks(l4t, jetpack), *gpu_remarks),
    )


def _soc(root: Root) -> str | None:
    # "compatible" goes from the board to the system on a chip; some releases add a family,
    # tegra23x, after it.
    names = (_line(root, "/proc/device-tree/compatible") or "").split("\0")
    socs = [name.removeprefix("nvidia,") for name in names if name.startswith("nvidia,tegra")]
    return next((soc for soc in socs if soc in _SOCS), socs[0] if socs else None)


def _l4t(root: Root, may_be_one: bool) -> str | None:
    release = _RELEASE.search(root.text("/etc/nv_tegra_release") or "")
    if release:
        return f"{release[1]}.{release[2]}"
    # Containers often lack the file and have the package.
    return dpkg.installed(root, "nvidia-l4t-core").get("nvidia-l4t-core") if may_be_one else None


def _driver(root: Root) -> str | None:
    version = _DRIVER.search(root.text("/proc/driver/nvidia/version") or "")
    return version[1] if version else None


def _line(root: Root, name: str) -> str | None:
    text = root.text(name)
    return text.strip("\0\n ") if text else None


def _release_remarks(l4t: str | None, jetpack: str | None) -> tuple[str, ...]:
    if jetpack:
        return ()
    return (_UNKNOWN_RELEASE.format(l4t) if l4t else _NO_RELEASE,)


def _gpus(
    answer: CudaAnswer, soc: str | None, environ: Mapping[str, str]
) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    if answer.fault is None:
        found = tuple(
            Gpu(index=index, name=device.name, sm=device.sm, memory_mib=device.memory_mib)
            for index, device in enumerate(answer.devices)
        )
        return found, () if found else (f"CUDA's driver sees no GPU{visible.hint(environ)}",)
    fault = f"CUDA's driver library was no help, since {answer.fault}"
    if soc not in _SOCS:
        unknown = (
            f"{fault}, and the GPU of {soc or 'this board'} is not known to this version of "
            "enginery: declare the host in ENGINERY_HOST, or update enginery"
        )
        return (), (unknown,)
    name, sm = _SOCS[soc]
    kept, remarks = visible.select((Gpu(index=0, name=name, sm=sm),), environ)
    by_table = (
        f"{fault}; the compute capability is that of every {soc}: in a container, start it with "
        "`--runtime nvidia`"
    )
    return kept, (by_table, *remarks)
