"""What one may try to have a worker run: each leaves a file behind."""

from __future__ import annotations

from pathlib import Path

from distributed import WorkerPlugin


def touch(path: str) -> str:
    Path(path).touch()
    return path


async def touch_later(path: str) -> str:
    return touch(path)


class Toucher:
    def __init__(self, path: str) -> None:
        touch(path)


class Touching(WorkerPlugin):
    def __init__(self, path: str) -> None:
        self.path = path

    def setup(self, worker: object) -> None:
        touch(self.path)
