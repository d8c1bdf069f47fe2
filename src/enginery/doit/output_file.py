"""The file that `doit report` and `doit graph` write: it never takes the place of anything else."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from doit import loader

from .. import atomic
from ..corpus import Corpus
from ..errors import EngineryError
from ..jobs import CorpusJobs


def check_output(
    output: Path, suffixes: Collection[str], corpora: Sequence[tuple[Corpus, CorpusJobs]]
) -> None:
    """Refuse a file that must not be replaced, or whose name does not say what it is to be.

    Args:
        output: The file; one that is there is replaced later.
        suffixes: What it may end with. dodo.py and all that enginery builds end with something
            else.
        corpora: The corpora, whose own files are refused.

    Raises:
        EngineryError: It is such a file, or its folder is not there.
    """
    if str(output) == "-":
        raise EngineryError("-o: name a file; - is none")
    if output.is_dir():
        raise EngineryError(f"{output} is a folder; name a file with -o")
    if output.suffix.lower() not in suffixes:
        known = ", ".join(sorted(suffixes))
        raise EngineryError(f"{output}: nothing is written under this suffix; use one of {known}")
    if not output.parent.is_dir():
        raise EngineryError(
            f"{output}: there is no folder {output.parent}; make it, or name another file"
        )
    try:
        mode = os.lstat(output).st_mode
    except OSError:
        return  # what is not there is not replaced; whether it can be written shows later
    if not stat.S_ISREG(mode):
        kind = "a symlink" if stat.S_ISLNK(mode) else "no regular file"
        raise EngineryError(f"{output} is {kind}; name another file with -o")
    if any(_are_one(output, own) for corpus, _ in corpora for own in _inputs(corpus)):
        raise EngineryError(f"{output} is a file of the corpus; name another with -o")


def write_output(output: Path, data: bytes) -> None:
    """Write the file; it is there whole, or as it was.

    Raises:
        EngineryError: It cannot be written.
    """
    try:
        atomic.write_atomically(output, data)
    except OSError as error:
        raise EngineryError(
            f"{output} cannot be written: {error.strerror}; name another file with -o"
        ) from error


def shown(output: Path) -> str:
    """The file as it is told: absolute where doit works in another folder than it was called in."""
    begun = loader.initial_workdir
    moved = begun is not None and not _are_one(Path(begun), Path.cwd())
    return str(output.absolute() if moved else output)


def _inputs(corpus: Corpus) -> Iterator[Path]:
    yield corpus.path
    yield from corpus.store.policy.keys
    for backbone in corpus.backbones:
        yield backbone.spec.onnx_path
        if backbone.calibration_path:
            yield backbone.calibration_path


def _are_one(one: Path, two: Path) -> bool:
    try:
        return one.samefile(two)
    except OSError:
        return False
