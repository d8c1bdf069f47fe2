"""The tables of corpus.toml as types: what the parser takes, and what the JSON Schema says.

Their docstrings are what an editor shows. `extra_json_schema` has what other code of the parser
demands and a type cannot say; it is for the schema alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .config import DEFAULT_WORKSPACE_MB, LoweringOptions, Mib, PrecisionMode

TARGET_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""What a target may be called."""

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
"""What a backbone may be called, for the schema; `filename.check_model_name` is what decides."""

_VERSION = r"^[A-Za-z0-9][A-Za-z0-9.+-]*$"

# A size of TensorRT's, which is a signed 32-bit number in places.
_Positive = Annotated[int, Meta(ge=1, lt=1 << 31)]
_Shape = Annotated[list[_Positive], Meta(min_length=1)]
_Text = Annotated[str, Meta(min_length=1)]
_Version = Annotated[str, Meta(min_length=1, extra_json_schema={"pattern": _VERSION})]
_Runtime = Annotated[str, Meta(min_length=1)]
_Distinct = {"uniqueItems": True}
_Names = Annotated[list[_Text], Meta(min_length=1, extra_json_schema=_Distinct)]
_Precisions = Annotated[list[PrecisionMode], Meta(min_length=1, extra_json_schema=_Distinct)]
_Capability = Annotated[int, Meta(extra_json_schema={"minimum": 10, "maximum": 999})]
_Capabilities = Annotated[list[_Capability], Meta(extra_json_schema={"minItems": 1})]
_Sizes = Annotated[dict[str, _Shape], Meta(extra_json_schema={"minProperties": 1})]


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """A table of corpus.toml."""


class CorpusTable(_Table):
    """`[corpus]`: the engines' folder and defaults for every backbone.

    Attributes:
        engines: Folder of the engines.
        precision: What is built of every backbone: "fp32" is the model as it is, the others are
            lowered from it.
        targets: Names of the targets that every backbone is built for.
        workspace_mb: Workspace memory pool of the builder, in MiB.
        require_check: Whether an engine is fresh only if its lowered model passed its check.
    """

    engines: _Text = "engines"
    precision: _Precisions | None = None
    targets: _Names | None = None
    workspace_mb: Mib = DEFAULT_WORKSPACE_MB
    require_check: bool = False


class TargetTable(_Table):
    """`[targets.<name>]`: a runtime and the hardware to build for.

    Attributes:
        runtime: "tensorrt_rtx", "tensorrt", "onnxruntime", or one that another package brings.
        sm: Compute capability without the dot, 87 for 8.7, or several for one engine. Left out
            under [targets.host], which is this machine, and for a CPU.
        precision: What is built for this target where a backbone does not say.
        jetpack: JetPack version, such as "6.2".
        trt: The runtime's full version, such as "10.3.0.30"; the installed one where left out.
        workspace_mb: Workspace memory pool of the builder for this target, in MiB.
        elsewhere: What becomes of its engines on a host that cannot build them: their tasks fail
            and say why, or are skipped.
        builder: Builder options for this target; those of a backbone come first.
    """

    runtime: _Runtime
    sm: _Capability | _Capabilities | None = None
    precision: _Precisions | None = None
    jetpack: _Version | None = None
    trt: _Version | None = None
    workspace_mb: Mib | None = None
    elsewhere: Literal["fail", "skip"] = "fail"
    builder: dict[str, Any] = {}


class ProfileTable(_Table):
    """`[[backbones.<name>.profiles]]`: smallest, best and largest shape per input.

    Attributes:
        min: Smallest shape of each input.
        opt: The shape of each input that kernels are tuned for.
        max: Largest shape of each input.
    """

    min: _Sizes
    opt: _Sizes
    max: _Sizes


class CalibrateTable(_Table):
    """`[backbones.<name>.calibrate]`: how the calibration cache is computed.

    Attributes:
        data: A pattern for .npz or .npy files, such as "calib/*.npz", or "module:function", a
            function that yields dicts of arrays.
        method: How ranges are found.
        percentile: For "percentile": which one.
    """

    data: _Text
    method: Literal["entropy", "minmax", "percentile"] = "percentile"
    percentile: Annotated[float, Meta(gt=50, le=100)] = 99.99


class BackboneTable(_Table):
    """`[backbones.<name>]`: a model, its shapes, and what to build of it.

    Attributes:
        onnx: The model; its external data is found by itself.
        expected_input_shape: Static shape of the input, batch first; not needed with profiles.
        input_name: The input that expected_input_shape is for.
        precision: What is built: a list, or a table of lists by target.
        targets: Names of the targets that it is built for.
        workspace_mb: Workspace memory pool of the builder, in MiB.
        calibration: TensorRT calibration cache, which int8 needs; a table calibrate makes one.
        calibrate: How the calibration cache is computed.
        profiles: Ranges of shapes, for inputs with dynamic dimensions.
        builder: Builder options.
        lowering: How the model is lowered to a precision.
        check: How lowered models are compared with the original; a plain doit does it then.
        require_check: Whether an engine is fresh only if its lowered model passed its check.
    """

    onnx: _Text
    expected_input_shape: _Shape | None = None
    input_name: _Text = "input"
    precision: _Precisions | dict[str, _Precisions] | None = None
    targets: _Names | None = None
    workspace_mb: Mib | None = None
    calibration: _Text | None = None
    calibrate: CalibrateTable | None = None
    profiles: list[ProfileTable] = []
    builder: dict[str, Any] = {}
    lowering: LoweringOptions = LoweringOptions()
    check: dict[str, Any] | None = None
    require_check: bool | None = None


class CorpusFile(_Table):
    """corpus.toml: which ONNX models become engines, of which precision, for which hardware.

    The tables in it are read one by one, so that a fault has its key.

    Attributes:
        schema: Version of the format.
        corpus: The engines' folder and defaults for every backbone.
        host: Declares this machine, instead of probing it.
        store: Where engines are kept besides the engine folder.
        trust: Whose signatures count, and with what builds are signed.
        farm: Who builds what this host cannot.
        targets: What engines are built for, by name.
        backbones: The models, by name.
    """

    schema: Annotated[int, Meta(extra_json_schema={"const": 1})]
    corpus: dict[str, Any] = {}
    host: dict[str, Any] | None = None
    store: dict[str, Any] = {}
    trust: dict[str, Any] = {}
    farm: dict[str, Any] = {}
    targets: dict[str, Any] = {}
    backbones: dict[str, Any] = {}
