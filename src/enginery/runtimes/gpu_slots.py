"""One build at a time on a GPU, several at a time on several.

Two builds on one GPU disturb each other's timing of tactics, so that both engines come out slower.
A slot is a GPU, or a MIG instance where it is divided; whoever holds the lock of a slot builds on
it. Locks save work, correctness never rests on them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from ..host import Gpu, Host
from ..locks import locked_now

_PAUSE_S = 0.2

_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Slot(msgspec.Struct, frozen=True):
    """A place for a build.

    Attributes:
        name: What its lock is called; no other slot of the machine has it.
        model: What has the same timings: the GPU's model, or the MIG instance.
        environment: What makes a process see this place and no other.
    """

    name: str
    model: str
    environment: Mapping[str, str]


def slots_for(host: Host, sm: int) -> tuple[Slot, ...]:
    """The places of a host that have a compute capability; none where it has no such GPU.

    GPUs without an identifier, as a Jetson's or those that somebody declared, are one place where
    CUDA_VISIBLE_DEVICES is set: which of them are seen, and in which order, only the user knows.
    """
    found: list[Slot] = []
    unnamed: list[Gpu] = []
    for gpu in host.gpus:
        if gpu.sm == sm and gpu.mig:
            found += [_named(instance, instance) for instance in gpu.mig]
        elif gpu.sm == sm and gpu.uuid:
            found.append(_named(gpu.uuid, gpu.name))
        elif gpu.sm == sm:
            unnamed.append(gpu)
    listed = os.environ.get(_VISIBLE)
    if listed is None:
        found += [_numbered(gpu, several=len(host.gpus) > 1) for gpu in unnamed]
    elif unnamed:
        found.append(_listed(unnamed[0], host.gpus, listed.split(",")))
    return tuple(found)


def _named(uuid: str, model: str) -> Slot:
    return Slot(_file_name(uuid), _file_name(model), {_VISIBLE: uuid})


def _numbered(gpu: Gpu, *, several: bool) -> Slot:
    environment = {_VISIBLE: str(gpu.index), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if several else {}
    return Slot(f"gpu-{gpu.index}", _file_name(gpu.name), environment)


def _listed(gpu: Gpu, gpus: Sequence[Gpu], entries: Sequence[str]) -> Slot:
    """What CUDA_VISIBLE_DEVICES lists, left as it is; a build happens on the first of it.

    Only where the first is of another kind, and the list has an entry for each GPU of the host, is
    it narrowed to that of this GPU.
    """
    # Not its index, which is the driver's, where the host has only the GPUs that are listed.
    place = gpus.index(gpu) if len(entries) == len(gpus) else 0
    entry = entries[place]
    environment = {_VISIBLE: entry} if place else {}
    return Slot(_file_name(f"gpu-{entry}"), _file_name(gpu.name), environment)


@contextmanager
def taken(slots: Sequence[Slot], folder: Path, tell: Callable[[str], None]) -> Iterator[Slot]:
    """Hold the first slot that is free; waits where none is.

    A slot whose lock cannot be used is left out. Where no lock can be used, or no folder for them,
    the first slot is given without one, even if it is busy and others are free.

    Args:
        slots: At least one, the same for whoever builds on them.
        folder: Where the locks are; made if it is not there.
        tell: Called once where one has to wait, where the folder cannot be written, and for each
            lock that cannot be used.
    """
    slot, lock = _locked(slots, folder, tell)
    with lock:
        yield slot


def _locked(
    slots: Sequence[Slot], folder: Path, tell: Callable[[str], None]
) -> tuple[Slot, ExitStack]:
    """A slot and its lock, to be closed; nothing to be closed where there is no lock."""
    if not _is_writable(folder):
        tell(
            f"{folder} cannot be written, so builds on one GPU may disturb each other; "
            "make it writable, or set XDG_CACHE_HOME to a folder that is"
        )
        return slots[0], ExitStack()
    usable, told = list(slots), False
    while usable:
        for slot in tuple(usable):
            try:
                lock = _lock(folder / slot.name)
            # The second is what filelock 3 makes of a file system that has no locks.
            except (OSError, NotImplementedError) as error:
                usable.remove(slot)
                tell(
                    f"GPU {slot.name} cannot be locked: {error}; mend or remove what is there, "
                    "so that builds on it do not disturb each other"
                )
            else:
                if lock is not None:
                    return slot, lock
        if usable and not told:
            names = ", ".join(slot.name for slot in usable)
            tell(f"waiting for GPU {names}: one engine is built on it at a time")
            told = True
        if usable:
            time.sleep(_PAUSE_S)
    return slots[0], ExitStack()


def _lock(path: Path) -> ExitStack | None:
    """The lock of a slot, to be closed, or None where another process holds it."""
    with ExitStack() as stack:
        return stack.pop_all() if stack.enter_context(locked_now(path)) else None


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.") or "gpu"
