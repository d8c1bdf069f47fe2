"""The explanation of one engine: what it was built from, and what is there now.

The old side is the provenance beside the engine, the new side the files and settings of now.
Nothing is built, nothing is changed, and nothing that lies on the disk raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path

import msgspec

from .config import PrecisionMode
from .digest import sha256_file
from .engine_job import EngineJob, UnknownEngine
from .errors import EngineryError, IrregularFileError, SignatureError
from .inputs import InputDigests
from .recipe import EXTERNAL, Change, Recipe, changes
from .sidecar import Sha256Sidecar
from .status import EngineStatus
from .store.layout import LocalStore
from .trust import check
from .verdict import Fault


class InputState(str, Enum):
    """What became of an input since the engine was built."""

    SAME = "same"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"
    UNREADABLE = "unreadable"

    def __str__(self) -> str:
        return self.value


class InputFile(msgspec.Struct, frozen=True):
    """One input of an engine, then and now.

    Attributes:
        role: Its role in the recipe.
        path: Where it is, or was.
        state: What became of it; "added" too where no provenance says what was there.
        old: SHA-256 that the provenance names; None where it names none.
        new: SHA-256 of now; None where it is no input any more, or cannot be read.
        size: Bytes of the file of now.
        modified: When the file of now was last written.
    """

    role: str
    path: Path
    state: InputState
    old: str | None = None
    new: str | None = None
    size: int | None = None
    modified: datetime | None = None


class EngineDigests(msgspec.Struct, frozen=True):
    """The three digests of an engine that have to agree; None where one cannot be had.

    Attributes:
        file: Of its bytes.
        sidecar: What its sidecar says.
        provenance: What its provenance says.
    """

    file: str | None = None
    sidecar: str | None = None
    provenance: str | None = None


class StoreAnswer(msgspec.Struct, frozen=True):
    """Whether the local store has the engine that would be built now.

    Attributes:
        path: Folder of the store.
        has: Whether it would be restored from there.
        reason: Why what is there would not be; None where nothing is there.
    """

    path: Path
    has: bool
    reason: str | None = None


class Explanation(msgspec.Struct, frozen=True):
    """Why an engine is what it is.

    Attributes:
        status: What it is.
        recipe: What it would be made from now, as far as its inputs can be read; None where the
            hardware is not known.
        fingerprint: Fingerprint of now; None where an input cannot be read.
        changes: What differs between the provenance and now; none where there is no provenance.
        inputs: Its inputs, changed ones and others.
        digests: The engine's own digests.
        store: What the local store has; None where it was not asked.
    """

    status: EngineStatus
    recipe: Recipe | None = None
    fingerprint: str | None = None
    changes: tuple[Change, ...] = ()
    inputs: tuple[InputFile, ...] = ()
    digests: EngineDigests = EngineDigests()
    store: StoreAnswer | None = None


class ReadableInputs(InputDigests):
    """Digests of those inputs that can be read; the others are left out, and nothing raises."""

    def __init__(self, known: InputDigests) -> None:
        super().__init__()
        self._known = known
        self.complete = True

    def of_model(self, onnx_path: Path) -> dict[str, str]:
        """Role to digest of the ONNX and of its external data."""
        paths = {**_external_data(onnx_path, self._known), "onnx": onnx_path}
        found = {role: self.of_data(path) for role, path in paths.items()}
        return {role: digest for role, digest in found.items() if digest}

    def of_calibration(self, path: Path) -> str:
        """Digest of a calibration cache, or nothing."""
        return self.of_data(path)

    def of_data(self, path: Path) -> str:
        """Digest of a file, or nothing."""
        try:
            return self._known.of_data(path)
        except EngineryError:
            self.complete = False
            return ""


def explain(status: EngineStatus, known: InputDigests) -> Explanation:
    """Compare an engine's provenance with what is there now.

    Args:
        status: What was found of the engine.
        known: Digests of inputs that are known already.

    Raises:
        EngineryError: A key of the corpus's policy cannot be used.
    """
    job = status.job
    if isinstance(job, UnknownEngine):
        return Explanation(status)
    readable = ReadableInputs(known)
    found = job.plan.recipe(readable)
    recipe = msgspec.structs.replace(found, inputs={r: d for r, d in found.inputs.items() if d})
    before = _comparable(status.statement.recipe, recipe) if status.statement else None
    fingerprint = recipe.fingerprint if readable.complete else None
    return Explanation(
        status=status,
        recipe=recipe,
        fingerprint=fingerprint,
        changes=tuple(changes(before, recipe)) if before else (),
        inputs=tuple(_inputs(job, input_paths(job, known), before, recipe)),
        digests=_digests(status, job),
        store=None if status.fresh or not fingerprint else in_store(job, recipe),
    )


def input_paths(job: EngineJob, known: InputDigests) -> dict[str, Path]:
    """Role to file of every input of now, whether it is there or not.

    Args:
        job: The engine.
        known: What is known of the inputs already.
    """
    spec, cache = job.plan.spec, job.request.calibration_path
    needed = cache and (job.request.precision is PrecisionMode.INT8 or cache.exists())
    plugins = {
        f"plugin/{index}/{Path(plugin).name}": Path(plugin)
        for index, plugin in enumerate(spec.builder.plugins)
    }
    return {
        "onnx": spec.onnx_path,
        **_external_data(spec.onnx_path, known),
        **({"calibration": cache} if cache and needed else {}),
        **plugins,
    }


def users_of_inputs(jobs: Iterable[EngineJob], known: InputDigests) -> dict[Path, list[str]]:
    """Every input to the tasks of the engines that it is an input of, in their order."""
    found: dict[Path, list[str]] = {}
    for job in jobs:
        for path in dict.fromkeys(input_paths(job, known).values()):
            found.setdefault(path, []).append(job.task)
    return found


def in_store(job: EngineJob, recipe: Recipe) -> StoreAnswer | None:
    """Whether the local store has an engine of a recipe, and would be believed.

    None where there is no local store. The engine's own bytes are not read.

    Raises:
        EngineryError: A key of the policy cannot be used.
    """
    spec = job.store
    if spec.path is None:
        return None
    if spec.rebuild is not None and (spec.rebuild / recipe.fingerprint).exists():
        return StoreAnswer(spec.path, has=False, reason="it was cleaned, so that it is built anew")
    store = LocalStore(spec.path)
    stored = store.find(recipe.fingerprint)
    if stored is None:
        return StoreAnswer(spec.path, has=False, reason=store.reasons.get(recipe.fingerprint))
    try:
        check(
            spec.policy,
            document=stored.document,
            envelope=stored.envelope,
            engine_sha256=stored.engine.sha256_hex,
            engine_name=stored.name,
            origin="local",
        )
    except SignatureError as error:
        return StoreAnswer(spec.path, has=False, reason=str(error))
    return StoreAnswer(spec.path, has=True)


def _comparable(before: Recipe, now: Recipe) -> Recipe:
    """Without external data where the ONNX, which would name it now, cannot be read."""
    if "onnx" in now.inputs:
        return before
    inputs = {r: digest for r, digest in before.inputs.items() if not r.startswith(EXTERNAL)}
    return msgspec.structs.replace(before, inputs=inputs)


def _external_data(onnx_path: Path, known: InputDigests) -> dict[str, Path]:
    try:
        locations = known.external_data(onnx_path)
    except (OSError, ValueError, EngineryError):
        return {}
    return {EXTERNAL + location: onnx_path.parent / location for location in locations}


def _inputs(
    job: EngineJob, paths: dict[str, Path], before: Recipe | None, now: Recipe
) -> Iterator[InputFile]:
    old, new = before.inputs if before else {}, now.inputs
    for role in (*paths, *(role for role in old if role not in paths)):
        path = paths.get(role) or _former_path(job, role)
        size, modified = _stat(path)
        yield InputFile(
            role=role,
            path=path,
            state=_state(old.get(role), new.get(role), is_input=role in paths),
            old=old.get(role),
            new=new.get(role),
            size=size,
            modified=modified,
        )


def _state(old: str | None, new: str | None, *, is_input: bool) -> InputState:
    if not is_input:
        return InputState.REMOVED
    if new is None:
        return InputState.UNREADABLE
    if old is None:
        return InputState.ADDED
    return InputState.SAME if old == new else InputState.CHANGED


def _former_path(job: EngineJob, role: str) -> Path:
    """Where an input was that is none any more; that of a plugin is not known but for its name."""
    if role.startswith(EXTERNAL):
        return job.plan.spec.onnx_path.parent / role.removeprefix(EXTERNAL)
    if role == "calibration" and job.backbone.calibration_path is not None:
        return job.backbone.calibration_path
    return Path(role.rpartition("/")[2])


def _stat(path: Path) -> tuple[int | None, datetime | None]:
    try:
        info = path.stat()
    except (OSError, ValueError):
        return None, None
    return info.st_size, datetime.fromtimestamp(info.st_mtime, timezone.utc)


def _digests(status: EngineStatus, job: EngineJob) -> EngineDigests:
    stated = None if status.statement is None else status.statement.sha256_hex
    fault = status.verdict and status.verdict.fault
    if fault not in (Fault.ABSENT, Fault.INPUT, Fault.SIDECAR, Fault.PROVENANCE):
        # They were found to agree: nothing has to be hashed once more.
        return EngineDigests(stated, stated, stated)
    actual = recorded = None
    with suppress(OSError, IrregularFileError):
        actual = sha256_file(job.plan.path)
    with suppress(EngineryError):
        recorded = Sha256Sidecar.read(job.plan.path)
    return EngineDigests(actual, recorded, stated)
