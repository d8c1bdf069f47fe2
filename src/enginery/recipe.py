"""The recipe: all that determines an engine's bytes, and its fingerprint.

A recipe has four sections: the inputs by digest, the build's settings, the toolchain and the
target. Its fingerprint is the SHA-256 of its canonical JSON and is the content address of a build.
Two recipes are compared entry by entry, so that a reason can say what changed. docs/formats.md
is the specification.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from .digest import sha256_bytes, short

VERSION = 1

EXTERNAL = "external_data/"
"""Inputs that are external data of the ONNX carry their location in it after this prefix."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that determines the bytes of one artifact.

    Attributes:
        version: Version of this format.
        kind: What is made: "engine" or "lowered-onnx".
        inputs: Role of each input to the SHA-256 of its bytes, in hex.
        build: Settings: precision, workspace, profiles, builder options.
        toolchain: Name to full version of whatever makes the bytes.
        target: Hardware: compute capabilities and JetPack.
    """

    kind: str
    inputs: dict[str, str]
    build: dict[str, Any]
    toolchain: dict[str, str]
    target: dict[str, Any]
    version: int = VERSION

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return sha256_bytes(_encode(self))


def input_files(inputs: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """File name to digest, from role to digest.

    Args:
        inputs: Inputs of a recipe.
        names: Role to file name, for inputs that are not external data.
    """
    return {names.get(role, role.removeprefix(EXTERNAL)): digest for role, digest in inputs.items()}


def canonical_json(value: Any) -> bytes:
    """The one spelling of a value made of null, booleans, integers, strings, arrays and objects.

    Keys are sorted by code point, there is no white space, only what JSON demands is escaped, and
    the text is UTF-8. For ASCII keys and integers below 2**53 this is RFC 8785.

    Raises:
        ValueError: There is a float in it, whose spelling differs between writers.
        TypeError: There is something else that JSON has no spelling for.
    """
    _refuse_floats(msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else value)
    return _encode(value)


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _refuse_floats(value: Any) -> None:
    if isinstance(value, dict):
        value = value.values()
    elif isinstance(value, float):
        raise ValueError(f"a recipe holds no floats; write {value} as text")
    elif not isinstance(value, list | tuple):
        return
    for part in value:
        if not isinstance(part, str):
            _refuse_floats(part)


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry that differs between two recipes.

    Attributes:
        section: Part of the recipe: "kind", "inputs", "build", "toolchain" or "target".
        name: The entry; the role of an input.
        old: What it was; UNSET where it was not there.
        new: What it is now; UNSET where it is not there any more.
    """

    section: str
    name: str
    old: Any = msgspec.UNSET
    new: Any = msgspec.UNSET

    def __str__(self) -> str:
        """What a person would say changed."""
        if self.section != "inputs":
            return f"{self.name}: {_show(self.old)} -> {_show(self.new)}"
        what = role_in_words(self.name)
        if self.old is _NOT_SET:
            return f"{what} was added ({short(self.new)})"
        if self.new is _NOT_SET:
            return f"{what} was removed ({short(self.old)})"
        return f"{what} changed ({short(self.old)} -> {short(self.new)})"


def changes(before: Recipe, now: Recipe) -> Iterator[Change]:
    """What differs from one recipe to the other, entry by entry."""
    if before.kind != now.kind:
        yield Change("kind", "kind", before.kind, now.kind)
    for section in ("inputs", "build", "toolchain", "target"):
        for name, old, new in _changed(getattr(before, section), getattr(now, section)):
            yield Change(section, name, old, new)


def differences(before: Recipe, now: Recipe) -> Iterator[str]:
    """What a person would say changed from one recipe to the other, a phrase per entry."""
    return map(str, changes(before, now))


def role_in_words(role: str) -> str:
    """What a person calls an input."""
    return _ROLES.get(role, role.replace(EXTERNAL, "external data "))


_NOT_SET: Any = msgspec.UNSET

_ROLES = {"onnx": "the ONNX", "calibration": "the calibration cache"}


def _changed(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name, _NOT_SET), now.get(name, _NOT_SET)
        # Python takes 1 and True for equal, JSON does not.
        if old != new or type(old) is not type(new) or canonical_json(old) != canonical_json(new):
            yield name, old, new


def _show(value: Any) -> str:
    if value is _NOT_SET:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value)
