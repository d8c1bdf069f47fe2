"""`doit why`: the whole difference between what an engine was built from and what is there now."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ..engine_job import EngineJob, UnknownEngine
from ..status import Condition, EngineStatus
from ..verdict import Fault
from .corpus_command import DONE, CorpusCommand
from .corpus_table import JSON, summary
from .screen import Line, Screen, line, write
from .step_tasks import CALIBRATE

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

        runs = WhatRuns(self.task_list)
        steps = self._named_steps(runs)
        surveyed = self.survey(self.selected())
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
        from ..explanation import InputState, explain, sharing
        from ..explanation_document import explanation_document

        status, known = surveyed
        found = explain(status, known)
        task, restores = status.job.task, bool(found.store and found.store.has)
        runs_here = status.condition is not Condition.ELSEWHERE or restores
        jobs = [job for _, one in self.corpora() for job in one.engines if job.task != task]
        following = [] if status.fresh or not runs_here else runs.before(task)
        missing = {one.role for one in found.inputs if one.state is InputState.UNREADABLE}
        calibrates = missing == {"calibration"} and any(map(_is_calibration, following))
        return explanation_document(
            found,
            known,
            sharing={
                one.role: [job.task for job in sharing(one.path, jobs)]
                for one in found.inputs
                if one.state is not InputState.SAME and status.statement is not None
            },
            following=following,
            used_by=[] if status.fresh else list(runs.used_by(task)),
            remedy=_remedy(status, restores=restores, makes_inputs=calibrates),
        )


def _step(name: str, runs: WhatRuns) -> StepDocument | None:
    from ..errors import EngineryError
    from ..explanation_document import StepDocument
    from ..inputs import InputDigests
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


def _is_calibration(task: str) -> bool:
    return task.startswith(f"{CALIBRATE}:")


def _is_late(status: EngineStatus) -> bool:
    return not status.fresh and not status.left_out


def _remedy(status: EngineStatus, *, restores: bool, makes_inputs: bool) -> str | None:
    """What to do, as a command or in words."""
    job = status.job
    if status.fresh:
        return None
    fault = status.verdict.fault if status.verdict else Fault.ABSENT
    if status.condition is Condition.ELSEWHERE and not restores:
        return _elsewhere(job)
    if fault is Fault.INPUT and not makes_inputs:
        return f"put the file there or correct the path in {job.corpus_path}; then: doit {job.task}"
    if fault is Fault.SIGNATURE:
        return f"doit sign {job.task}, if you believe it; or doit {job.task}, which builds it anew"
    return f"doit {job.task}"


def _elsewhere(job: EngineJob | UnknownEngine) -> str:
    if job.skips:
        return f'nothing: elsewhere = "skip" under [targets.{job.target}] leaves it out here'
    remote = job.store.remote if isinstance(job, EngineJob) else None
    share = "doit push there, then doit here" if remote else "share it through a store"
    return (
        f"build it on such a host and {share}; or write "
        f'elsewhere = "skip" under [targets.{job.target}] of {job.corpus_path}'
    )


def _parted(blocks: list[list[Line]]) -> Iterator[Line]:
    for index, block in enumerate(blocks):
        if index:
            yield line()
        yield from block
