"""One build with ONNX Runtime, in a process of its own: check, optimize, make whole, write, load.

ONNX Runtime writes the model that it optimized. Three things are then mended in it:

- Weights that the source keeps beside it are taken in; ONNX Runtime goes on pointing at them.
- Weights that an old model lists among its inputs are inputs no more; otherwise those that were
  folded away would have to be given.
- Its order and invented names get the one form that `onnxruntime_canonical` gives them. Nothing
  else differs from one process to the next or with the number of threads: tried with 1.32 on the
  models of the reference corpus in fp32, fp16 and int8, each eight times. A DenseNet-121 came in
  eight kinds before, and in one after.

What was written is loaded and not run. Loading finds every kernel that is missing; to run it takes
inputs that nobody gave, and zeros in their place fail in sound models: integers divided by them,
the step of a Range, a shape.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto, TensorProto, ValueInfoProto
from onnx.external_data_helper import load_external_data_for_model

from ..digest import write_hashed
from ..errors import EngineBuildError
from ..external_data import external_data_locations
from ..probing.cpu import level
from . import onnxruntime_tensorrt as tensorrt
from .onnxruntime_canonical import SourceNames, canonicalize
from .onnxruntime_runner import CPU, ERRORS, loaded, session_options, words
from .profiles import DYNAMIC, GraphInput, ProfileRange, check_profiles

# protobuf's limit for one message, and an engine is one.
_LARGEST = 2**31 - 1

# From onnxruntime_session_options_config_keys.h.
_SETTINGS = {
    # With "0" the integer kernels of a CPU without VNNI saturate: a product of two quantized
    # matrices came out as half of what it is, with ONNX Runtime 1.32.
    "session.x64quantprecision": "1",
    "session.disable_quant_qdq": "0",
    "session.enable_quant_qdq_cleanup": "0",
    "optimization.enable_gelu_approximation": "0",
    # What it packs is never used: this session runs nothing.
    "session.disable_prepacking": "1",
}

_TYPES: dict[int, str] = {TensorProto.FLOAT16: "half", TensorProto.BFLOAT16: "bf16"}


class BuildRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What the parent asks for; see `onnxruntime` for who fills it."""

    version: str
    cpu: str | None
    sm: list[int]
    model: str
    output: str
    workspace_mb: int
    profiles: list[ProfileRange]
    builder: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Input:
    """An input of the model; `sizes` has names where a dimension is left open."""

    name: str
    kind: int
    sizes: tuple[int | str, ...]

    @property
    def shown(self) -> GraphInput:
        """As messages show it, with TensorRT's words for types."""
        kind = _TYPES.get(self.kind, TensorProto.DataType.Name(self.kind).lower())
        shape = tuple(size if isinstance(size, int) else DYNAMIC for size in self.sizes)
        return GraphInput(self.name, kind, shape)


def build(request: dict[str, Any]) -> dict[str, str]:
    """Build the engine and write it to the request's output; returns its digest.

    Raises:
        EngineBuildError: It cannot be built here, or not be loaded; the output is of no use then.
    """
    wanted = msgspec.convert(request, BuildRequest)
    source, output = Path(wanted.model), Path(wanted.output)
    _check_machine(wanted)
    _check_size(source)
    model = _parsed(source)
    inputs = list(_inputs(model))
    check_profiles([one.shown for one in inputs], wanted.profiles)
    names = SourceNames.of(model)
    if wanted.cpu is None:
        options = tensorrt.provider_options(
            model, output, wanted.profiles, wanted.workspace_mb, wanted.builder
        )
        del model
        engine = _compiled(source, output, options, wanted.sm)
    else:
        del model
        engine = _optimized(source, output, _fixed_sizes(inputs, wanted.profiles))
        canonicalize(engine, names)
        _keep_inputs(engine, {one.name for one in inputs})
    data = _serialized(engine, source)
    del engine
    output.unlink()
    digest = write_hashed(output, data)
    del data
    loaded(str(output), on_gpu=wanted.cpu is None)
    return {"sha256": digest}


def _check_machine(wanted: BuildRequest) -> None:
    if ort.__version__ != wanted.version:
        raise EngineBuildError(
            f"the engine is for ONNX Runtime {wanted.version}, {ort.__version__} is installed "
            "here; install that version or change the target"
        )
    # A host may be declared; what the weights are laid out for is the CPU that lays them out.
    if wanted.cpu is not None and wanted.cpu != level():
        raise EngineBuildError(
            f"the engine is for the CPU {wanted.cpu}, this machine's is {level()}; build it on "
            "such a machine or change the target"
        )
    if wanted.cpu is None:
        tensorrt.check_provider(ort.get_available_providers())


def _check_size(source: Path) -> None:
    files = [source, *(source.parent / name for name in external_data_locations(source))]
    size = sum(file.stat().st_size for file in files if file.exists())
    if size > _LARGEST:
        raise _too_large(source, f"has {size / 2**30:.1f} GiB with its weights")


def _too_large(source: Path, what: str) -> EngineBuildError:
    return EngineBuildError(
        f"{source.name} {what}; an engine of ONNX Runtime is one ONNX file, which is limited to "
        "2 GiB: split the model, or build it with another runtime"
    )


def _parsed(source: Path) -> ModelProto:
    try:
        model = onnx.load(source, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise EngineBuildError(
            f"{source.name} is no ONNX model: {error}; it is damaged, export it again"
        ) from error
    if not model.graph.output:
        raise EngineBuildError(
            f"{source.name} holds no network; it is empty or no ONNX model, export it again"
        )
    return model


def _inputs(model: ModelProto) -> Iterator[_Input]:
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in weights:
            kind = value.type.tensor_type.elem_type
            if kind in (TensorProto.UNDEFINED, TensorProto.STRING):
                raise EngineBuildError(
                    f"input {value.name!r} is no tensor of numbers; take out of the model what it "
                    "is for, and export it again"
                )
            yield _Input(value.name, kind, tuple(_sizes(value)))


def _sizes(value: ValueInfoProto) -> Iterator[int | str]:
    for size in value.type.tensor_type.shape.dim:
        yield size.dim_value if size.HasField("dim_value") else size.dim_param


def _fixed_sizes(inputs: list[_Input], ranges: list[ProfileRange]) -> dict[str, int]:
    """Dimensions by name that have the same size in all profiles: they are open no more."""
    found: dict[str, set[int]] = {}
    for one in inputs:
        for entry in ranges:
            if entry.input_name == one.name:
                for name, *sizes in zip(one.sizes, entry.min, entry.opt, entry.max, strict=True):
                    if isinstance(name, str) and name:
                        found.setdefault(name, set()).update(sizes)
    return {name: min(sizes) for name, sizes in found.items() if len(sizes) == 1}


def _optimized(source: Path, output: Path, fixed: dict[str, int]) -> ModelProto:
    """The model as ONNX Runtime optimizes it for this CPU, all its weights in it."""
    options = session_options(ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.optimized_model_filepath = str(output)
    for name, value in _SETTINGS.items():
        options.add_session_config_entry(name, value)
    for name, size in fixed.items():
        options.add_free_dimension_override_by_name(name, size)
    _session_of(source, options, CPU)
    return _whole(output, source)


def _compiled(
    source: Path, output: Path, options: dict[str, Any], capabilities: list[int]
) -> ModelProto:
    """The model with TensorRT's engines in the place of its nodes."""
    # TensorRT optimizes by itself, and is to see Q/DQ nodes as they are.
    settings = session_options(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    for name, value in tensorrt.session_settings(output).items():
        settings.add_session_config_entry(name, value)
    session = _session_of(source, settings, tensorrt.providers(options))
    tensorrt.check_used(session.get_providers())
    del session
    engine = _whole(output, source)
    tensorrt.check_context(engine, capabilities)
    return engine


def _session_of(source: Path, options: Any, providers: list[Any]) -> Any:
    try:
        return ort.InferenceSession(str(source), options, providers=providers, enable_fallback=0)
    except ERRORS as error:
        said = words(error).replace(str(source), source.name)
        if "serialization failed" in said:
            raise _too_large(source, f"is too large once it is optimized ({said})") from error
        raise EngineBuildError(f"ONNX Runtime refused {source.name}: {said}") from error


def _whole(output: Path, source: Path) -> ModelProto:
    """What ONNX Runtime wrote, with what it left in the files of the source."""
    if not output.exists():
        raise EngineBuildError(
            f"ONNX Runtime made no engine of {source.name} and gave no reason; try another version"
        )
    model = onnx.load(output, format="protobuf", load_external_data=False)
    try:
        with warnings.catch_warnings():
            # Of keys in external data that onnx does not know; it goes on without them.
            warnings.simplefilter("ignore")
            load_external_data_for_model(model, str(source.parent))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise EngineBuildError(
            f"the external data of {source.name} cannot be read: {words(error)}; put the files "
            "themselves beside it, no links"
        ) from error
    return model


def _keep_inputs(model: ModelProto, names: set[str]) -> None:
    """Take out of the inputs what were weights: models before ONNX 1.5 list those there too."""
    kept = [value for value in model.graph.input if value.name in names]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _serialized(engine: ModelProto, source: Path) -> bytes:
    try:
        data: bytes = engine.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise _too_large(source, f"is too large once it is optimized ({error})") from error
    return data
