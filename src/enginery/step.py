"""A step: one artifact, made from files by a function in a process of its own.

Lowered models, calibration caches and checks are steps. What is made has a sidecar and a
provenance like an engine, is judged like one, and is made again only when it must be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import atomic, provenance
from .errors import EngineryError, InputChangedError
from .inputs import InputDigests
from .locks import locked
from .publish import owned_paths, publish
from .recipe import Recipe, input_files
from .verdict import Fault, Verdict, judge


@dataclass(frozen=True, slots=True)
class Step:
    """How one artifact is made.

    Attributes:
        path: Where it is.
        kind: What it is, for its recipe.
        inputs: Role to digest of every file that it is made from, worked out now; raises
            EngineryError where one is missing.
        build: Settings, for the recipe.
        toolchain: Name to version of whatever determines its bytes.
        names: Role to file name, for inputs that are not external data.
        entry: The function that makes it, see `worker.started`. It gets `request` with "output",
            the temporary path to write, and "artifact", the final file name; and returns
            "sha256", the digest of what it wrote, and "versions".
        request: What it is asked, in JSON's types.
        environment: Variables that the function's process gets on top of this one's.
        before: Called before it is made: makes or checks what the step rests on.
        fault: What is wrong with files that it names, where its own bytes are right; or None.
        tidy: Called when it was made anew: removes what an older one named.
        show: Called with what the function reports while it runs.
    """

    path: Path
    kind: str
    inputs: Callable[[InputDigests], dict[str, str]]
    build: Mapping[str, Any]
    toolchain: Mapping[str, str]
    names: Mapping[str, str]
    entry: str
    request: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[InputDigests], object] | None = field(default=None, compare=False)
    fault: Callable[[Path], str | None] | None = field(default=None, compare=False)
    tidy: Callable[[Path], None] | None = field(default=None, compare=False)
    show: Callable[[str], None] | None = field(default=None, compare=False)

    def recipe(self, inputs: InputDigests) -> Recipe:
        """What it is made from now.

        Raises:
            EngineryError: An input is missing or cannot be read.
        """
        return Recipe(
            kind=self.kind,
            inputs=self.inputs(inputs),
            build=dict(self.build),
            toolchain=dict(self.toolchain),
            target={},
        )

    def judge(self, inputs: InputDigests) -> Verdict:
        """Whether it is there and what it should be. Changes nothing."""
        if not os.path.lexists(self.path):
            return Verdict(Fault.ABSENT, "it is not there")
        try:
            recipe = self.recipe(inputs)
        except EngineryError as error:
            return Verdict(Fault.INPUT, str(error))
        verdict = judge(self.path, recipe)
        if verdict.fresh and self.fault and (reason := self.fault(self.path)):
            return Verdict(Fault.SIDECAR, reason)
        return verdict

    def make(self, inputs: InputDigests) -> Path:
        """Make it, unless it is fresh; returns its path.

        Raises:
            EngineryError: It cannot be made, or an input changed meanwhile; nothing is published.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            if not self.judge(inputs).fresh:
                atomic.clear_leftovers(owned_paths(self.path))
                self._make(inputs)
        return self.path

    def _make(self, inputs: InputDigests) -> None:
        from . import worker  # not where nothing is made

        began = datetime.now(timezone.utc)
        with (
            atomic.staged(self.path) as temporary,
            worker.started(
                self.entry, environment=self.environment, label=self.path.name, show=self.show
            ) as make,
        ):
            recipe = self.recipe(inputs)
            if self.before:
                self.before(inputs)
            request = {**self.request, "output": str(temporary), "artifact": self.path.name}
            try:
                made = make(request)
            except EngineryError:
                # A file that is being written may not even parse; that it changed is the reason.
                self._check_inputs(recipe)
                raise
            self._check_inputs(recipe)
            document = provenance.write_statement(
                self.path,
                made["sha256"],
                recipe,
                dependencies=input_files(recipe.inputs, self.names),
                versions=made["versions"],
                started=began,
            )
            publish(temporary, self.path, made["sha256"], document)
            if self.tidy:
                self.tidy(self.path)

    def _check_inputs(self, recipe: Recipe) -> None:
        now = self.inputs(InputDigests())
        if now != recipe.inputs:
            changed = input_files(dict(now.items() ^ recipe.inputs.items()), self.names)
            raise InputChangedError(
                f"{', '.join(sorted(changed))} changed while {self.path.name} was made; "
                "nothing was published, run again"
            )
