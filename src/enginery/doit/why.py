"""`doit why`: the whole difference between what an engine was built from and what is there now."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..inputs import InputDigests
from ..jobs import input_memory
from ..status import Condition, EngineStatus
from .corpus_command import DONE, CorpusCommand
from .corpus_table import JSON, summary
from .screen import Line, Screen, line, write

if TYPE_CHECKING:
    from ..explanation_document import ExplanationDocument, StepDocument
    from .corpus_command import Surveyed
    from .what_runs import WhatRuns


class WhyCommand(CorpusCommand):
    """Explains engines and the steps before them; builds nothing."""

    name = "why"
    doc_purpose = "explain why an engine is not fresh, and what follows of it"
    doc_usage = "[NAME ...]"
    doc_description = (
        "A NAME is a backbone, the task of an engine, or the task of a step such as "
        "lower:resnet50-fp16; without one it is every engine that is not fresh. Nothing is built."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (JSON,)

    def _execute(self, json: bool) -> int:
        return self.reporting(partial(self._explain, as_json=json))

    def _explain(self, *, as_json: bool) -> int:
        """Say of each engine, and of each step that is named, why it is what it is."""
        from ..explanation_document import WhyDocument
        from ..status_document import encoded
        from .what_runs import WhatRuns

        runs = WhatRuns(self.task_list, self.dep_manager)
        steps = self._named_steps(runs)
        surveyed = self.survey(self.selected(others=runs.steps()))
        states = [one for one, _ in surveyed]
        if self.sel_default_tasks:
            surveyed = [found for found in surveyed if _is_late(found[0])]
        document = WhyDocument(
            engines=tuple(self._document(found, runs) for found in surveyed), steps=tuple(steps)
        )
        if as_json:
            write(encoded(document) + "\n")
        elif not document.engines and not document.steps:
            write(f"nothing to explain: {summary(states)}\n")
        else:
            from .why_lines import engine_lines, step_lines

            blocks = [*map(step_lines, document.steps), *map(engine_lines, document.engines)]
            Screen().show([*_parted(blocks)])
        return DONE

    def _named_steps(self, runs: WhatRuns) -> list[StepDocument]:
        """The steps that the command line names, which then names engines only."""
        if self.sel_default_tasks:
            return []
        found = {name: step for name in self.sel_tasks if (step := _step(name, runs)) is not None}
        self.sel_tasks = [name for name in self.sel_tasks if name not in found]
        return list(found.values())

    def _document(self, surveyed: Surveyed, runs: WhatRuns) -> ExplanationDocument:
        from ..explanation import InputState, explain
        from ..explanation_document import explanation_document
        from .remedies import Situation, remedy

        status, known = surveyed
        job = status.job
        found = explain(status, known)
        restores = bool(found.store and found.store.has)
        # One that is to be left out here is not even restored, but by `doit pull`.
        there = status.condition is Condition.ELSEWHERE and not status.on_farm
        runs_here = not there or (restores and not job.skips)
        following = [] if status.fresh or not runs_here else runs.before(job.task)
        missing = [one.path for one in found.inputs if one.state is InputState.UNREADABLE]
        now = Situation(
            restores=restores,
            following=following,
            missing=missing,
            makers=[task for path in missing if (task := runs.maker(path)) is not None],
        )
        return explanation_document(
            found,
            known,
            sharing={
                one.role: [task for task in self._users.get(one.path, ()) if task != job.task]
                for one in found.inputs
                if one.state is not InputState.SAME and status.statement is not None
            },
            following=following,
            used_by=[] if status.fresh else runs.used_by(job.task),
            remedy=remedy(status, now),
        )

    @cached_property
    def _users(self) -> dict[Path, list[str]]:
        """Every input to the tasks of the engines that it is an input of."""
        from ..explanation import users_of_inputs

        found: dict[Path, list[str]] = {}
        for corpus, jobs in self.corpora():
            known = InputDigests(input_memory(corpus))
            for path, tasks in users_of_inputs(jobs.engines, known).items():
                found[path] = [*found.get(path, ()), *tasks]
        return found


def _step(name: str, runs: WhatRuns) -> StepDocument | None:
    from ..errors import EngineryError
    from ..explanation_document import StepDocument
    from ..provenance import read
    from ..recipe import changes
    from ..status_document import text_of

    step, verdict = runs.step(name), runs.verdict(name)
    if step is None or verdict is None:
        return None
    try:
        found = tuple(changes(read(step.path).recipe, step.recipe(InputDigests())))
    except EngineryError:
        found = ()  # the verdict's reason says which document or input is at fault
    return StepDocument(
        task=name,
        path=text_of(step.path),
        fresh=verdict.fresh,
        reason=verdict.reason,
        changes=found,
        next=() if verdict.fresh else tuple(runs.before(name)),
    )


def _is_late(status: EngineStatus) -> bool:
    return not status.fresh and not status.left_out


def _parted(blocks: list[list[Line]]) -> Iterator[Line]:
    for index, block in enumerate(blocks):
        if index:
            yield line()
        yield from block
