"""A host that somebody declared, so that lists and plans work away from it."""

from __future__ import annotations

import re

import msgspec

from enginery.errors import HostError
from enginery.hardware import canonical_sm, dotted
from enginery.host import Gpu, Host

from . import cpu

ENVIRONMENT = "ENGINERY_HOST"
_EXAMPLE = f"for example {ENVIRONMENT}='sm=87 jetpack=6.2 trt=10.3.0.30'"

FORMS = {
    "jetpack": (r"\d+\.\d+(?:\.\d+)?", "a JetPack version such as 6.2"),
    "trt": (r"\d+(?:\.\d+){2,3}", "a TensorRT version such as 10.3.0.30"),
    "cpu": (r"[a-z0-9]+(?:[.-][a-z0-9]+)*", "a CPU level such as x86-64-v3"),
}
"""Key to its form, and to what that is."""


class DeclaredHost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person says of a host: at least one of these, each of its form.

    Attributes:
        sm: Compute capability of its GPU, 87 for 8.7, or one for each GPU, in their order; without
            it the host has no GPU.
        jetpack: JetPack version, such as "6.2".
        trt: TensorRT version, such as "10.3.0.30".
        cpu: CPU level, such as "x86-64-v3"; without it, this machine's.
    """

    sm: int | tuple[int, ...] | None = None
    jetpack: str | None = None
    trt: str | None = None
    cpu: str | None = None

    def __post_init__(self) -> None:
        if self.sm is not None:
            canonical_sm(self.sm)
        for name, (form, what) in FORMS.items():
            value = getattr(self, name)
            if value is not None and not re.fullmatch(form, value, re.ASCII):
                raise ValueError(f"{name} {value!r} is not {what}")
        if all(getattr(self, name) is None for name in self.__struct_fields__):
            raise ValueError("nothing is declared; write at least one of sm, jetpack, trt, cpu")

    @property
    def capabilities(self) -> tuple[int, ...]:
        """The compute capabilities, always as a tuple."""
        if self.sm is None:
            return ()
        return (self.sm,) if isinstance(self.sm, int) else self.sm


def host_of(declared: DeclaredHost, *, source: str) -> Host:
    """The host that a declaration describes; only its CPU may be looked up."""
    return Host(
        source=source,
        cpu=declared.cpu or cpu.level(),
        gpus=tuple(
            Gpu(index=index, name=f"GPU of SM {dotted(sm)}", sm=sm)
            for index, sm in enumerate(declared.capabilities)
        ),
        jetpack=declared.jetpack,
        trt=declared.trt,
    )


def declared_in_environment(text: str) -> DeclaredHost:
    """The declaration that ENGINERY_HOST holds: `key=value`, parted by blanks or commas.

    Raises:
        HostError: It is not of that form; the message is one line and shows an example.
    """
    values: dict[str, object] = {}
    try:
        for word in filter(None, re.split(r"[\s,]+", text)):
            name, equals, value = word.partition("=")
            if not equals or name not in DeclaredHost.__struct_fields__:
                raise ValueError(f"{word!r} is none of sm=, jetpack=, trt=, cpu=")
            if name in values:
                raise ValueError(f"{name} is given twice; write several as sm=86+89")
            values[name] = _sms(value) if name == "sm" else value
        return msgspec.convert(values, DeclaredHost)
    except ValueError as error:
        raise HostError(f"{ENVIRONMENT}={text!r}: {_fault(error)}; {_EXAMPLE}") from error


def _sms(text: str) -> tuple[int, ...]:
    parts = text.split("+")
    if not all(re.fullmatch(r"\d{2,3}", part, re.ASCII) for part in parts):
        raise ValueError(f"sm {text!r} is no compute capability; write 87 for 8.7, 86+89 for two")
    return tuple(map(int, parts))


def _fault(error: ValueError) -> str:
    # msgspec adds the place of a fault, which in one line of text says nothing.
    return str(error).partition(" - at `")[0]
