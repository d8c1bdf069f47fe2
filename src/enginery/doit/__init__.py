"""enginery for doit: what a dodo.py imports.

from enginery.doit import doit_config, engine_tasks

DOIT_CONFIG = doit_config()

def task_engines():
    yield from engine_tasks("corpus.toml")
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["doit_config", "engine_tasks"]


def doit_config(**settings: Any) -> dict[str, Any]:
    """`DOIT_CONFIG` for a dodo.py: a database that cannot fail a run, and the live view.

    Args:
        settings: Settings of doit that are added or take precedence, as its manual has them.
    """
    return {"backend": "enginery", "reporter": "enginery", **settings}


def engine_tasks(corpus: str | Path) -> Iterator[Any]:
    """Tasks for every engine of a corpus file, and for the lowered models they need.

    Args:
        corpus: The corpus file, relative to the folder of dodo.py.

    Yields:
        What doit takes from a task creator: dicts, and Task objects.

    Raises:
        doit.exceptions.InvalidDodoFile: The corpus holds a mistake; the message is one line.
    """
    # What is imported and read here stays: without this the collector walks over it again and
    # again, for a twentieth of a run with nothing to do (docs/performance.md).
    gc.disable()
    try:
        # doit loads this package as a plugin in other projects too.
        from .tasks import corpus_tasks

        tasks = list(corpus_tasks(Path(corpus)))
    finally:
        gc.freeze()
        gc.enable()
    yield from tasks
