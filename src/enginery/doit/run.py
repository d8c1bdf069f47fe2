"""doit's command `run`, which also writes the events of the run and knows misspelt names.

doit loads this module in other people's projects too: it is light, and otherwise doit's own.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterable, Iterator
from io import FileIO
from typing import Any

from doit.cmd_run import Run
from doit.exceptions import InvalidCommand
from doit.task import Task

_JSON = {
    "name": "json_file",
    "short": "",
    "long": "json",
    "type": str,
    "default": "",
    "help": "write the events of the run as JSON lines into this file; reporter `enginery` only",
}


class RunCommand(Run):  # type: ignore[misc]
    """doit's own `run` with `--json`."""

    name = "run"
    cmd_options = (*Run.cmd_options, _JSON)
    sel_tasks: list[str]

    def execute(self, params: Any, args: list[str]) -> Any:
        """Load the tasks and run them."""
        self._params = params
        try:
            return super().execute(params, args)
        except InvalidCommand as error:
            if error.not_found is None:
                raise
            raise NotFound(error, self._names()) from error

    # doit calls it with whatever its own has for parameters.
    @functools.wraps(Run._execute)
    def _execute(self, *args: Any, **params: Any) -> Any:
        from .this_run import RUNS, shared

        runs: list[RunCommand] = shared(RUNS, [])
        runs.append(self)
        reporter = params.get("reporter")
        if self._is_ours(reporter) and not _forks(params):
            from .this_run import UNHEARD

            unheard: list[bool] = shared(UNHEARD, [])
            unheard.append(True)
        if self.sel_tasks:
            self.sel_tasks = _once(self.sel_tasks, self.task_list)
        # Only now are the settings of the dodo.py among them.
        json = str(self._params["json_file"] or "")
        if not json:
            return super()._execute(*args, **params)
        with self._open(json, reporter) as file:
            from .this_run import EVENT_FILES

            files: list[FileIO] = shared(EVENT_FILES, [])
            files.append(file)
            return super()._execute(*args, **params)

    def _open(self, json: str, reporter: Any) -> FileIO:
        if not self._is_ours(reporter):
            name = getattr(reporter, "__name__", reporter)
            raise InvalidCommand(
                f"--json: the reporter {name!r} writes no events; add: -r enginery"
            )
        from .event_log import open_events

        return open_events(json, self.task_list)

    def _is_ours(self, reporter: Any) -> bool:
        """Whether a reporter, given as its name or as a class, is enginery's or made of it."""
        from .reporter import EngineReporter

        kind = self.reporters.get(reporter) if isinstance(reporter, str) else reporter
        return isinstance(kind, type) and issubclass(kind, EngineReporter)

    def _names(self) -> Iterator[str]:
        yield from (name for name in self.control.tasks if not name.startswith("_"))
        yield from getattr(self.loader, "cmd_names", ())


class NotFound(InvalidCommand):  # type: ignore[misc]
    """doit's message for what is no task, with the name that was meant."""

    def __init__(self, error: InvalidCommand, known: Iterator[str]) -> None:
        super().__init__(not_found=error.not_found)
        self._known = list(known)

    def __str__(self) -> str:
        """As doit has it; the first ends with the nearest name."""
        from ..corpus_tables import nearest

        first, _, rest = super().__str__().partition("\n")
        meant = nearest(self.not_found, self._known)
        return f"{first} {meant[0].upper()}{meant[1:]}\n{rest}" if meant else f"{first}\n{rest}"


def _once(selected: list[str], tasks: Iterable[Task]) -> list[str]:
    """The command line without names of tasks that are selected already.

    doit leaves out whatever follows such a name, and says nothing.
    """
    known = {task.name: task for task in tasks}
    found: list[str] = []
    seen: set[str] = set()
    for place, name in enumerate(selected):
        task = known.get(name)
        if task and (task.params or task.creator_params or task.pos_arg is not None):
            # What follows may be a value of the task's, and no name.
            return [*found, *selected[place:]]
        if task is None or name not in seen:
            found.append(name)
        seen.update(fnmatch.filter(known, name) if "*" in name else [name])
    return found


def _forks(params: dict[str, Any]) -> bool:
    """Whether doit's worker processes, if any, are forked, and so can tell what they do."""
    if not params.get("num_process") or params.get("par_type") != "process":
        return True
    import multiprocessing  # which doit has loaded

    default, *_ = multiprocessing.get_all_start_methods()
    return (multiprocessing.get_start_method(allow_none=True) or default) == "fork"
