"""Whether the profiles that were asked for fit the inputs that the graph has."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ..errors import BackboneSpecError

DYNAMIC = -1


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input of the network; `shape` has -1 for a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        sizes = ", ".join("?" if size == DYNAMIC else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} [{sizes}]"


class ProfileRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shapes of one input in one profile."""

    index: int
    input_name: str
    min: list[int]
    opt: list[int]
    max: list[int]

    @property
    def static(self) -> bool:
        """Whether it allows one shape only, as `expected_input_shape` does."""
        return self.min == self.opt == self.max


def check_profiles(inputs: list[GraphInput], ranges: list[ProfileRange]) -> None:
    """Raise BackboneSpecError, with the graph's own inputs, unless every range fits.

    Checked are names, ranks, static dimensions, min <= opt <= max, and that every dynamic input
    has a range in every profile.
    """
    shown = "the graph's inputs are: " + "; ".join(map(str, inputs))
    by_name = {graph_input.name: graph_input for graph_input in inputs}
    for entry in ranges:
        if entry.input_name not in by_name:
            raise BackboneSpecError(
                f"the graph has no input {entry.input_name!r}; {shown}", field="input_name"
            )
        _check_range(by_name[entry.input_name], entry, shown)
    for index in {entry.index for entry in ranges}:
        named = {entry.input_name for entry in ranges if entry.index == index}
        for graph_input in inputs:
            if DYNAMIC in graph_input.shape and graph_input.name not in named:
                raise BackboneSpecError(
                    f"input {graph_input.name!r} has a dynamic dimension and no shapes in "
                    f"profile {index}; give it min, opt and max; {shown}",
                    field="profiles",
                )


def _check_range(graph_input: GraphInput, entry: ProfileRange, shown: str) -> None:
    field = "expected_input_shape" if entry.static else "profiles"
    for shape in (entry.min, entry.opt, entry.max):
        fits = len(shape) == len(graph_input.shape) and all(
            size in (DYNAMIC, asked) for size, asked in zip(graph_input.shape, shape, strict=True)
        )
        if not fits:
            raise BackboneSpecError(
                f"{shape} does not fit input {graph_input.name!r}; {shown}", field=field
            )
    ordered = all(
        0 < low <= best <= high
        for low, best, high in zip(entry.min, entry.opt, entry.max, strict=True)
    )
    if not ordered:
        raise BackboneSpecError(
            f"min {entry.min}, opt {entry.opt}, max {entry.max} of input {graph_input.name!r} "
            f"are not in order; every size must be positive and min <= opt <= max; {shown}",
            field=field,
        )
