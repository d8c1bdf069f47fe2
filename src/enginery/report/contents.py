"""What the report says of a corpus: its engines, checks and last run, gathered once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..corpus import Corpus
from ..engine_job import EngineJob
from ..errors import EngineryError
from ..inputs import InputDigests
from ..jobs import CorpusJobs
from ..status import Condition, EngineStatus
from ..status_document import counts
from .checks import Check, checks_of
from .last_run import LastRun, last_run_path, read_last_run

LEFT_OUT = "left out"

STATES = (*(condition.value for condition in Condition), LEFT_OUT)
"""The states in which an engine is shown, in order of alarm but for the first and the last."""


class Section(msgspec.Struct, frozen=True):
    """A corpus in the report.

    Attributes:
        corpus: The corpus file; paths are shown relative to its folder.
        host: This machine, in words.
        engines: Its engines, or those that were asked for.
        checks: Their accuracy checks.
        last_run: The last run; None where there is no readable record.
        no_run: Why there is none.
    """

    corpus: Path
    host: str
    engines: tuple[EngineStatus, ...]
    checks: tuple[Check, ...] = ()
    last_run: LastRun | None = None
    no_run: str = ""

    @property
    def size(self) -> int:
        """Bytes of all engine files that are there."""
        return counts(self.engines).size

    @property
    def build_s(self) -> float:
        """For how many seconds those engines were built, together."""
        return counts(self.engines).build_s

    def relative(self, path: Path) -> str:
        """A path as it is shown: relative to the corpus file's folder."""
        return os.path.relpath(path, self.corpus.parent)


def gather(
    corpus: Corpus, jobs: CorpusJobs, engines: Sequence[EngineStatus], inputs: InputDigests
) -> Section:
    """What the report says of a corpus.

    Args:
        corpus: The corpus.
        jobs: What it asks for on this host.
        engines: Those of its engines that are meant, as they are now.
        inputs: Digests of inputs that are known already.
    """
    try:
        last_run, no_run = read_last_run(last_run_path(corpus.path)), ""
    except EngineryError as error:
        last_run, no_run = None, str(error)
    known = (one.job for one in engines if isinstance(one.job, EngineJob))
    return Section(
        corpus=corpus.path,
        host=_host(jobs),
        engines=tuple(engines),
        checks=tuple(checks_of(known, inputs)),
        last_run=last_run,
        no_run=no_run,
    )


def state(engine: EngineStatus) -> str:
    """The state in which an engine is shown, one of `STATES`."""
    return LEFT_OUT if engine.left_out else engine.condition.value


def by_state(engines: Sequence[EngineStatus]) -> dict[str, int]:
    """How many engines are in which state, in the order of `STATES`; those without one are not."""
    found = Counter(map(state, engines))
    return {word: found[word] for word in STATES if found[word]}


def reasons(engines: Sequence[EngineStatus]) -> list[tuple[str, str, list[str]]]:
    """State, reason and tasks of the engines that are not fresh; the same reason is told once."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in engines:
        if not one.fresh:
            found.setdefault((state(one), one.reason), []).append(one.job.task)
    return [
        (word, reason, tasks)
        for (word, reason), tasks in sorted(found.items(), key=lambda it: STATES.index(it[0][0]))
    ]


def _host(jobs: CorpusJobs) -> str:
    try:
        return str(jobs.host())
    except EngineryError as error:
        return f"not known: {error}"
