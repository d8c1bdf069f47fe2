"""What doit's commands of ours have in common: they work on the corpora of a dodo.py."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from doit.cmd_base import DoitCmdBase

from ..corpus import Corpus
from ..engine_job import EngineJob
from ..errors import EngineryError
from ..inputs import InputDigests
from ..jobs import CorpusJobs

DONE, FAILED, USAGE = 0, 1, 3


class CorpusCommand(DoitCmdBase):  # type: ignore[misc]
    """A command that takes names of backbones or of engine tasks, or means them all."""

    doc_usage = "[TASK ...]"
    doc_description: ClassVar[str | None] = None
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = ()

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
        sys.stdout.write(f"{text}\n")

    @staticmethod
    def warn(text: str) -> None:
        """A line for a person, beside the command's output."""
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

    def jobs(self) -> Iterator[EngineJob]:
        """The engines that the command line names, or all.

        Raises:
            EngineryError: A name is none of theirs.
        """
        everything = [job for _, jobs in self.corpora() for job in jobs.engines]
        named = [] if self.sel_default_tasks else list(self.sel_tasks)
        for name in named:
            if not any(name in (job.name, job.task) for job in everything):
                known = ", ".join(dict.fromkeys(job.name for job in everything))
                raise EngineryError(f"there is no engine {name!r}; known are {known}")
        for job in everything:
            if not named or job.name in named or job.task in named:
                yield job

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
