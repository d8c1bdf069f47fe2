"""TensorRT's builder configuration: set in full, then read back.

TensorRT logs or ignores what it does not take and goes on, so everything that is set is compared
with what the configuration then says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from operator import attrgetter, methodcaller
from types import ModuleType
from typing import Any, ClassVar

import msgspec
from polygraphy.backend.trt import Profile

from ..errors import EngineBuildError
from .profiles import ProfileRange

_MIB = 1 << 20


class BuildRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What the parent asks for; `tensorrt_family` fills it."""

    module: str
    version: str
    model: str
    output: str
    capabilities: list[int]
    workspace_mb: int
    profiles: list[ProfileRange]
    builder: dict[str, Any]
    plugins: list[str]
    load_back: bool = False
    timing_cache: str | None = None
    progress: bool = False


class Setting(msgspec.Struct, frozen=True):
    """A setting, its value, and how to ask a configuration for it."""

    name: str
    asked: Any
    read: Callable[[Any], Any]


class BuilderConfig(ABC):
    """How a TensorRT's `IBuilderConfig` is made for a request.

    Attributes:
        flags: Options and the `BuilderFlag` that each sets or clears.
    """

    flags: ClassVar[tuple[tuple[str, str], ...]] = (
        ("tf32", "TF32"),
        ("sparse_weights", "SPARSE_WEIGHTS"),
        ("weight_streaming", "WEIGHT_STREAMING"),
    )

    def __init__(self, trt: ModuleType, wanted: BuildRequest) -> None:
        self.trt, self.wanted = trt, wanted
        self.options = wanted.builder
        self.verbosity = self.member("ProfilingVerbosity", "profiling_verbosity")

    @abstractmethod
    def check(self, builder: Any, network: Any) -> None:
        """Refuse what cannot be built before the builder fails on it with fewer words."""

    @abstractmethod
    def create(self, common: Mapping[str, Any]) -> Any:
        """Polygraphy's functor; `common` are its arguments that do not depend on the runtime."""

    def adjust(self, config: Any) -> None:
        """Set what Polygraphy leaves alone: the flags, set or cleared."""
        for _, flag, value in self._flags():
            (config.set_flag if value else config.clear_flag)(flag)

    def default_pools(self) -> dict[Any, int]:
        """Memory pools in bytes that have a value where none is asked for."""
        trt = self.trt
        return {trt.MemoryPoolType.WORKSPACE: self.wanted.workspace_mb * _MIB}

    def settings(self) -> list[Setting]:
        """What the configuration has to say when it is read."""
        return [
            self.setting("builder_optimization_level", self.options["builder_optimization_level"]),
            self.setting("profiling_verbosity", self.verbosity),
            *(
                Setting(option, value, methodcaller("get_flag", flag))
                for option, flag, value in self._flags()
            ),
            Setting("profiles", len(self._profiles()), attrgetter("num_optimization_profiles")),
            *(
                Setting(str(pool), size, methodcaller("get_memory_pool_limit", pool))
                for pool, size in self._pools().items()
            ),
        ]

    @staticmethod
    def setting(name: str, asked: Any) -> Setting:
        """A setting that is a property of the same name."""
        return Setting(name, asked, attrgetter(name))

    def make(self, builder: Any, network: Any, monitor: Any = None) -> Any:
        """The configuration.

        Raises:
            EngineBuildError: TensorRT does not have a setting or did not take it.
            PolygraphyException: The same, found by Polygraphy.
        """
        trt = self.trt
        functor = self.create(
            {
                "profiles": self._profiles(),
                "memory_pool_limits": self._pools(),
                "builder_optimization_level": self.options["builder_optimization_level"],
                "profiling_verbosity": self.verbosity,
                "engine_capability": trt.EngineCapability.STANDARD,
                "runtime_platform": trt.RuntimePlatform.SAME_AS_BUILD,
                "progress_monitor": monitor,
            }
        )
        config = functor(builder, network)
        self.adjust(config)
        for setting in self.settings():
            found = setting.read(config)
            if found != setting.asked:
                raise EngineBuildError(
                    f"TensorRT did not take {setting.name} = {setting.asked}; it has {found}; "
                    "change the setting"
                )
        return config

    def member(self, enum: str, option: str, name: str | None = None) -> Any:
        """A member of one of TensorRT's enums, by default the one that an option names.

        Raises:
            EngineBuildError: This version has no such member.
        """
        name = (name or self.options[option]).upper()
        known = getattr(self.trt, enum).__members__
        if name not in known:
            raise EngineBuildError(
                f"{option}: TensorRT {self.trt.__version__} has no {enum}.{name}, only "
                f"{', '.join(known)}; remove it or use a TensorRT that has it"
            )
        return known[name]

    def _flags(self) -> list[tuple[str, Any, bool]]:
        return [
            (option, self.member("BuilderFlag", option, flag), bool(self.options.get(option)))
            for option, flag in self.flags
        ]

    def _pools(self) -> dict[Any, int]:
        given = {
            self.member("MemoryPoolType", f"memory_pools.{name}", name): size * _MIB
            for name, size in self.options.get("memory_pools", {}).items()
        }
        return {**self.default_pools(), **given}

    def _profiles(self) -> list[Profile]:
        profiles = []
        for index in sorted({entry.index for entry in self.wanted.profiles}):
            profile = Profile()
            for entry in self.wanted.profiles:
                if entry.index == index:
                    profile.add(entry.input_name, entry.min, entry.opt, entry.max)
            profiles.append(profile)
        return profiles
