"""The stand-ins can do no more than the real objects: tried on TensorRT-RTX, which is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorrt_rtx as trt
from signatures import SignatureError, signatures
from spec import Call, Vendor


@pytest.fixture
def vendor() -> Vendor:
    return Vendor(trt, {})


@pytest.fixture
def config(vendor: Vendor) -> Any:
    return vendor.make("IBuilderConfig")


def test_a_property_is_kept_and_recorded(vendor: Vendor, config: Any) -> None:
    assert config.max_aux_streams == 0
    config.max_aux_streams = 3
    assert config.max_aux_streams == 3
    assert vendor.calls == [Call("IBuilderConfig", "max_aux_streams", {"value": 3})]


def test_a_call_is_recorded_by_the_names_of_its_arguments(vendor: Vendor, config: Any) -> None:
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, pool_size=8)
    wanted = {"pool": trt.MemoryPoolType.WORKSPACE, "pool_size": 8}
    assert vendor.calls == [Call("IBuilderConfig", "set_memory_pool_limit", wanted)]


def test_values_of_the_declared_types(config: Any) -> None:
    assert config.profiling_verbosity is trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    assert config.progress_monitor is None
    assert config.get_flag(trt.BuilderFlag.TF32) is False
    assert isinstance(config.create_timing_cache(b""), trt.ITimingCache)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda c: c.max_auxiliary_streams, AttributeError, "no attribute 'max_auxiliary_streams'"),
        (lambda c: setattr(c, "max_auxiliary_streams", 1), AttributeError, "max_auxiliary_streams"),
        (lambda c: setattr(c, "num_optimization_profiles", 1), AttributeError, "no setter"),
        (lambda c: setattr(c, "set_flag", 1), AttributeError, "'set_flag' of 'IBuilderConfig'"),
        (lambda c: setattr(c, "max_aux_streams", "1"), TypeError, "max_aux_streams: '1'"),
        (lambda c: setattr(c, "max_aux_streams", 1.0), TypeError, r"max_aux_streams: 1\.0"),
        (lambda c: setattr(c, "max_aux_streams", None), TypeError, "max_aux_streams: None"),
        (lambda c: setattr(c, "engine_capability", None), TypeError, "engine_capability: None"),
        (lambda c: setattr(c, "progress_monitor", object()), TypeError, "IProgressMonitor"),
        (lambda c: c.set_flag(), TypeError, "lacks flag"),
        (lambda c: c.set_flag(7), TypeError, "flag: 7 is no .*BuilderFlag"),
        (lambda c: c.set_flag(trt.BuilderFlag.TF32, 1), TypeError, "takes 1 arguments, 2 given"),
        (lambda c: c.set_flag(flags=trt.BuilderFlag.TF32), TypeError, "no such keyword.*'flags'"),
        (lambda c: c.set_flag(trt.BuilderFlag.TF32, flag=1), TypeError, "no such keyword.*'flag'"),
        (lambda c: c.set_timing_cache(c, ignore_mismatch=False), TypeError, "ITimingCache"),
        (lambda c: c.set_timing_cache(None, ignore_mismatch=0), TypeError, "ignore_mismatch: 0"),
        (lambda c: c.create_timing_cache("text"), TypeError, "'text'"),
        (len, TypeError, "len()"),
        (lambda c: c[0], TypeError, "subscriptable"),
    ],
)  # fmt: skip
def test_what_the_real_one_refuses(
    vendor: Vendor, config: Any, wrong: Callable[[Any], object], error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        wrong(config)
    assert vendor.calls == []


def test_shapes_are_sequences_of_whole_numbers(vendor: Vendor) -> None:
    profile = vendor.make("IOptimizationProfile")
    profile.set_shape("input", [1, 3], (2, 3), trt.Dims([4, 3]))
    with pytest.raises(TypeError, match="opt: "):
        profile.set_shape("input", [1, 3], [2.5, 3], [4, 3])
    with pytest.raises(TypeError, match="input: 0"):
        profile.set_shape(0, [1, 3], [2, 3], [4, 3])


def test_overloads(vendor: Vendor) -> None:
    runtime = vendor.make("Runtime")
    assert isinstance(runtime.deserialize_cuda_engine(b"engine"), trt.ICudaEngine)
    with pytest.raises(TypeError, match=r"serialized_engine.*; .*stream_reader"):
        runtime.deserialize_cuda_engine("engine")


def test_an_engine_has_the_buffer_protocol_and_nothing_else_of_bytes(vendor: Vendor) -> None:
    memory = vendor.make("IHostMemory", b"engine")
    assert bytes(memory) == b"engine"
    assert bytes(memoryview(memory)) == b"engine"
    assert memory
    assert vendor.make("IHostMemory")
    for wrong in (len, lambda m: m[0], lambda m: m + b"", list):
        with pytest.raises(TypeError):
            wrong(memory)
    with pytest.raises(AttributeError):
        memory.hex()


def test_a_constructor_takes_what_the_real_one_takes() -> None:
    vendor = Vendor(trt, {})
    builder = vendor.class_for(trt.Builder)
    assert isinstance(builder(trt.Logger()), trt.Builder)
    assert hasattr(builder, "create_network")
    assert not hasattr(builder, "build_engine")
    with pytest.raises(TypeError, match="logger: 'log' is no"):
        builder("log")


def test_what_a_behaviour_does_comes_after_the_check(vendor: Vendor) -> None:
    heard = []
    acting = Vendor(trt, {"IBuilderConfig.set_flag": lambda _, flag: heard.append(flag)})
    config = acting.make("IBuilderConfig")
    with pytest.raises(TypeError):
        config.set_flag("TF32")
    config.set_flag(trt.BuilderFlag.TF32)
    assert heard == [trt.BuilderFlag.TF32]


def test_every_docstring_that_we_rely_on_is_a_signature() -> None:
    for name in ("Builder", "IBuilderConfig", "INetworkDefinition", "OnnxParser", "Runtime",
                 "IOptimizationProfile", "ITimingCache", "IPluginRegistry"):  # fmt: skip
        for member in vars(getattr(trt, name)).values():
            if type(member).__name__ == "instancemethod" and member.__doc__:
                assert signatures(member, method=True)


class Described:
    """Something with a docstring."""

    def __init__(self, text: str) -> None:
        self.__doc__ = text


def test_signatures() -> None:
    text = (
        "f(self: a.B, x: Tuple[int, str] = (1, 'a'), *, y: nv::E = <E.A: 0>) -> List[a.C]\n\nText."
    )
    (found,) = signatures(Described(text.replace("*, ", "")), method=True)
    assert [(one.name, one.annotation, one.has_default) for one in found.parameters] == [
        ("x", "Tuple[int, str]", True),
        ("y", "nv::E", True),
    ]
    assert found.returns == "List[a.C]"
    overloaded = (
        "f(*args, **kwargs)\nOverloaded function.\n\n1. f(x: int) -> int\n\n2. f() -> str\n"
    )
    assert [one.returns for one in signatures(Described(overloaded), method=False)] == [
        "int",
        "str",
    ]
    (unnamed,) = signatures(Described("(arg0: a.B, arg1: int) -> None"), method=True)
    assert unnamed.bind([3], {}) == {"arg1": 3}
    with pytest.raises(TypeError, match="arg1"):
        unnamed.bind([], {"arg1": 3})
    with pytest.raises(SignatureError):
        signatures(Described("Does something."), method=False)
