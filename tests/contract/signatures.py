"""Signatures of pybind11 functions, read from the docstrings that pybind11 writes.

`inspect` knows nothing of them, and so an autospecced mock would take any arguments. The first
line of such a docstring is the signature, or announces a numbered list of overloads:

    set_flag(self: tensorrt_bindings.tensorrt.IBuilderConfig, flag: ...BuilderFlag) -> None
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_POSITIONAL_ONLY = re.compile(r"arg\d+")
_OVERLOAD = re.compile(r"^\d+\. (.+)$", re.M)
_OPENING = {"[": "]", "(": ")", "<": ">", "{": "}"}


class SignatureError(Exception):
    """A docstring does not begin with a signature."""


@dataclass(frozen=True)
class Parameter:
    """One parameter: `name` as in the docstring, `annotation` as text."""

    name: str
    annotation: str
    has_default: bool

    @property
    def by_keyword(self) -> bool:
        """Whether it can be given by keyword; pybind11 calls those without a name arg0, arg1."""
        return not _POSITIONAL_ONLY.fullmatch(self.name)


@dataclass(frozen=True)
class Signature:
    """One overload of a function, without `self`."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: str

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Name to argument, in the order of the parameters.

        Raises:
            TypeError: Too many, too few, or a name that is not there.
        """
        if len(args) > len(self.parameters):
            raise TypeError(f"{self} takes {len(self.parameters)} arguments, {len(args)} given")
        bound = {one.name: value for one, value in zip(self.parameters, args, strict=False)}
        known = {one.name for one in self.parameters if one.by_keyword}
        for name, value in kwargs.items():
            if name not in known or name in bound:
                raise TypeError(f"{self} takes no such keyword argument: {name!r}")
            bound[name] = value
        missing = [
            one.name for one in self.parameters if one.name not in bound and not one.has_default
        ]
        if missing:
            raise TypeError(f"{self} lacks {', '.join(missing)}")
        return {one.name: bound[one.name] for one in self.parameters if one.name in bound}

    def __str__(self) -> str:
        shown = ", ".join(f"{one.name}: {one.annotation}" for one in self.parameters)
        return f"{self.name}({shown})"


def signatures(function: Any, *, method: bool) -> tuple[Signature, ...]:
    """The overloads of a function of a pybind11 module; of a method, without `self`."""
    text = getattr(function, "__doc__", None) or ""
    first = text.strip().split("\n", 1)[0]
    lines = _OVERLOAD.findall(text) if "(*args, **kwargs)" in first else [first]
    found = [_parse(line) for line in lines]
    if not found:
        raise SignatureError(f"no signature in {text!r}")
    if not method:
        return tuple(found)
    return tuple(Signature(one.name, one.parameters[1:], one.returns) for one in found)


def _parse(line: str) -> Signature:
    """Property getters and setters have no name: "(arg0: X) -> int"."""
    name, opened, rest = line.partition("(")
    if not opened or not re.fullmatch(r"\w*", name):
        raise SignatureError(f"no signature: {line!r}")
    inside, returns = _close(rest, line)
    return Signature(name, tuple(map(_parameter, _split(inside))), returns)


def _close(rest: str, line: str) -> tuple[str, str]:
    depth = 0
    for index, letter in enumerate(rest):
        if letter == "(":
            depth += 1
        elif letter == ")" and depth:
            depth -= 1
        elif letter == ")":
            arrow = rest[index + 1 :].strip()
            return rest[:index], arrow.removeprefix("->").strip()
    raise SignatureError(f"no signature: {line!r}")


def _split(text: str) -> Iterator[str]:
    """At commas outside brackets."""
    awaited: list[str] = []
    part = ""
    for letter in text:
        if letter in _OPENING:
            awaited.append(_OPENING[letter])
        elif awaited and letter == awaited[-1]:
            awaited.pop()
        if letter == "," and not awaited:
            yield part.strip()
            part = ""
        else:
            part += letter
    if part.strip():
        yield part.strip()


def _parameter(text: str) -> Parameter:
    name, _, rest = text.partition(":")
    annotation, equals, _ = rest.partition(" = ")
    return Parameter(name.strip(), annotation.strip(), bool(equals))
