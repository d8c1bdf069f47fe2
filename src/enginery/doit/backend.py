"""doit's database, in a form that cannot fail a run.

doit remembers in it what users' own tasks did; for engines nothing rests on it. doit's own
backends end a run where the file is damaged, or where two runs meet in it. This one sets a
damaged file aside with a warning, writes atomically, and adds what this run learnt to what
another run wrote meanwhile.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# The base class is doit's own JSON backend; doit has loaded it already.
from doit.dependency import JsonDB

from ..atomic import clear_leftovers, random_hex, write_atomically
from ..digest import read_regular
from ..errors import IrregularFileError

_LIMIT = 1 << 30


class HealingJsonDB(JsonDB):  # type: ignore[misc]
    """doit's JSON backend that heals."""

    desc = "JSON, damage is set aside, two runs may meet"

    def __init__(self, name: str, codec: Any, *, module_name: str | None = None) -> None:  # noqa: ARG002
        self.name = name
        self.codec = codec
        self._path = Path(name)
        self._db: dict[str, dict[str, Any]] = self._read()
        self._changed: set[str] = set()

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Store a value of a task."""
        super().set(task_id, dependency, value)
        self._changed.add(task_id)

    def remove(self, task_id: str) -> None:
        """Forget a task."""
        super().remove(task_id)
        self._changed.add(task_id)

    def remove_all(self) -> None:
        """Forget every task."""
        self._changed.update(self._db)
        super().remove_all()

    def dump(self) -> None:
        """Write what this run changed over what the file holds now."""
        if not self._changed:
            return
        try:
            self._write()
        except OSError as error:
            sys.stderr.write(
                f"WARNING: doit's database {self.name} cannot be written: {error.strerror}; "
                "tasks other than engines may run once more\n"
            )

    def _write(self) -> None:
        from ..locks import locked  # needed only where something ran

        with locked(self._path):
            clear_leftovers([self._path])
            stored = self._read()
            for task_id in self._changed:
                stored.pop(task_id, None)
                if task_id in self._db:
                    stored[task_id] = self._db[task_id]
            write_atomically(self._path, self.codec.encode(stored).encode())

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            data = read_regular(self._path, limit=_LIMIT, follow_symlinks=True)
        except FileNotFoundError:
            return {}
        except (IrregularFileError, OSError) as error:
            return self._set_aside(str(error))
        if not data:
            return {}
        try:
            stored = self.codec.decode(data.decode())
        except (ValueError, RecursionError):
            return self._set_aside("it is damaged, or of another backend")
        if not isinstance(stored, dict) or not all(isinstance(v, dict) for v in stored.values()):
            return self._set_aside("it is damaged, or of another backend")
        return stored

    def _set_aside(self, reason: str) -> dict[str, dict[str, Any]]:
        aside = f"{self.name}.unreadable-{random_hex()}"
        try:
            os.replace(self.name, aside)  # noqa: PTH105
        except OSError as error:
            aside = f"where it is ({error})"
        sys.stderr.write(
            f"WARNING: doit's database {self.name} cannot be read: {reason}. It was left as "
            f"{aside}; tasks other than engines may run once more.\n"
        )
        return {}
