"""Which GPUs CUDA_VISIBLE_DEVICES leaves to a program.

NVIDIA, CUDA C++ Programming Guide, "CUDA Environment Variables": indices or identifiers, of which
a beginning that is unique will do; the first that is none ends the list; nothing listed is
nothing seen. PyTorch found out the rest (torch/cuda/__init__.py, `_parse_visible_devices`): an
entry of another kind than the first ends the list, one that comes twice hides all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from enginery.host import Gpu

DEVICES = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"
_BY_BUS = "PCI_BUS_ID"

_INDEX, _WHOLE, _INSTANCE = "", "GPU-", "MIG-"

Selection = tuple[tuple[Gpu, ...], tuple[str, ...]]
"""The GPUs that are left, in the order asked for, and remarks."""


def select(gpus: tuple[Gpu, ...], environ: Mapping[str, str]) -> Selection:
    """What a program sees of GPUs that are given in the driver's order, that of the PCI bus."""
    listed = environ.get(DEVICES)
    if listed is None:
        return gpus, _order_remarks(gpus, environ)
    entries = [entry.strip() for entry in listed.split(",")]
    kind = _kind(entries[0])
    chosen: list[Gpu] = []
    refused = ""
    for entry in entries:
        gpu = _choose(gpus, entry) if _kind(entry) == kind else None
        if gpu is None:
            refused = entry
            break
        if gpu in chosen:
            return (), (f"{DEVICES}={listed!r} names a GPU twice, so CUDA sees none: mend it",)
        chosen.append(gpu)
    remarks = list(_order_remarks(gpus, environ)) if chosen and kind == _INDEX else []
    if refused not in ("", "-1"):
        remarks.append(
            f"{DEVICES}={listed!r} is followed only up to {refused!r}, which is no GPU here: "
            "`nvidia-smi -L` lists them"
        )
    elif gpus and not chosen:
        remarks.append(f"no GPU is visible{hint(environ)}")
    return _merged(chosen), tuple(remarks)


def hint(environ: Mapping[str, str]) -> str:
    """The end of a sentence on GPUs that are not seen; empty without CUDA_VISIBLE_DEVICES."""
    listed = environ.get(DEVICES)
    return "" if listed is None else f", since {DEVICES} is {listed!r}: unset it to see all"


def _kind(entry: str) -> str:
    return entry[:4] if entry.startswith((_WHOLE, _INSTANCE)) else _INDEX


def _choose(gpus: tuple[Gpu, ...], entry: str) -> Gpu | None:
    kind = _kind(entry)
    if kind == _INDEX:
        # CUDA reads an index as strtoul does: "1gpu" is 1.
        index = re.match(r"\d+", entry, re.ASCII)
        found = [gpu for gpu in gpus if index and gpu.index == int(index[0])]
    elif kind == _WHOLE:
        found = [gpu for gpu in gpus if gpu.uuid and gpu.uuid.startswith(entry)]
    else:
        found = [
            msgspec.structs.replace(gpu, mig=(mig,))
            for gpu in gpus
            for mig in gpu.mig
            if mig.startswith(entry)
        ]
    return found[0] if len(found) == 1 else None


def _merged(chosen: list[Gpu]) -> tuple[Gpu, ...]:
    """Each GPU once, also where several of its instances were chosen."""
    merged: dict[int, Gpu] = {}
    for gpu in chosen:
        before = merged.get(gpu.index, gpu)
        mig = tuple(dict.fromkeys((*before.mig, *gpu.mig)))
        merged[gpu.index] = msgspec.structs.replace(gpu, mig=mig)
    return tuple(merged.values())


def _order_remarks(gpus: tuple[Gpu, ...], environ: Mapping[str, str]) -> tuple[str, ...]:
    if environ.get(_ORDER) == _BY_BUS or len({gpu.sm for gpu in gpus}) < 2:
        return ()
    remark = (
        "the GPUs differ, and CUDA numbers them by speed while the driver numbers them by bus: "
        f"set {_ORDER}={_BY_BUS} so that both mean the same GPU"
    )
    return (remark,)
