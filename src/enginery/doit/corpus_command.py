"""What doit's commands of ours have in common: they work on the corpora of a dodo.py."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from doit.cmd_base import DoitCmdBase

from ..corpus import Corpus
from ..corpus_tables import nearest
from ..engine_job import EngineJob, UnknownEngine
from ..errors import EngineryError
from ..inputs import InputDigests
from ..jobs import CorpusJobs, input_memory
from .screen import write_line

if TYPE_CHECKING:
    from ..status import EngineStatus

    Surveyed = tuple[EngineStatus, InputDigests]
    """The state of an engine, and digests of inputs that were worked out for it."""

DONE, FAILED, USAGE = 0, 1, 3

_SHOWN = 12


class CorpusCommand(DoitCmdBase):  # type: ignore[misc]
    """A command that takes names of backbones or of engine tasks, or means them all."""

    doc_usage = "[TASK ...]"
    doc_description: ClassVar[str | None] = None
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = ()
    sel_tasks: list[str]

    @staticmethod
    def reporting(work: Callable[[], int]) -> int:
        """What some work returns, an exit code; an error is said in one line."""
        try:
            return work()
        except EngineryError as error:
            sys.stderr.write(f"ERROR: {error}\n")
        except OSError as error:
            sys.stderr.write(f"ERROR: {error.filename or 'a file'}: {error.strerror or error}\n")
        return FAILED

    @staticmethod
    def say(text: str) -> None:
        """A line for a person."""
        write_line(text)

    @staticmethod
    def warn(text: str) -> None:
        """A line for a person, beside the command's output."""
        if sys.stderr is not None:
            sys.stderr.write(f"WARNING: {text}\n")

    def corpora(self) -> list[tuple[Corpus, CorpusJobs]]:
        """The corpora of the dodo.py.

        Raises:
            EngineryError: There is none.
        """
        from .this_run import corpora

        found = corpora()
        if not found:
            raise EngineryError("this dodo.py has no corpus; see enginery.doit.engine_tasks")
        return found

    def survey(self, chosen: Sequence[EngineJob | UnknownEngine]) -> list[Surveyed]:
        """The state of engines, in the order given; nothing on the disk is changed.

        Raises:
            EngineryError: A key of a corpus's policy cannot be used.
        """
        from ..status import survey  # not with every doit

        # What earlier runs remember of the inputs; what is learnt now is not written.
        memories = {corpus.path: InputDigests(input_memory(corpus)) for corpus, _ in self.corpora()}
        found: dict[str, Surveyed] = {}
        for path, known in memories.items():
            jobs = [job for job in chosen if job.corpus_path == path]
            found.update({one.job.task: (one, known) for one in survey(jobs, known)})
        return [found[job.task] for job in chosen]

    def selected(self, others: Sequence[str] = ()) -> list[EngineJob | UnknownEngine]:
        """The engines that the command line names, or all, in the order of each corpus.

        Args:
            others: Names besides those of engines that the command takes.

        Raises:
            EngineryError: A name is none of theirs.
        """
        everything: list[EngineJob | UnknownEngine] = []
        aliases: dict[str, EngineJob] = {}
        for _, jobs in self.corpora():
            everything += (*jobs.engines, *jobs.unknown)
            aliases.update(jobs.aliases)
        if self.sel_default_tasks:
            return everything
        wanted: set[str] = set()
        for name in self.sel_tasks:
            found = {job.task for job in everything if name in (job.name, job.task)}
            if name in aliases:
                found.add(aliases[name].task)
            if not found:
                raise self._no_engine(name, everything, [*aliases, *others])
            wanted |= found
        return [job for job in everything if job.task in wanted]

    def jobs(self) -> Iterator[EngineJob]:
        """Those of `selected` whose hardware is known.

        Raises:
            EngineryError: A name is none of theirs, or the hardware of what it means is not known.
        """
        chosen = self.selected()
        known = [job for job in chosen if isinstance(job, EngineJob)]
        for job in chosen:
            named = not self.sel_default_tasks and job.task in self.sel_tasks
            if isinstance(job, UnknownEngine) and (named or not known):
                raise EngineryError(f"{job.task}: {job.elsewhere}")
        yield from known

    @staticmethod
    def _no_engine(
        name: str, everything: list[EngineJob | UnknownEngine], others: Sequence[str]
    ) -> EngineryError:
        if name.startswith("-"):
            # doit takes no option after the first name.
            return EngineryError(f"{name!r} is no engine; options stand before names")
        backbones = list(dict.fromkeys(job.name for job in everything))
        tasks = [*(job.task for job in everything), *others]
        guess = nearest(name, [*backbones, *tasks])
        known = ", ".join(backbones[:_SHOWN])
        more = len(backbones) - _SHOWN
        rest = f"known are {known}" + (f" and {more} more" if more > 0 else "")
        return EngineryError(f"there is no engine {name!r}; {guess or rest}")

    def fresh_jobs(self, *, unsigned: bool = False) -> Iterator[EngineJob]:
        """Those of `jobs` whose engine is there and fresh; others are told.

        Args:
            unsigned: Whether one that only lacks its signature will do.
        """
        inputs = InputDigests()
        for job in self.jobs():
            verdict = job.plan.judge(inputs) if unsigned else job.judge_now(inputs)
            if verdict.fresh:
                yield job
            else:
                self.warn(f"{job.task} is left out: {verdict.reason}")
