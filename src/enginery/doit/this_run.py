"""This run of doit: what it is asked for, and what all corpora of its dodo.py share."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from doit.doit_cmd import DoitMain
from doit.globals import Globals
from doit.task import Task

from ..corpus import Corpus
from ..jobs import CorpusJobs
from ..publish import clear_abandoned

_T = TypeVar("_T")

_DOITS = frozenset(command.get_name() for command in DoitMain.DOIT_CMDS)
_OURS = frozenset(
    ("corpus", "graph", "host", "plan", "prune", "pull", "push", "release", "report", "sign", "why")
)
COMMANDS = _DOITS | _OURS
"""doit's commands and ours; no task can have such a name."""

ENDED, EVENT_FILES, UNHEARD = "_enginery_ended", "_enginery_event_files", "_enginery_unheard"
"""What is shared: that the end of the run was told, the file of `--json`, and whether the actions
run in processes that cannot tell what they do."""

RUNS = "_enginery_runs"
"""What is shared of doit's command `run`: itself, once it is executed."""


def shared(name: str, empty: _T) -> _T:
    """What all corpora of a dodo.py share; doit has one dependency manager for a run."""
    run = Globals.dep_manager
    found: _T = empty if run is None else run.__dict__.setdefault(name, empty)
    return found


def corpora() -> list[tuple[Corpus, CorpusJobs]]:
    """The corpora whose tasks were asked for in this run."""
    return shared("_enginery_corpora", [])


def looked_at() -> list[str]:
    """The tasks that doit is going to look at, as far as is known once it runs tasks."""
    runs: list[Any] = shared(RUNS, [])
    control = getattr(runs[-1], "control", None) if runs else None
    return [] if control is None else reachable(control.tasks, control.selected_tasks or ())


def reachable(tasks: Mapping[str, Task], selected: Sequence[str]) -> list[str]:
    """The tasks that doit is going to look at, as far as is known before it does."""
    found: dict[str, None] = {}
    ahead = list(reversed(selected))
    while ahead:
        name = ahead.pop()
        if name not in found and name in tasks:
            found[name] = None
            ahead.extend(tasks[name].task_dep)
    return list(found)


def is_asked_for(what: str) -> bool:
    """Whether the command line names such a task: doit has no task that runs only when asked."""
    return any(argument.partition(":")[0] == what for argument in sys.argv[1:])


def is_run() -> bool:
    """Whether doit is going to run tasks, and not to list, clean or explain them."""
    return sys.argv[1:2] == ["run"] or not COMMANDS.intersection(sys.argv[1:2])


def prepare(*folders: Path) -> None:
    """Have the run end well: on Ctrl-C, when doit is killed, and with nothing left in folders."""
    if is_run():
        for folder in folders:
            atexit.register(clear_abandoned, folder)
    sys.excepthook = partial(_end_quietly_on_ctrl_c, sys.excepthook)
    if hasattr(os, "register_at_fork"):
        # doit's worker processes would outlive a doit that is killed.
        os.register_at_fork(after_in_child=_end_with_doit)


def _end_quietly_on_ctrl_c(
    show: Callable[..., object],
    kind: type[BaseException],
    error: BaseException,
    traceback: TracebackType | None,
) -> None:
    """Say one line on Ctrl-C, which doit lets end it with a traceback of its own inside."""
    if issubclass(kind, KeyboardInterrupt):
        # Where nothing was told since, the terminal's ^C stands in this line.
        begin = "" if shared(ENDED, []) else "\n"
        sys.stderr.write(
            f"{begin}interrupted; engines that were finished stay, run again to go on\n"
        )
    else:
        show(kind, error, traceback)


def _end_with_doit() -> None:
    from ..worker import end_with_parent

    end_with_parent()
