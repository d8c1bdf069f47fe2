"""The host: the machine that we are on, as it was found or declared."""

from __future__ import annotations

import msgspec

from .errors import HostError
from .hardware import HostCapabilities, dotted


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU of the host.

    Attributes:
        index: Its number in the driver's order.
        name: What its maker calls it.
        sm: Compute capability, 87 for 8.7.
        uuid: The driver's identifier, or None where there is none, as on a Jetson.
        memory_mib: Its memory in MiB, or None where it shares the host's.
        mig: Identifiers of its MIG instances; empty where MIG is off.
    """

    index: int
    name: str
    sm: int
    uuid: str | None = None
    memory_mib: int | None = None
    mig: tuple[str, ...] = ()


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a machine.

    Attributes:
        source: Where it is known from: "probed", or where it was declared.
        cpu: Architecture and feature level of the CPU, such as "x86-64-v3".
        gpus: The GPUs that a program started here sees.
        board: A Jetson's model, as its device tree says.
        l4t: Release of Jetson Linux, such as "36.4.3".
        jetpack: JetPack version, such as "6.2".
        driver: Version of the driver.
        cuda: Highest CUDA version that the driver supports.
        trt: TensorRT version, with its build number where that can be found.
        remarks: What could not be found out, and why; one sentence each.
    """

    source: str
    cpu: str
    gpus: tuple[Gpu, ...] = ()
    board: str | None = None
    l4t: str | None = None
    jetpack: str | None = None
    driver: str | None = None
    cuda: str | None = None
    trt: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def sms(self) -> tuple[int, ...]:
        """The distinct compute capabilities of its GPUs, in their order."""
        return tuple(dict.fromkeys(gpu.sm for gpu in self.gpus))

    def capabilities(self) -> HostCapabilities:
        """Its first GPU and its TensorRT, as a target.

        Raises:
            HostError: It has no GPU or no TensorRT.
        """
        if self.trt is None:
            self.sm()
            raise HostError(
                f"no TensorRT was found: this host is {self}; install it, or declare the host"
            )
        return HostCapabilities(sm=self.sm(), jetpack=self.jetpack, trt=self.trt)

    def sm(self) -> int:
        """The compute capability of its first GPU.

        Raises:
            HostError: It has none.
        """
        if not self.gpus:
            raise HostError("; ".join((f"no GPU was found: this host is {self}", *self.remarks)))
        return self.gpus[0].sm

    def __str__(self) -> str:
        sms = f"SM {', '.join(map(dotted, self.sms))}" if self.gpus else f"{self.cpu} without a GPU"
        jetpack = f", JetPack {self.jetpack}" if self.jetpack else ""
        trt = f", TensorRT {self.trt}" if self.trt else ", no TensorRT"
        declared = "" if self.source == "probed" else f", as {self.source} declares it"
        return f"{sms}{jetpack}{trt}{declared}"
