"""Targets in full: what a corpus names, filled in by its runtime and by this host."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

import msgspec

from .corpus import Corpus
from .corpus_targets import TargetSpec, read_builder
from .errors import EngineryError, HostError, RuntimeUnavailableError
from .hardware import HostCapabilities
from .host import Host
from .runtimes import load_runtime
from .runtimes.protocol import Runtime

HOST = "host"
"""The target of this name is whatever this machine is."""


class Target(msgspec.Struct, frozen=True):
    """A target and what this host can do about it.

    Attributes:
        spec: The target as the corpus has it.
        runtime: Its runtime.
        hardware: The target in full; None where that takes a host that this one is not.
        elsewhere: Why its engines cannot be built here; None where they can.
    """

    spec: TargetSpec
    runtime: Runtime
    hardware: HostCapabilities | None
    elsewhere: str | None

    @property
    def name(self) -> str:
        """Its name in the corpus."""
        return self.spec.name


def host_of(corpus: Corpus) -> Callable[[], Host]:
    """How to find out what this machine is, or is declared to be; worked out once.

    Raises:
        HostError: It is declared in the environment, wrongly.
    """
    if os.environ.get("ENGINERY_HOST"):
        from .probing import probe

        # A mistake of the user's, not something that this host lacks.
        probe()

    @cache
    def host() -> Host:
        from .probing import probe  # not where no target asks

        return probe(corpus.host)

    return host


def full_targets(corpus: Corpus, host: Callable[[], Host]) -> dict[str, Target]:
    """Every target of a corpus by name.

    Args:
        corpus: The corpus.
        host: This machine; not called where no target depends on it.

    Raises:
        CorpusError: A runtime is not there or never builds for such hardware.
    """
    return {name: _believed(corpus, spec, host) for name, spec in corpus.targets.items()}


def _believed(corpus: Corpus, spec: TargetSpec, host: Callable[[], Host]) -> Target:
    """A target; what a runtime of another package does wrong is said to be its own fault."""
    try:
        return _full(corpus, spec, host)
    except EngineryError:
        raise
    except Exception as error:
        raise corpus.error(
            f"targets.{spec.name}.runtime",
            f"the runtime {spec.runtime!r} fails in its own code: {type(error).__name__}: {error}; "
            "tell whoever makes it",
        ) from error


def _full(corpus: Corpus, spec: TargetSpec, host: Callable[[], Host]) -> Target:
    key = f"targets.{spec.name}"
    try:
        runtime = load_runtime(spec.runtime)
    except RuntimeUnavailableError as error:
        raise corpus.error(f"{key}.runtime", str(error)) from error
    if spec.sm is None and spec.name != HOST and not runtime.cpu_targets:
        raise corpus.error(
            key, "the key 'sm' is missing; add it, for example sm = [86, 89, 120], or call the "
            f"target {HOST!r}, which is this machine"
        )  # fmt: skip
    try:
        hardware = runtime.resolve(spec.sm, spec.jetpack, spec.trt, host)
        if not isinstance(hardware, HostCapabilities):
            raise TypeError(f"resolve() returned {hardware!r}")
        runtime.check_target(hardware)
    except ValueError as error:
        if spec.sm is None and not runtime.cpu_targets:
            # Nobody wrote what is wrong: it is how this host is.
            return Target(spec, runtime, None, f"{error}; this host is {host()}")
        raise corpus.error(key, str(error)) from error
    except (HostError, RuntimeUnavailableError) as error:
        return Target(spec, runtime, None, str(error))
    try:
        runtime.check_options(read_builder(corpus.path, key, spec.builder), hardware)
    except ValueError as error:
        raise corpus.error(f"{key}.builder", str(error)) from error
    elsewhere = None if runtime.builds_anywhere else runtime.elsewhere(hardware, host())
    return Target(spec, runtime, hardware, elsewhere)
