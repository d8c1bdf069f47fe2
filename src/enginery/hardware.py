"""What an engine is tied to: compute capability, JetPack and TensorRT build."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Sm = int | tuple[int, ...]
"""One compute capability as NVIDIA writes it (86 for 8.6), or several, sorted and distinct."""


def canonical_sm(sm: int | Iterable[int]) -> Sm:
    """One spelling per set of compute capabilities: a bare int for one, else a sorted tuple.

    Raises:
        ValueError: Nothing is given, or something that is no compute capability (10 to 999).
    """
    values = tuple(sm) if isinstance(sm, Iterable) else (sm,)
    if not values:
        raise ValueError("no compute capability is given; write one such as 86, or several")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not 10 <= value <= 999:
            raise ValueError(f"{value!r} is no compute capability; write 86 for 8.6, 120 for 12.0")
    distinct = tuple(sorted(set(values)))
    return distinct[0] if len(distinct) == 1 else distinct


@dataclass(frozen=True, slots=True)
class HostCapabilities:
    """The hardware and runtime version that engines are made for.

    Attributes:
        sm: Compute capability as an int (87 for 8.7), or several for a portable engine; an empty
            tuple where the engine runs on a CPU.
        jetpack: JetPack version such as "6.2", or None off Jetson.
        trt: Full TensorRT version with its build number, such as "10.3.0.30"; the runtime's own
            version where it is not TensorRT.
        cpu: Architecture and feature level of the CPU, such as "x86-64-v3", for an engine that
            runs on one; else None.
    """

    sm: Sm
    jetpack: str | None
    trt: str
    cpu: str | None = None

    @classmethod
    def probe(cls) -> HostCapabilities:
        """This machine, found without creating a CUDA context, or declared in `ENGINERY_HOST`.

        Raises:
            HostError: There is no GPU, no driver, or no TensorRT; the message says which.
        """
        from .probing import probe  # not where nobody asks

        return probe().capabilities()

    def __post_init__(self) -> None:
        if self.cpu is None:
            object.__setattr__(self, "sm", canonical_sm(self.sm))
        elif self.sm != ():
            raise ValueError(f"an engine is for SM {self.sm} or for the CPU {self.cpu}; write one")
        for name, value in (("jetpack", self.jetpack), ("trt", self.trt)):
            if not isinstance(value, str) and not (name == "jetpack" and value is None):
                raise ValueError(f"{name} {value!r} is no text; write it in quotes, like '6.2'")

    @property
    def capabilities(self) -> tuple[int, ...]:
        """The compute capabilities, always as a tuple."""
        return (self.sm,) if isinstance(self.sm, int) else self.sm

    def __str__(self) -> str:
        if self.cpu is not None and not self.capabilities:
            return f"CPU {self.cpu}, version {self.trt}"
        sms = ", ".join(map(dotted, self.capabilities))
        jetpack = f", JetPack {self.jetpack}" if self.jetpack else ""
        return f"SM {sms}{jetpack}, TensorRT {self.trt}"


def dotted(sm: int) -> str:
    """A compute capability as NVIDIA's pages write it: 8.7 for 87."""
    return f"{sm // 10}.{sm % 10}"
