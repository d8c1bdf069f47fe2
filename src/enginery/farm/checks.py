"""Whether a worker is fit for a request: seen before any input is asked for."""

from __future__ import annotations

from pathlib import Path

from ..errors import EngineryError, FarmError
from ..external_data import external_data_locations
from ..hardware import HostCapabilities
from ..host import Host
from ..inputs import InputDigests
from ..plan import EnginePlan
from ..recipe import EXTERNAL, differences
from ..runtimes import load_runtime
from ..runtimes.protocol import Runtime
from ..runtimes.tensorrt_family import TensorRTFamily
from ..runtimes.tensorrt_versions import agrees
from .request import BuildRequest
from .tags import resource_of


class _Asked(EnginePlan):
    """The plan of an engine whose inputs are known by digest alone."""

    digests: dict[str, str]

    def input_digests(self, inputs: InputDigests) -> dict[str, str]:  # noqa: ARG002
        return self.digests


def check_buildable(request: BuildRequest, host: Host, tags: tuple[str, ...]) -> None:
    """Raise FarmError where this host is not what is asked for, or makes something else of it.

    Args:
        request: What is asked for.
        host: This machine.
        tags: What it offers.

    Raises:
        FarmError: It is refused; the message says why.
        RuntimeUnavailableError: The runtime is not installed here.
    """
    runtime, target = load_runtime(request.runtime), request.target
    tag = resource_of(runtime, target)
    if tag not in tags:
        raise FarmError(f"this worker does not offer {tag}; it is {host}")
    _check_version(runtime, target)
    reason = None if runtime.builds_anywhere else runtime.elsewhere(target, host)
    if reason:
        raise FarmError(f"it cannot be built here: {reason}")
    try:
        runtime.check_target(target)
        runtime.check_options(request.builder, target)
        if request.precision not in runtime.precisions():
            raise ValueError(f"{runtime.name} has no {request.precision}")
        runtime.check_precision(target, request.precision)
    except ValueError as error:
        raise FarmError(f"it cannot be built: {error}") from error
    _check_recipe(request, runtime)


def _check_version(runtime: Runtime, target: HostCapabilities) -> None:
    """A tag may be declared, and the version in it another than the one that is installed."""
    if not isinstance(runtime, TensorRTFamily):
        return
    found = runtime.installed_version()
    if not agrees(found, target.trt):
        raise FarmError(
            f"it is for {runtime.name} {target.trt}, and this worker has {found}, whatever its "
            "tag says"
        )


def _check_recipe(request: BuildRequest, runtime: Runtime) -> None:
    try:
        nowhere = Path("inputs")
        spec, asked = request.compile_request(nowhere, cache_root=nowhere, scratch=nowhere)
        plan = _Asked(spec, asked, runtime)
        plan.digests = dict(request.recipe.inputs)
        ours = plan.recipe(InputDigests())
    except (ValueError, EngineryError) as error:
        raise FarmError(f"it cannot be built: {error}") from error
    if ours.fingerprint != request.fingerprint:
        found = "; ".join(differences(request.recipe, ours))
        raise FarmError(f"this worker would make another engine of it: {found}")


def check_external(request: BuildRequest, inputs: Path) -> None:
    """Raise FarmError for a model that names files which did not come with it.

    Before anything of them is read: they could be any file of this host.
    """
    (model,) = (one.name for one in request.inputs if one.role == "onnx")
    named = set(external_data_locations(inputs / model))
    came = {one.name for one in request.inputs if one.role.startswith(EXTERNAL)}
    if named != came:
        which = ", ".join(sorted(named ^ came)[:3])
        raise FarmError(f"the model's external data are not those of the request: {which}")
