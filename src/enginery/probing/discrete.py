"""GPUs that NVIDIA's driver manages, through its management library NVML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

import msgspec

from enginery.host import Gpu

from . import visible
from .cuda_driver import dotted_cuda
from .root import Root

# Any of these means that somebody installed a driver; where none is there, NVML is not imported,
# which takes 25 ms. The last ones are the library itself, where no driver is loaded: in a
# container that was started without its GPU, and on WSL 2 and NixOS, which have it elsewhere.
_SIGNS = (
    "/proc/driver/nvidia/version",
    "/dev/nvidiactl",
    "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    "/usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1",
    "/usr/lib64/libnvidia-ml.so.1",
    "/usr/lib/libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    "/run/opengl-driver/lib/libnvidia-ml.so.1",
)

# What to do about NVML's errors; by name, since the numbers are the package's to know.
_REMEDIES = {
    "NVML_ERROR_DRIVER_NOT_LOADED": "load the driver (`modprobe nvidia`), or start the container "
    "with its GPU (`--gpus all`)",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "the driver was updated while it ran: restart the "
    "machine, or the container if it brings its own library",
    "NVML_ERROR_LIBRARY_NOT_FOUND": "install the driver's library libnvidia-ml.so.1, or start the "
    "container with NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    "NVML_ERROR_NO_PERMISSION": "this user may not use the GPU: see who may open /dev/nvidia*",
    "NVML_ERROR_GPU_IS_LOST": "it has fallen off the bus: see `dmesg` for an Xid, and restart the "
    "machine",
    "NVML_ERROR_RESET_REQUIRED": "it needs a reset: `nvidia-smi --gpu-reset`, or restart the "
    "machine",
}
_SEE_SMI = "see what `nvidia-smi` says"
_NO_DRIVER = (
    "there is no NVIDIA driver: install it where there is a GPU, or declare another host in "
    "ENGINERY_HOST"
)
_NO_PACKAGE = (
    "there is an NVIDIA driver, but the package that asks it is missing: pip install nvidia-ml-py"
)
_OTHER_PACKAGE = (
    "the module pynvml has no {}, so it is another package's or an old one: "
    "pip install --force-reinstall nvidia-ml-py"
)
_NO_INSTANCE = (
    "GPU {0} is left out: MIG is on and it has no instance, so create one "
    "(`nvidia-smi mig -i {0} -cgi <profile> -C`) or turn MIG off"
)

_NEEDED = (
    "NVMLError",
    "NVML_DEVICE_MIG_ENABLE",
    "nvmlInit",
    "nvmlShutdown",
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetName",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
)

_T = TypeVar("_T")


class Discrete(msgspec.Struct, frozen=True, kw_only=True):
    """What NVML said; the fields are those of `Host`."""

    driver: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    remarks: tuple[str, ...] = ()


def find(root: Root, environ: Mapping[str, str]) -> Discrete:
    """The GPUs that a program started here sees; what NVML refuses is a remark."""
    if not any(map(root.exists, _SIGNS)):
        return Discrete(remarks=(_NO_DRIVER,))
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return Discrete(remarks=(_NO_PACKAGE,))
    return ask(nvml, environ)


def ask(nvml: ModuleType, environ: Mapping[str, str]) -> Discrete:
    """The same from the module `pynvml` of nvidia-ml-py."""
    missing = [name for name in _NEEDED if not hasattr(nvml, name)]
    if missing:
        return Discrete(remarks=(_OTHER_PACKAGE.format(missing[0]),))
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Discrete(remarks=(f"NVML does not start: {_words(nvml, error)}",))
    try:
        return _survey(nvml, environ)
    except nvml.NVMLError as error:
        return Discrete(remarks=(f"NVML cannot count the GPUs: {_words(nvml, error)}",))
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _survey(nvml: Any, environ: Mapping[str, str]) -> Discrete:
    found: list[Gpu] = []
    without_instance: list[int] = []
    remarks: list[str] = []
    count = nvml.nvmlDeviceGetCount()
    for index in range(count):
        try:
            gpu, mig_is_on = _gpu(nvml, index)
        except nvml.NVMLError as error:
            remarks.append(f"GPU {index} is left out: {_words(nvml, error)}")
            continue
        found.append(gpu)
        if mig_is_on and not gpu.mig:
            without_instance.append(index)
    kept, said = visible.select(tuple(found), environ)
    remarks.extend(_NO_INSTANCE.format(gpu.index) for gpu in kept if gpu.index in without_instance)
    if not count:
        remarks.append("the NVIDIA driver runs and has no GPU: see `lspci -d 10de:`")
    version = _if_supported(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
    return Discrete(
        driver=_if_supported(nvml, nvml.nvmlSystemGetDriverVersion),
        cuda=dotted_cuda(version) if version else None,
        gpus=tuple(gpu for gpu in kept if gpu.index not in without_instance),
        remarks=(*remarks, *said),
    )


def _gpu(nvml: Any, index: int) -> tuple[Gpu, bool]:
    """A GPU, and whether MIG is on."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    # Some GPUs share the host's memory (GB10), most know no MIG: both are "not supported".
    memory = _if_supported(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    modes = _if_supported(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle))
    mig_is_on = modes is not None and modes[0] == nvml.NVML_DEVICE_MIG_ENABLE
    return Gpu(
        index=index,
        name=nvml.nvmlDeviceGetName(handle),
        sm=10 * major + minor,
        uuid=_if_supported(nvml, lambda: nvml.nvmlDeviceGetUUID(handle)),
        memory_mib=memory.total >> 20 if memory else None,
        mig=_instances(nvml, handle) if mig_is_on else (),
    ), mig_is_on


def _instances(nvml: Any, handle: Any) -> tuple[str, ...]:
    def instance(place: int) -> Any:
        return nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)

    # There are places for the most instances that there can be; an empty one is "not found".
    places = range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    found = (_unless(nvml, partial(instance, place), "NVML_ERROR_NOT_FOUND") for place in places)
    return tuple(nvml.nvmlDeviceGetUUID(one) for one in found if one is not None)


def _if_supported(nvml: Any, call: Callable[[], _T]) -> _T | None:
    return _unless(nvml, call, "NVML_ERROR_NOT_SUPPORTED", "NVML_ERROR_FUNCTION_NOT_FOUND")


def _unless(nvml: Any, call: Callable[[], _T], *harmless: str) -> _T | None:
    """What a call returns, or None where it fails with one of some errors.

    Raises:
        NVMLError: It fails otherwise.
    """
    try:
        return call()
    except nvml.NVMLError as error:
        if error.value not in (getattr(nvml, name) for name in harmless):
            raise
        return None


def _words(nvml: Any, error: Any) -> str:
    named = (words for name, words in _REMEDIES.items() if getattr(nvml, name) == error.value)
    return f"{str(error).rstrip('.')}; {next(named, _SEE_SMI)}"
