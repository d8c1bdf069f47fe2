"""Enterprise TensorRT, 10.3 to 11.x: engines for Jetsons and data-centre GPUs.

An engine can be built only where it can run: on the target's GPU, with the target's TensorRT.
Hardware compatibility widens where an engine runs, not where it is built: it carries the compute
capability of the GPU that built it, and its mode.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import BuilderOptions
from ..errors import ElsewhereError, EngineBuildError, HostError, RuntimeUnavailableError
from ..hardware import HostCapabilities
from .protocol import platform_here
from .tensorrt_family import Place, TensorRTFamily, warn
from .tensorrt_options import check_dla, check_options
from .tensorrt_versions import END, FIRST, agrees, parts

if TYPE_CHECKING:
    from ..build import BuildConfig, EngineCacheEntry
    from ..host import Host
    from .gpu_slots import Slot

_NOT_INSTALLED = (
    "TensorRT is not installed; install the version of the target, the newest with: "
    "pip install tensorrt"
)
_NOT_ON_THIS_JETSON = (
    "TensorRT was not found; on a Jetson it is a part of JetPack: sudo apt install "
    "nvidia-jetpack, and make the virtual environment with --system-site-packages"
)

# Modules of Jetson whose TensorRT can be 10.3 or later: their JetPack is 6 or later.
_JETSONS = {87: ("Orin", "6.2"), 101: ("Thor", "7.0"), 110: ("Thor", "7.0")}
# JetPack 4 and 5, whose TensorRT is 8 at the most, end here.
_OLD_JETSONS = {53: "Jetson TX1 or Nano", 62: "Jetson TX2", 72: "Jetson Xavier"}
_FIRST_JETPACK = (6,)
_DISCRETE = (70, 75, 80, 86, 89, 90, 100, 103, 120)

# What runs on a Jetson: aarch64 is its only architecture.
_JETSON_PLATFORM = "linux-aarch64"


class TensorRT(TensorRTFamily):
    """Builds engines with enterprise TensorRT on a GPU of the target's kind."""

    name = "tensorrt"
    module = "tensorrt"
    loads_back = True

    def installed_version(self) -> str:
        """See `Runtime.installed_version`."""
        from ..probing.root import HERE  # not where the version is known
        from ..probing.tensorrt_library import tensorrt_version

        found = tensorrt_version()
        if found is None:
            raise RuntimeUnavailableError(_remedy(jetson=HERE.exists("/etc/nv_tegra_release")))
        return found

    def version_here(self, host: Callable[[], Host]) -> str:
        """See `Runtime.version_here`."""
        here = host()
        if here.trt is None and here.source != "probed":
            raise HostError(f"the host that {here.source} declares has no trt; add its TensorRT")
        if here.trt is None:
            raise RuntimeUnavailableError(_remedy(jetson=here.jetpack is not None))
        return here.trt

    def elsewhere(self, target: HostCapabilities, host: Host) -> str | None:
        """See `Runtime.elsewhere`."""
        # A host may not know the build number; what builds asks the library.
        same = host.trt is not None and agrees(host.trt, target.trt)
        if same and target.sm in host.sms and target.jetpack == host.jetpack:
            return None
        return f"it needs a host with {target}; this one is {host}"

    def runs_on(self, target: HostCapabilities, host: Host) -> bool:
        """See `Runtime.runs_on`: where it could be built, and nowhere else."""
        return self.elsewhere(target, host) is None

    def check_target(self, target: HostCapabilities) -> None:
        """See `Runtime.check_target`."""
        if target.cpu is not None or not isinstance(target.sm, int):
            raise ValueError(
                f"an engine of TensorRT is for one SM, not for {target}; write one target per SM"
            )
        sm = target.sm
        if sm in _OLD_JETSONS:
            raise ValueError(
                f"SM {sm} ({_OLD_JETSONS[sm]}) has no TensorRT 10: its last JetPack has 8; "
                "there is no engine for it"
            )
        if sm in _JETSONS and target.jetpack is None:
            name, jetpack = _JETSONS[sm]
            raise ValueError(
                f'SM {sm} is Jetson {name}; add its JetPack, for example jetpack = "{jetpack}"'
            )
        if sm in _DISCRETE and target.jetpack is not None:
            raise ValueError(f"SM {sm} is no Jetson; leave jetpack out")
        if sm < _DISCRETE[0]:
            raise ValueError(f"SM {sm} has no TensorRT 10; there is no engine for it")
        if target.jetpack is not None and parts(target.jetpack) < _FIRST_JETPACK:
            raise ValueError(
                f"JetPack {target.jetpack} has no TensorRT 10; write 6.0 or later, or leave it out"
            )
        if not FIRST <= parts(target.trt) < END:
            raise ValueError(
                f"TensorRT {target.trt} is not supported; write one from 10.3 to 11.x in full, "
                'for example trt = "10.3.0.30"'
            )
        if not re.fullmatch(r"\d+(\.\d+){3}", target.trt, re.ASCII):
            raise ValueError(
                f"TensorRT {target.trt} is not the full version; write its four numbers, the build "
                'number too, for example trt = "10.3.0.30"'
            )

    def check_options(self, options: BuilderOptions, target: HostCapabilities) -> None:
        """See `Runtime.check_options`."""
        check_options(options, target)

    def toolchain(self, target: HostCapabilities) -> Mapping[str, str]:
        """See `Runtime.toolchain`: facts of a Jetson, so that any host can judge its engines.

        A target that is no Jetson is taken to have the platform of this host.
        """
        return {
            "runtime": self.name,
            "tensorrt": target.trt,
            "platform": _JETSON_PLATFORM if target.jetpack else platform_here(),
        }

    def compile_engine(self, model_path: Path, build_config: BuildConfig) -> EngineCacheEntry:
        """Build and publish an engine; see `CompileEngineCallable.compile_engine`."""
        check_dla(build_config)
        return super().compile_engine(model_path, build_config)

    @contextmanager
    def place(self, target: HostCapabilities, host: Host | None) -> Iterator[Place]:
        """See `TensorRTFamily.place`: a GPU of the target's kind, one build at a time."""
        from platformdirs import user_cache_path

        from .gpu_slots import taken

        _check_library(target)
        here, slots = _slots(target, host)
        if not slots:
            raise ElsewhereError(f"an engine for {target} cannot be built here: this is {here}")
        cache = user_cache_path("enginery")
        with taken(slots, cache / "gpus", warn) as slot:
            known = f"sm{target.capabilities[0]}_cuda{here.cuda or '-unknown'}_trt{target.trt}"
            yield Place(slot.environment, cache / "timing" / f"{slot.model}_{known}.cache")


def _check_library(target: HostCapabilities) -> None:
    """The library knows its build number even where no metadata do."""
    from ..probing.tensorrt_library import tensorrt_version

    found = tensorrt_version(ask_library=True)
    if found is not None and not agrees(found, target.trt):
        raise EngineBuildError(
            f"the engine is for TensorRT {target.trt}, {found} is installed here; install that "
            "version or change the target"
        )


def _slots(target: HostCapabilities, declared: Host | None) -> tuple[Host, tuple[Slot, ...]]:
    """This machine and its GPUs of the target's kind; of a declared one if it has none."""
    from ..probing import probe, this_machine
    from .gpu_slots import slots_for

    for host in (this_machine(), declared or probe()):
        slots = slots_for(host, target.capabilities[0])
        if slots:
            break
    return host, slots


def _remedy(*, jetson: bool) -> str:
    return _NOT_ON_THIS_JETSON if jetson else _NOT_INSTALLED
