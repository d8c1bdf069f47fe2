"""A first corpus: the ONNX models below a folder, as corpus.toml and dodo.py.

What a model does not say is guessed, and told to be a guess. What cannot be built as it is stands
in the file as a comment with the reason, so that `doit` builds the rest at once.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..errors import EngineryError
from .discover import Found, discover
from .models import Model, read_inputs
from .names import backbone_names
from .target import Chosen, choose
from .texts import corpus_text, dodo_text
from .write import check_absent, write_new

CORPUS, DODO = "corpus.toml", "dodo.py"


class Started(msgspec.Struct, frozen=True):
    """What `init` did.

    Attributes:
        folder: The folder, as it was given.
        files: Names of the files that were written there.
        models: Models that became backbones.
        left_out: Path of a model that did not, to the reason.
        found: What was found below the folder.
        target: The target that was written.
    """

    folder: Path
    files: tuple[str, ...]
    models: tuple[Model, ...]
    left_out: dict[str, str]
    found: Found
    target: Chosen


def init(folder: Path) -> Started:
    """Write corpus.toml, its schema and dodo.py for the models below a folder; all or nothing.

    Raises:
        EngineryError: There is no such folder, one of the files is there, no model can be used,
            or the folder cannot be written. Nothing was written then.
    """
    from ..corpus_schema import FILE_NAME, shipped  # the parser's types are not needed elsewhere

    _check_folder(folder)
    # The first decides between two that write at once.
    names = [CORPUS, DODO, FILE_NAME]
    if (folder / FILE_NAME).is_file() and (folder / FILE_NAME).read_bytes() == shipped():
        names.remove(FILE_NAME)
    check_absent(folder, names)
    _check_onnx()
    found = discover(folder)
    if not found.models:
        raise EngineryError(
            f"{folder}: no ONNX model is below it; put one there, or name the folder that has them"
            f"{_remarks(found)}"
        )
    target = choose(folder / CORPUS)
    models, left_out = _read(folder, found, target)
    if not models:
        said = "; ".join(f"{path}: {reason}" for path, reason in left_out.items())
        raise EngineryError(f"{folder}: no ONNX model below it can be used: {said}")
    text = corpus_text(models, left_out, target)
    contents = {CORPUS: text.encode(), DODO: dodo_text().encode(), FILE_NAME: shipped()}
    write_new(folder, {name: contents[name] for name in names})
    return Started(folder, tuple(names), models, left_out, found, target)


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise EngineryError(f"{folder}: is no folder; name the one that has the models")
    raise EngineryError(f"{folder}: there is no such folder; make it, or correct the path")


def _check_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise EngineryError(
            "onnx, which reads the models, is not installed; install it with: "
            "pip install 'enginery[build]'"
        ) from error


def _read(folder: Path, found: Found, target: Chosen) -> tuple[tuple[Model, ...], dict[str, str]]:
    """The models that can be used, and those that cannot with the reason."""
    left_out: dict[str, str] = {}
    inputs = {}
    for path in found.models:
        try:
            inputs[path] = read_inputs(folder, path, target.types)
        except EngineryError as error:
            left_out[path] = str(error)
    named = zip(inputs.items(), backbone_names(list(inputs)), strict=True)
    return tuple(Model(name, path, read) for (path, read), name in named), left_out


def _remarks(found: Found) -> str:
    return "".join(f"; {remark}" for remark in found.remarks)
