"""Stand-ins for objects of a TensorRT, made from its real classes so that they can do no more.

A stand-in has the attributes of its real class and no others; a property without a setter cannot
be set; a method takes what the signature in its docstring takes, by number, keyword and, where
that can be told, type. Enums, `Dims`, loggers and progress monitors need no library: they are the
real ones. What a method does beyond that is in `behaviour`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from signatures import Signature, signatures

# Special methods live on classes: a stand-in's class gets those that its real class has.
_SPECIAL = ("__bool__", "__len__", "__getitem__", "__iter__", "__enter__", "__exit__")
_OF_BYTES = ("__len__", "__getitem__", "__iter__", "__contains__", "__add__", "__mul__")

# Docstrings show C++'s name of a class where Python's was not known yet.
_CLASS = re.compile(r"(?:nv\w+::(?:v_\d+_\d+::)?|tensorrt\w*\.tensorrt\w*\.)([\w.]+)")
_CPP_NAMES = {"IBuilder": "Builder", "IRuntime": "Runtime", "IParserError": "ParserError"}

_LISTS = ("List[", "list[", "collections.abc.Sequence[")
# TensorRT converts these from sequences.
_FROM_SEQUENCE = {"Dims", "Dims2", "Dims3", "Dims4", "DimsHW", "Permutation"}


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__")


def _is_real(value: Any) -> bool:
    return isinstance(value, (int, float))


def _is_buffer(value: Any) -> bool:
    return isinstance(value, (bytes, bytearray, memoryview))


def _is_anything(value: Any) -> bool:
    return True


# Annotation to whether a value is taken. pybind11 also takes for a bool whatever has a truth
# value; code that gives something else there is wrong all the same.
_PLAIN: Mapping[str, Callable[[Any], bool]] = {
    "int": _is_whole,
    "typing.SupportsInt": _is_whole,
    "float": _is_real,
    "typing.SupportsFloat": _is_real,
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "bytes": _is_buffer,
    "buffer": _is_buffer,
    "typing_extensions.Buffer": _is_buffer,
    "collections.abc.Callable": callable,
    "capsule": _is_anything,
    "typing_extensions.CapsuleType": _is_anything,
    "object": _is_anything,
}


@dataclass(frozen=True)
class Call:
    """A method that was called or a property that was set (`value` is its only argument)."""

    on: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """What a stand-in knows; `values` are its properties and whatever its behaviour keeps."""

    vendor: Vendor
    real: type
    values: dict[str, Any]


Behaviour = Callable[..., Any]


class Vendor:
    """A vendor's module and the stand-ins made of its classes.

    Attributes:
        module: The real module.
        calls: Whatever was called or set on any stand-in, in order.
        settings: What a scenario asks of the behaviours, by name.
    """

    def __init__(
        self,
        module: ModuleType,
        behaviours: Mapping[str, Behaviour],
        heard: Callable[[Call], None] | None = None,
    ) -> None:
        """`behaviours` are by "Class.method" or "function"; `heard` is told of every call."""
        self.module = module
        self.calls: list[Call] = []
        self.settings: dict[str, Any] = {}
        self._behaviours = behaviours
        self._heard = heard
        self._classes: dict[type, type] = {}

    def make(self, kind: str, /, content: bytes = b"", **values: Any) -> Any:
        """A stand-in for an object of the class of this name."""
        return self.make_real(getattr(self.module, kind), content, values)

    def install(self, classes: Sequence[str], functions: Sequence[str]) -> None:
        """Put stand-ins into the module for these, which need the vendor's library."""
        for name in classes:
            setattr(self.module, name, self.class_for(getattr(self.module, name)))
        for name in functions:
            real = getattr(self.module, name)
            found = self._function(name, signatures(real, method=False), None)
            setattr(self.module, name, found)

    def class_for(self, real: type) -> type:
        """The class of the stand-ins for objects of a real class."""
        if real not in self._classes:
            special = {name: _special(name) for name in _SPECIAL if hasattr(real, name)}
            base: type = StandIn
            if real.__name__ == "IHostMemory":
                base = HostMemory
                special = {name: _refused(name) for name in _OF_BYTES} | special
                special["__bool__"] = lambda _: True
            made = _Class(real.__name__, (base,), {"__real__": real, "__vendor__": self, **special})
            self._classes[real] = made
        return self._classes[real]

    def call(
        self, owner: Any, name: str, overloads: Sequence[Signature], args: Any, kwargs: Any
    ) -> Any:
        """Check and record a call, and do what is to be done; `owner` is None for functions."""
        signature, bound = self._bind(overloads, args, kwargs)
        on = state(owner).real.__name__ if owner is not None else ""
        self._record(on, name, bound)
        behaviour = self._behaviours.get(f"{on}.{name}" if on else name)
        if behaviour is None:
            return self._blank(signature.returns)
        return behaviour(self if owner is None else owner, *bound.values())

    def get(self, owner: Any, name: str, found: property) -> Any:
        """The value of a property: what was set, or that of its type which is zero."""
        values = state(owner).values
        if name not in values:
            behaviour = self._behaviours.get(f"{state(owner).real.__name__}.{name}")
            if behaviour is not None:
                return behaviour(owner)
            (getter,) = signatures(found.fget, method=True)
            kind = self._class(getter.returns)
            values[name] = None if kind and not _is_enum(kind) else self._blank(getter.returns)
        return values[name]

    def set(self, owner: Any, name: str, found: property, value: Any) -> None:
        """Check, record and keep the value of a property."""
        real = state(owner).real.__name__
        if found.fset is None:
            raise AttributeError(f"property {name!r} of {real!r} object has no setter")
        for signature in signatures(found.fset, method=True):
            self._check(f"{real}.{name}", signature.parameters[0].annotation, value)
        self._record(real, name, {"value": value})
        state(owner).values[name] = value

    def make_real(self, real: type, content: bytes, values: Mapping[str, Any]) -> Any:
        """A stand-in for an object of a real class."""
        kind = self.class_for(real)
        made = kind.__new__(kind, content) if issubclass(kind, bytes) else kind.__new__(kind)
        object.__setattr__(made, "state", State(self, real, dict(values)))
        return made

    def _function(
        self, name: str, overloads: Sequence[Signature], owner: Any
    ) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            return self.call(owner, name, overloads, args, kwargs)

        return function

    def _record(self, on: str, name: str, arguments: Mapping[str, Any]) -> None:
        call = Call(on, name, arguments)
        self.calls.append(call)
        if self._heard:
            self._heard(call)

    def _bind(
        self, overloads: Sequence[Signature], args: Any, kwargs: Any
    ) -> tuple[Signature, dict[str, Any]]:
        wrong: list[str] = []
        for signature in overloads:
            try:
                bound = signature.bind(args, kwargs)
                for one in signature.parameters:
                    if one.name in bound:
                        self._check(f"{signature}, {one.name}", one.annotation, bound[one.name])
            except TypeError as error:
                wrong.append(str(error))
            else:
                return signature, bound
        raise TypeError("; ".join(wrong))

    def _check(self, where: str, annotation: str, value: Any) -> None:
        if not self._fits(annotation, value):
            raise TypeError(f"{where}: {value!r} is no {annotation}")

    def _fits(self, annotation: str, value: Any) -> bool:
        kind = self._class(annotation)
        if kind is not None:
            if kind.__name__ in _FROM_SEQUENCE and isinstance(value, (list, tuple)):
                return all(self._fits("int", one) for one in value)
            return isinstance(value, kind) or (value is None and not _is_enum(kind))
        if annotation.startswith(_LISTS):
            inner = annotation[annotation.index("[") + 1 : -1]
            return isinstance(value, (list, tuple)) and all(self._fits(inner, v) for v in value)
        if annotation not in _PLAIN:
            raise NotImplementedError(f"a type that this cannot check: {annotation!r}")
        return _PLAIN[annotation](value)

    def _class(self, annotation: str) -> type | None:
        """The real class that an annotation names, if it names one of the module."""
        named = _CLASS.fullmatch(annotation)
        if named is None:
            return None
        found: Any = self.module
        for part in _CPP_NAMES.get(named[1], named[1]).split("."):
            found = getattr(found, part, None)
        return getattr(found, "__real__", found) if isinstance(found, type) else None

    def _blank(self, annotation: str) -> Any:
        kind = self._class(annotation)
        if kind is not None:
            if _is_enum(kind):
                return next(one for one in kind.__members__.values() if int(one) == 0)
            return kind() if kind.__name__ in _FROM_SEQUENCE else self.make_real(kind, b"", {})
        if annotation.startswith(_LISTS):
            return []
        return {"int": 0, "float": 0.0, "bool": False, "str": "", "bytes": b""}.get(annotation)


class _Class(type):
    """Calling such a class is constructing an object of the real one; so is looking at it."""

    __real__: type
    __vendor__: Vendor

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        overloads = signatures(cls.__real__.__init__, method=True)
        made = cls.__vendor__.make_real(cls.__real__, b"", {})
        cls.__vendor__.call(made, "__init__", overloads, args, kwargs)
        return made

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.__real__, name)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.__real__)


class StandIn:
    """Stands in for an object of `state.real`; see the module."""

    @property
    def __class__(self) -> Any:
        return state(self).real

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        found = _of_class(self, name)
        if isinstance(found, property):
            return state(self).vendor.get(self, name, found)
        if isinstance(found, FunctionType):
            return found.__get__(self)
        if type(found).__name__ == "instancemethod":
            return state(self).vendor._function(name, signatures(found, method=True), self)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        found = _of_class(self, name)
        if not isinstance(found, property):
            raise AttributeError(f"{name!r} of {state(self).real.__name__!r} cannot be set")
        state(self).vendor.set(self, name, found, value)

    def __repr__(self) -> str:
        return f"<{state(self).real.__name__}>"


class HostMemory(StandIn, bytes):
    """`IHostMemory` has the buffer protocol, which before Python 3.12 only bytes can lend it."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def state(stand_in: Any) -> State:
    """What a stand-in knows."""
    found: State = object.__getattribute__(stand_in, "state")
    return found


def _of_class(stand_in: Any, name: str) -> Any:
    real = state(stand_in).real
    for kind in real.__mro__:
        if name in vars(kind):
            return vars(kind)[name]
    raise AttributeError(f"{real.__name__!r} object has no attribute {name!r}")


def _is_enum(kind: type) -> bool:
    return hasattr(kind, "__members__")


def _special(name: str) -> Callable[..., Any]:
    def special(self: Any, *args: Any) -> Any:
        real = getattr(state(self).real, name)
        if isinstance(real, FunctionType):
            return real(self, *args)
        return state(self).vendor.call(self, name, signatures(real, method=True), args, {})

    return special


def _refused(name: str) -> Callable[..., Any]:
    def refused(self: Any, *_: Any) -> Any:
        raise TypeError(f"{state(self).real.__name__!r} object has no {name}")

    return refused
