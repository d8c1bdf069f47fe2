"""`doit graph`: the tasks of the corpora with their states, as a picture."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from doit.task import Task

from ..engine_job import EngineJob
from ..verdict import Fault, Verdict
from .corpus_command import DONE, CorpusCommand
from .output_file import check_output, shown, write_output
from .step_tasks import CHECK, LOWER
from .uptodate import VerifiedUpToDate

if TYPE_CHECKING:
    from ..report.task_graph import Graph
    from ..status import EngineStatus
    from .corpus_command import Surveyed

_NOT_NEEDED = "not needed"


class GraphCommand(CorpusCommand):
    """Draws what a run would look at; builds nothing and changes nothing else."""

    name = "graph"
    doc_purpose = "draw the tasks of the corpus with their states"
    doc_usage = "[NAME ...]"
    doc_description = (
        "A NAME is a backbone or the task of an engine; without one it is all of them. SVG, PNG "
        "and PDF take Graphviz; .dot or .gv is its text and takes only pip install "
        "'enginery[report]'."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "output",
            "short": "o",
            "long": "output",
            "type": str,
            "default": "graph.svg",
            "help": "the file, which is replaced: .svg, .png, .pdf, .dot or .gv "
            "[default: %(default)s]",
        },
    )

    def _execute(self, output: str) -> int:
        return self.reporting(partial(self._draw, Path(output)))

    def _draw(self, output: Path) -> int:
        """Draw the graph."""
        from ..report.task_graph import PICTURES, TEXT, drawn
        from ..report.words import count_text

        check_output(output, TEXT | PICTURES, self.corpora())
        graph = self._graph(self.survey(self.selected()))
        write_output(output, drawn(graph, output.suffix.lower()))
        tasks = sum(not node.file for node in graph.nodes)
        self.say(f"{shown(output)}: {count_text(tasks, 'task')}")
        return DONE

    def _graph(self, surveyed: list[Surveyed]) -> Graph:
        from ..report.task_graph import Graph, Node, reduced

        tasks = _Tasks(self.task_list)
        chosen = tasks.around([engine.job.task for engine, _ in surveyed])
        states = _step_states(surveyed)
        states.update({engine.job.task: _word(engine) for engine, _ in surveyed})
        nodes = [
            Node(task.name, task.name, states.get(task.name) or self._state(task, tasks))
            for task in chosen
        ]
        edges = [(need, task.name) for task in chosen for need in tasks.needs(task)]
        # One that is left out depends on no file, as doit sees it.
        models = {
            engine.job.task: [str(engine.job.plan.spec.onnx_path)]
            for engine, _ in surveyed
            if isinstance(engine.job, EngineJob)
        }
        files: dict[str, Node] = {}
        for task in chosen:
            for file in sorted({*task.file_dep, *models.get(task.name, ())}):
                key = f"file {os.path.realpath(file)}"
                maker = tasks.maker(file)
                missing = "" if maker or Path(file).exists() else "missing"
                files[key] = Node(key, _shown(file), missing, file=True)
                edges.append((key, task.name))
                if maker:
                    edges.append((maker, key))
        return Graph((*files.values(), *nodes), reduced(edges))

    def _state(self, task: Task, tasks: _Tasks) -> str:
        """The state of a task that is not an engine's or a lowered model's, in a word."""
        for checker, *_ in task.uptodate:
            if isinstance(checker, VerifiedUpToDate):
                return _fault(checker.verdict())
        status = self.dep_manager.get_status(task, tasks.by_name)
        if status.status == "up-to-date":
            return "fresh"
        lacking = [file for file in task.file_dep if not Path(file).exists()]
        if any(tasks.maker(file) is None for file in lacking):
            return "cannot run"
        return "stale" if all(Path(file).exists() for file in task.targets) else "missing"


class _Tasks:
    """The tasks of a dodo.py and what they need; groups stand for their members."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.by_name: dict[str, Task] = {task.name: task for task in tasks}
        self._makers = {
            os.path.realpath(file): task.name for task in tasks for file in task.targets
        }

    def maker(self, file: str) -> str | None:
        """The task that makes a file."""
        return self._makers.get(os.path.realpath(file))

    def needs(self, task: Task) -> list[str]:
        """The tasks that a task names as what it needs."""
        named = [*task.setup_tasks, *task.task_dep, *task.calc_dep]
        named += [name for pattern in task.wild_dep for name in self.by_name
                  if fnmatchcase(name, pattern)]  # fmt: skip
        return list(dict.fromkeys(member for name in named for member in self._members(name)))

    def around(self, names: Sequence[str]) -> list[Task]:
        """These tasks, all that they need, and the checks of what is lowered for them."""
        chosen: dict[str, None] = {}
        self._add(names, chosen)
        for name, task in self.by_name.items():
            checks = name.startswith(f"{CHECK}:") and bool(task.actions)
            if checks and any(need in chosen for need in task.setup_tasks):
                self._add([name], chosen)
        return [task for name, task in self.by_name.items() if name in chosen]

    def _add(self, names: Sequence[str], chosen: dict[str, None]) -> None:
        left = [name for name in names if name in self.by_name]
        while left:
            name = left.pop()
            if name in chosen:
                continue
            chosen[name] = None
            task = self.by_name[name]
            makers = [maker for file in task.file_dep if (maker := self.maker(file))]
            left += [*self.needs(task), *makers]

    def _members(self, name: str) -> Iterator[str]:
        task = self.by_name.get(name)
        if task is None:
            return
        if task.actions:
            yield name
        else:
            yield from self.needs(task)


def _step_states(surveyed: list[Surveyed]) -> dict[str, str]:
    """The states of lowered models by task; one that no engine waits for may be absent."""
    found: dict[str, str] = {}
    for engine, inputs in surveyed:
        job = engine.job
        if not isinstance(job, EngineJob) or not job.plan.is_lowered:
            continue
        name = f"{LOWER}:{job.name}-{job.request.precision}"
        verdict = job.plan.lowering().judge(inputs)
        idle = verdict.fault is Fault.ABSENT and (engine.fresh or bool(job.elsewhere))
        if found.get(name, _NOT_NEEDED) == _NOT_NEEDED:
            found[name] = _NOT_NEEDED if idle else _fault(verdict)
    return found


def _word(engine: EngineStatus) -> str:
    return "left out" if engine.left_out else str(engine.condition)


def _fault(verdict: Verdict) -> str:
    words = {
        Fault.NONE: "fresh",
        Fault.ABSENT: "missing",
        Fault.SIDECAR: "damaged",
        Fault.PROVENANCE: "damaged",
        Fault.CHECK: "missed",
    }
    return words.get(verdict.fault, "stale")


def _shown(file: str) -> str:
    """A file as it is shown: relative to the folder that doit works in, if it is inside."""
    relative = os.path.relpath(file)
    return relative if not relative.startswith("..") else str(file)
