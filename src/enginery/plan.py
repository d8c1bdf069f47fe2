"""The plan of one engine: where it is, what it is made from, and whether it is there.

Everything that decides is here, and nothing that builds: a run with nothing to do loads no more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import BackboneSpec, EngineCompileRequest, PrecisionMode
from .digest import sha256_file
from .errors import CalibrationCacheError, EngineBuildError, InputChangedError
from .filename import TENSORRT, EngineFilenameSchema
from .hardware import HostCapabilities
from .inputs import InputDigests
from .recipe import EXTERNAL, Recipe, input_files
from .runtimes.protocol import CompileEngineCallable, Runtime
from .verdict import Fault, Verdict, judge

if TYPE_CHECKING:
    from .step import Step

KIND = "engine"


class EnginePlan:
    """One engine of a request, for one runtime.

    Attributes:
        spec: The backbone.
        request: The request that it belongs to.
        path: Where the engine is; its name carries the hardware.
    """

    def __init__(
        self, spec: BackboneSpec, request: EngineCompileRequest, runtime: CompileEngineCallable
    ) -> None:
        self.spec = spec
        self.request = request
        self._runtime = runtime
        self.path = request.cache_root / EngineFilenameSchema.build(
            model_name=spec.model_name,
            sm=request.host.sm,
            jetpack=request.host.jetpack,
            trt=request.host.trt,
            precision=request.precision,
            cpu=request.host.cpu,
            modes=spec.builder.modes,
            version_tag=runtime.version_tag if isinstance(runtime, Runtime) else TENSORRT,
        )

    @property
    def runtime_name(self) -> str:
        """The name that the runtime has in a corpus; empty for one that no corpus can name."""
        return self._runtime.name if isinstance(self._runtime, Runtime) else ""

    @property
    def is_lowered(self) -> bool:
        """Whether the runtime takes a model that was lowered to the precision."""
        return (
            isinstance(self._runtime, Runtime)
            and self._runtime.strongly_typed
            and self.request.precision is not PrecisionMode.FP32
        )

    def lowering(self, warn: Callable[[str], None] | None = None) -> Step:
        """How the model is lowered, where `is_lowered`; see `lowering.lowering_step`."""
        from .lowering import lowering_step  # not where every engine is in fp32

        request = self.request
        root = request.lowered_root or request.cache_root / ".enginery" / "lowered"
        return lowering_step(
            self.spec, request.precision, root, request.calibration_path, warn=warn
        )

    def judge(
        self, inputs: InputDigests, *, digest: Callable[[Path], str] = sha256_file
    ) -> Verdict:
        """Whether the engine is fresh, and if not, why. Changes nothing.

        Args:
            inputs: Digests of the inputs, remembered from earlier or worked out now.
            digest: How to hash the engine; whoever hashes ahead gives his own.
        """
        if not os.path.lexists(self.path):
            return Verdict(Fault.ABSENT, "; ".join(("it is not there", *self._other_hardware())))
        try:
            recipe = self.recipe(inputs)
        except (EngineBuildError, CalibrationCacheError) as error:
            return Verdict(Fault.INPUT, str(error))
        return judge(self.path, recipe, digest=digest)

    def _other_hardware(self) -> Iterator[str]:
        """What differs in engines of this model and precision that are there for others."""
        wanted = EngineFilenameSchema.parse(self.path.name)
        for name in sorted(path.name for path in self.path.parent.glob("*.engine")):
            try:
                tag = EngineFilenameSchema.parse(name)
            except ValueError:
                continue
            alike = [(t.model_name, t.precision, t.version_tag) for t in (tag, wanted)]
            if alike[0] == alike[1]:
                changes = [
                    f"{field}: {getattr(tag, field)} -> {getattr(wanted, field)}"
                    for field in ("sm", "cpu", "jetpack", "trt", "modes")
                    if getattr(tag, field) != getattr(wanted, field)
                ]
                yield f"{name} is there ({', '.join(changes)})"

    def recipe(self, inputs: InputDigests) -> Recipe:
        """What the engine is made from now.

        Raises:
            EngineBuildError: An input is missing or cannot be read.
            CalibrationCacheError: The calibration cache is.
        """
        request = self.request
        return Recipe(
            kind=KIND,
            inputs=self.input_digests(inputs),
            build={
                "precision": request.precision.value,
                "workspace_mb": request.workspace_mb,
                "profiles": [profile.as_dict() for profile in self.spec.optimization_profiles],
                **self.spec.builder.as_dict(),
                **self._lowering_settings(),
            },
            toolchain=self._toolchain(),
            target=_target(request.host),
        )

    def input_digests(self, inputs: InputDigests) -> dict[str, str]:
        """Role to digest of every input."""
        found = inputs.of_model(self.spec.onnx_path)
        calibration = self.request.calibration_path
        # Only int8 needs the cache; elsewhere one that is not there is no input.
        if calibration is not None and (
            self.request.precision is PrecisionMode.INT8 or calibration.exists()
        ):
            found["calibration"] = inputs.of_calibration(calibration)
        for index, plugin in enumerate(self.spec.builder.plugins):
            found[f"plugin/{index}/{Path(plugin).name}"] = inputs.of_data(Path(plugin))
        return found

    def input_names(self) -> dict[str, str]:
        """Role to file name, for inputs that are not external data."""
        calibration = self.request.calibration_path
        return {
            "onnx": self.spec.onnx_path.name,
            **({"calibration": calibration.name} if calibration else {}),
        }

    def input_paths(self, recipe: Recipe) -> dict[str, Path]:
        """Role to file of every input of a recipe of this engine, but for plugin libraries."""
        own = {"onnx": self.spec.onnx_path, "calibration": self.request.calibration_path}
        folder = self.spec.onnx_path.parent
        beside = {role: folder / role.removeprefix(EXTERNAL)
                  for role in recipe.inputs if role.startswith(EXTERNAL)}  # fmt: skip
        found = {**own, **beside}
        return {role: path for role in recipe.inputs if (path := found.get(role)) is not None}

    def _lowering_settings(self) -> dict[str, Any]:
        if not self.is_lowered:
            return {}
        from . import lowering  # not where every engine is in fp32

        return lowering.settings(self.spec.lowering, self.request.precision)

    def _toolchain(self) -> dict[str, str]:
        if not isinstance(self._runtime, Runtime):
            return {"tensorrt": self.request.host.trt}
        found = dict(self._runtime.toolchain(self.request.host))
        if self.is_lowered:
            from . import lowering  # not where every engine is in fp32

            found.update(lowering.toolchain(self.request.precision))
        return found


def check_unchanged(plan: EnginePlan, recipe: Recipe, inputs: InputDigests | None = None) -> None:
    """Raise InputChangedError unless every input is what a recipe says."""
    before, now = recipe.inputs, plan.input_digests(inputs or InputDigests())
    differ = input_files(dict(now.items() ^ before.items()), plan.input_names())
    if differ:
        raise changed(differ)


def changed(names: Iterable[str]) -> InputChangedError:
    """The error where inputs changed under a build."""
    return InputChangedError(
        f"{', '.join(sorted(names))} changed while the engine was built; "
        "nothing was published, run again"
    )


def _target(host: HostCapabilities) -> dict[str, Any]:
    found = {"sm": list(host.capabilities), "jetpack": host.jetpack}
    return found if host.cpu is None else {**found, "cpu": host.cpu}
