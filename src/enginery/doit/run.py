"""doit's command `run`, which also writes the events of the run and knows misspelt names.

doit loads this module in other people's projects too: it is light, and otherwise doit's own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from io import FileIO
from typing import Any

from doit.cmd_run import Run
from doit.exceptions import InvalidCommand

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

    def execute(self, params: Any, args: list[str]) -> Any:
        """Load the tasks and run them."""
        self._json = str(params["json_file"] or "")
        try:
            return super().execute(params, args)
        except InvalidCommand as error:
            if error.not_found is None:
                raise
            raise NotFound(error, self._names()) from error

    # doit calls it with whatever its own has for parameters.
    @functools.wraps(Run._execute)
    def _execute(self, *args: Any, **params: Any) -> Any:
        if params.get("reporter") == "enginery" and not _forks(params):
            from .this_run import UNHEARD, shared

            unheard: list[bool] = shared(UNHEARD, [])
            unheard.append(True)
        if not self._json:
            return super()._execute(*args, **params)
        with self._open(params.get("reporter")) as file:
            from .this_run import EVENT_FILES, shared

            files: list[FileIO] = shared(EVENT_FILES, [])
            files.append(file)
            return super()._execute(*args, **params)

    def _open(self, reporter: Any) -> FileIO:
        if reporter != "enginery":
            raise InvalidCommand(
                f"--json: the reporter {reporter!r} writes no events; add: -r enginery"
            )
        if self._json == "-":
            raise InvalidCommand("--json: name a file; - is none")
        try:
            return FileIO(self._json, "w")
        except OSError as error:
            raise InvalidCommand(
                f"--json: {self._json} cannot be written: {error.strerror}; name another file"
            ) from error

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


def _forks(params: dict[str, Any]) -> bool:
    """Whether doit's worker processes, if any, are forked, and so can tell what they do."""
    if not params.get("num_process") or params.get("par_type") != "process":
        return True
    import multiprocessing  # which doit has loaded

    default, *_ = multiprocessing.get_all_start_methods()
    return (multiprocessing.get_start_method(allow_none=True) or default) == "fork"
