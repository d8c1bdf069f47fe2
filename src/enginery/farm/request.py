"""A build as a worker is asked for it: a small, versioned JSON value, checked to the last field.

It names files by digest and by the names that the model has for them, never by a path of the
submitter. A worker works the recipe out again from it and refuses where it is another: another
TensorRT, other tools for lowering, other options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ..config import (
    BackboneSpec,
    BuilderOptions,
    EngineCompileRequest,
    LoweringOptions,
    Mib,
    OptimizationProfile,
    PrecisionMode,
)
from ..errors import FarmError
from ..filename import check_model_name
from ..hardware import HostCapabilities
from ..plan import KIND, EnginePlan
from ..recipe import EXTERNAL, Recipe

VERSION: Final = 1

KEY = "enginery-"
"""What a build's key, and the topic of its messages, begin with; its fingerprint follows."""

LIMIT = 256 << 10
"""Bytes of a request; what is longer is no request."""

_Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Meta(min_length=1, max_length=512)]
_Word = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._+-]+$")]
_Size = Annotated[int, Meta(ge=1, lt=1 << 31)]
_Shape = Annotated[tuple[_Size, ...], Meta(max_length=16)]
_NO_FILE = re.compile(r"[\x00-\x1f\x7f\\]")


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the parts of a request."""


class Input(_Strict, frozen=True):
    """A file that the engine is made from.

    Attributes:
        role: Its role in the recipe, "onnx" or "external_data/weights.bin".
        sha256: Digest of its bytes.
        size: How many bytes it has.
        name: Its file name, relative to the model's folder.
    """

    role: _Name
    sha256: _Sha256
    size: Annotated[int, Meta(ge=0, lt=1 << 42)]
    name: _Name


class Profile(_Strict, frozen=True):
    """An optimization profile's range of one input."""

    input_name: _Name
    min: _Shape
    opt: _Shape
    max: _Shape
    index: Annotated[int, Meta(ge=0, lt=64)] = 0


class Hardware(_Strict, frozen=True):
    """What the engine is for; see `HostCapabilities`."""

    sm: Annotated[tuple[Annotated[int, Meta(ge=10, le=999)], ...], Meta(max_length=16)]
    jetpack: _Word | None
    trt: _Word
    cpu: _Word | None = None


class BuildRequest(_Strict, frozen=True, kw_only=True):
    """One engine, asked for.

    Attributes:
        version: Version of this format.
        fingerprint: Fingerprint of the recipe; what the build goes by on the farm.
        recipe: What the engine is to be made from and by, as the submitter works it out; a worker
            that works out another says what differs.
        runtime: Name of the runtime.
        model_name: The backbone's name.
        inputs: Every file that it is made from.
        input_name: The network's input that the shape is for.
        shape: The static shape, empty where there are profiles.
        profiles: Explicit optimization profiles.
        builder: Builder options; plugin libraries are code, and are not taken.
        lowering: How the model is lowered.
        precision: What the network computes in.
        workspace_mb: Workspace memory pool in MiB.
        hardware: What it is for.
    """

    version: Literal[1] = VERSION
    fingerprint: _Sha256
    recipe: Recipe
    runtime: _Word
    model_name: _Name
    inputs: Annotated[tuple[Input, ...], Meta(min_length=1, max_length=4096)]
    input_name: _Name
    shape: _Shape
    profiles: Annotated[tuple[Profile, ...], Meta(max_length=256)]
    builder: BuilderOptions
    lowering: LoweringOptions
    precision: PrecisionMode
    workspace_mb: Mib
    hardware: Hardware

    @property
    def size(self) -> int:
        """Bytes of all inputs."""
        return sum(one.size for one in self.inputs)

    @property
    def target(self) -> HostCapabilities:
        """What it is for.

        Raises:
            ValueError: There is no such hardware.
        """
        asked = self.hardware
        return HostCapabilities(sm=asked.sm, jetpack=asked.jetpack, trt=asked.trt, cpu=asked.cpu)

    def encode(self) -> str:
        """As JSON.

        Raises:
            FarmError: It is too large.
        """
        text = msgspec.json.encode(self).decode()
        if len(text) > LIMIT:
            raise FarmError(
                f"{self.model_name}: the request for a build is larger than {LIMIT >> 10} KiB; "
                "name fewer nodes in keep_nodes, or fewer profiles"
            )
        return text

    def compile_request(
        self, inputs: Path, *, cache_root: Path, scratch: Path
    ) -> tuple[BackboneSpec, EngineCompileRequest]:
        """What the compiler is asked where the inputs lie in a folder under their names."""
        by_role = {one.role: inputs / one.name for one in self.inputs}
        spec = BackboneSpec(
            model_name=self.model_name,
            onnx_path=by_role["onnx"],
            expected_input_shape=self.shape,
            input_name=self.input_name,
            profiles=tuple(
                OptimizationProfile(one.input_name, one.min, one.opt, one.max, one.index)
                for one in self.profiles
            ),
            builder=self.builder,
            lowering=self.lowering,
        )
        return spec, EngineCompileRequest(
            backbones=(spec,),
            calibration_path=by_role.get("calibration"),
            cache_root=cache_root,
            precision=self.precision,
            host=self.target,
            workspace_mb=self.workspace_mb,
            lowered_root=scratch / "lowered",
        )


def request_for(
    plan: EnginePlan, recipe: Recipe, files: Mapping[str, Path], runtime: str
) -> BuildRequest:
    """The request for an engine.

    Args:
        plan: The engine.
        recipe: What it is made from now.
        files: Role to file, for every input of the recipe.
        runtime: Name of its runtime.

    Raises:
        FarmError: It cannot be built on the farm: it needs plugin libraries, or a name in it is
            one that no worker takes.
        OSError: An input is gone.
    """
    spec, asked = plan.spec, plan.request
    if spec.builder.plugins:
        raise FarmError(
            f"{spec.model_name} needs plugin libraries, and a worker takes no code; build it on "
            "its own hardware"
        )
    names = plan.input_names()
    request = BuildRequest(
        fingerprint=recipe.fingerprint,
        recipe=recipe,
        runtime=runtime,
        model_name=spec.model_name,
        inputs=tuple(
            Input(role, digest, files[role].stat().st_size,
                  names.get(role, role.removeprefix(EXTERNAL)))
            for role, digest in recipe.inputs.items()
        ),
        input_name=spec.input_name,
        shape=tuple(spec.expected_input_shape),
        profiles=tuple(
            Profile(one.input_name, one.min_shape, one.opt_shape, one.max_shape, one.index)
            for one in spec.profiles
        ),
        builder=spec.builder,
        lowering=spec.lowering,
        precision=asked.precision,
        workspace_mb=asked.workspace_mb,
        hardware=Hardware(
            sm=asked.host.capabilities,
            jetpack=asked.host.jetpack,
            trt=asked.host.trt,
            cpu=asked.host.cpu,
        ),
    )  # fmt: skip
    return read_request(request.encode())


def read_request(text: str, *, max_bytes: int | None = None) -> BuildRequest:
    """A request, checked.

    Args:
        text: Its JSON.
        max_bytes: How many bytes its inputs may have together; None for no bound.

    Raises:
        FarmError: It is none, is of another version, or holds a name, an option or a size that
            is out of bounds; the message says which.
    """
    if len(text) > LIMIT:
        raise FarmError(f"a request of {len(text)} bytes is refused: {LIMIT} are the most")
    try:
        request = msgspec.json.decode(text, type=BuildRequest)
        check_model_name(request.model_name)
        _check_inputs(request)
        _check_recipe(request)
        request.target  # noqa: B018 - raises for what is no hardware
        if request.builder.plugins:
            raise ValueError("it names plugin libraries, which are code")
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FarmError(
            f"the request for a build is refused: {error}; do both sides have the same enginery?"
        ) from error
    if max_bytes is not None and request.size > max_bytes:
        raise FarmError(
            f"{request.model_name} is refused: its inputs have {request.size / 1e6:.1f} MB, "
            f"{max_bytes / 1e6:.1f} MB are the most here"
        )
    return request


def _check_recipe(request: BuildRequest) -> None:
    recipe = request.recipe
    if recipe.kind != KIND or recipe.inputs != {one.role: one.sha256 for one in request.inputs}:
        raise ValueError("its recipe is for something else than its inputs")
    if recipe.fingerprint != request.fingerprint:
        raise ValueError("its recipe has another fingerprint")


def _check_inputs(request: BuildRequest) -> None:
    roles = [one.role for one in request.inputs]
    names = [one.name for one in request.inputs]
    if "onnx" not in roles:
        raise ValueError("there is no ONNX among its inputs")
    if len(set(roles)) != len(roles) or len(set(names)) != len(names):
        raise ValueError("two of its inputs have one role or one name")
    for one in request.inputs:
        external = one.role.startswith(EXTERNAL)
        if one.role not in ("onnx", "calibration") and not external:
            raise ValueError(f"{one.role!r} is no role of an input")
        if external and one.role != EXTERNAL + one.name:
            raise ValueError(f"external data {one.role!r} has another name, {one.name!r}")
        path = PurePosixPath(one.name)
        if (
            path.is_absolute()
            or _NO_FILE.search(one.name)
            or str(path) != one.name
            or ".." in path.parts
            or not path.parts
        ):
            raise ValueError(f"{one.name!r} is no file name below the model's folder")
    # A name that is a file and a folder of another.
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if folders & set(names):
        raise ValueError("one of its inputs is the folder of another")
