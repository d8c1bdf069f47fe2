"""Hardware tags: what a build needs and what a worker offers, as the names of Dask's resources.

A tag says all that decides whether a worker can build a target, so that the scheduler needs to
compare no more than names. Nothing is believed because of a tag: a worker looks again before it
builds.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..errors import EngineryError, HostError, RuntimeUnavailableError
from ..hardware import HostCapabilities
from ..host import Host
from ..runtimes import known, load_runtime
from ..runtimes.protocol import Runtime, platform_here

PREFIX = "enginery"


class Offer(msgspec.Struct, frozen=True):
    """What a host can build.

    Attributes:
        tags: A tag for each kind of engine.
        remarks: What was expected and is not offered, and why; one sentence each.
    """

    tags: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def resource_of(runtime: Runtime, hardware: HostCapabilities) -> str:
    """The tag of a target, such as "enginery:tensorrt:sm87:jp6.2:10.3.0.30:linux-aarch64".

    Where the runtime builds on every host, hardware is no part of it: one tag per version.
    """
    platform = runtime.toolchain(hardware).get("platform", platform_here())
    if runtime.builds_anywhere:
        return ":".join((PREFIX, runtime.name, "any", hardware.trt, platform))
    where = "sm" + "-".join(map(str, hardware.capabilities))
    if hardware.cpu is not None:
        where = f"cpu-{hardware.cpu}"
    jetpack = f"jp{hardware.jetpack}" if hardware.jetpack else "nojp"
    return ":".join((PREFIX, runtime.name, where, jetpack, hardware.trt, platform))


def offered(host: Host) -> Offer:
    """What a host offers: every engine of every installed runtime that can be built on it."""
    tags: list[str] = []
    remarks: list[str] = []
    for name in known():
        try:
            runtime = load_runtime(name)
            tags += _tags(runtime, host, remarks)
        except RuntimeUnavailableError as error:
            remarks.append(f"{name} is not offered: {error}")
    return Offer(tuple(dict.fromkeys(tags)), tuple(remarks))


def _tags(runtime: Runtime, host: Host, remarks: list[str]) -> Iterator[str]:
    if runtime.builds_anywhere:
        # Which hardware makes no difference; this one is as good as any.
        yield resource_of(runtime, HostCapabilities(89, None, runtime.installed_version()))
        return
    if not host.gpus and not runtime.cpu_targets:
        remarks.append(f"{runtime.name} is not offered: this host has no GPU")
    # Whether a runtime for CPUs can use this GPU, too, only a build would tell.
    for sm in (None,) if runtime.cpu_targets else host.sms:
        try:
            jetpack = host.jetpack if sm is not None else None
            target = runtime.resolve(sm, jetpack, None, lambda: host)
            runtime.check_target(target)
        except (HostError, ValueError) as error:
            remarks.append(f"{runtime.name} is not offered: {error}")
            continue
        reason = runtime.elsewhere(target, host)
        if reason is None:
            yield resource_of(runtime, target)
        else:
            remarks.append(f"{runtime.name} is not offered: {reason}")


def check_tag(tag: str) -> str:
    """A tag that a person declares.

    Raises:
        EngineryError: It is none.
    """
    parts = tag.split(":")
    if parts[0] != PREFIX or len(parts) < 5 or not all(parts) or len(tag) > 200:
        raise EngineryError(
            f"{tag!r} is no hardware tag; write one such as "
            "enginery:tensorrt:sm87:jp6.2:10.3.0.30:linux-aarch64"
        )
    return tag
