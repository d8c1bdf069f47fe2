"""Sizes for the dimensions that a model leaves open. They are guesses and are said to be."""

from __future__ import annotations

import re

import msgspec

from .models import Dimension, ModelInput

Sizes = tuple[int, int, int]
"""Smallest, best and largest size."""

# What a dimension may be, by its name, and what is a likely size then. Images have the size that
# classifiers are trained for and twice that, both multiples of 32 as networks that scale down and
# up again need them; the largest sequence is that of BERT.
_BATCH, _CHANNELS, _PIXELS, _LENGTH = (1, 1, 8), (3, 3, 3), (224, 224, 448), (1, 128, 512)
_ANY = (1, 16, 64)
_NAMED: tuple[tuple[str, Sizes], ...] = (
    (r"batch|^(n|b|bs)$", _BATCH),
    (r"channel|^c$", _CHANNELS),
    (r"height|width|^(h|w)$", _PIXELS),
    (r"seq|len|token|time|frame|^(s|t|l)$", _LENGTH),
)

_COLOURS = (1, 3, 4)


class Profile(msgspec.Struct, frozen=True):
    """A profile for a model, and what was guessed in it.

    Attributes:
        sizes: Input to the sizes of each of its dimensions; inputs that are static are not there.
        guesses: What was guessed, a phrase per dimension.
    """

    sizes: dict[str, tuple[Sizes, ...]]
    guesses: tuple[str, ...]


def guess(inputs: tuple[ModelInput, ...]) -> Profile | None:
    """A profile for a model; None where nothing is open. Equal names get equal sizes."""
    named: dict[str, Sizes] = {}
    said: dict[str, None] = {}
    sizes: dict[str, tuple[Sizes, ...]] = {}
    for one in filter(lambda one: one.dynamic, inputs):
        row: list[Sizes] = []
        for axis, dimension in enumerate(one.shape):
            if isinstance(dimension, int):
                row.append((dimension,) * 3)
                continue
            found = _sizes(dimension, axis, one.shape)
            if dimension is not None:
                found = named.setdefault(dimension, found)
            row.append(found)
            said[f"{dimension or f'dimension {axis} of {one.name}'} {_words(found)}"] = None
        sizes[one.name] = tuple(row)
    return Profile(sizes, tuple(said)) if sizes else None


def _words(sizes: Sizes) -> str:
    return str(sizes[0]) if sizes[0] == sizes[2] else f"{sizes[0]} to {sizes[2]}"


def _sizes(name: Dimension, axis: int, shape: tuple[Dimension, ...]) -> Sizes:
    if isinstance(name, str):
        for pattern, sizes in _NAMED:
            if re.search(pattern, name, re.IGNORECASE):
                return sizes
    if axis == 0:
        return _BATCH
    if len(shape) == 4:
        return _of_image(axis, shape)
    return _LENGTH if axis == 1 else _ANY


def _of_image(axis: int, shape: tuple[Dimension, ...]) -> Sizes:
    """Batch, channels, height, width, unless the last dimension says that it has the channels."""
    last = shape[3] in _COLOURS and shape[1] not in _COLOURS
    return _CHANNELS if axis == (3 if last else 1) else _PIXELS
