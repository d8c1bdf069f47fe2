"""A device's folder: releases side by side, and links that say which one is installed.

    DIR/current  -> releases/<target>-<digest of the release>     what an application opens
    DIR/previous -> releases/<the release before>
    DIR/releases/<target>-<digest>/                                engines, proofs, release.json

A release is put together under a name that begins with a dot. It gets its own name when it is
whole, and `current` leads to it by one rename: who is killed leaves the old release or the new.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import atomic
from .errors import EngineryError
from .locks import locked

_RELEASES = "releases"
_NAME = re.compile(
    r"(?P<target>[A-Za-z0-9][A-Za-z0-9._-]*)-(?P<digest>[0-9a-f]{64})(\.[0-9a-f]{8})?"
)


def name_of(target: str, digest: str) -> str:
    """The name of a release's folder."""
    return f"{target}-{digest}"


def parsed(folder: Path) -> tuple[str, str]:
    """Target and digest that the name of a release's folder says."""
    match = _NAME.fullmatch(folder.name)
    assert match is not None  # noqa: S101 - a `DeviceFolder` gives no others
    return match["target"], match["digest"]


class DeviceFolder:
    """The folder that releases of one target are installed in.

    Attributes:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._releases = root / _RELEASES
        self._current = root / "current"
        self._previous = root / "previous"

    @property
    def current(self) -> Path | None:
        """The release that is installed.

        Raises:
            EngineryError: What lies there is no link of ours.
        """
        return self._led_to(self._current)

    @property
    def previous(self) -> Path | None:
        """The release before it; see `current`."""
        return self._led_to(self._previous)

    def make(self) -> None:
        """Make the folder, unless it is there."""
        self._releases.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder's lock; what a killed process left of the links is cleared."""
        with locked(self.root / "install"):
            atomic.clear_leftovers((self._current, self._previous))
            for link in (self._current, self._previous):
                self._led_to(link)
            yield

    def complete(self) -> list[Path]:
        """Releases that were put together once; whether they still are whole is not looked at."""
        return [path for path in sorted(self._releases.iterdir()) if _NAME.fullmatch(path.name)]

    def partial(self, name: str) -> Path:
        """The folder to put a release together in; there is what an interrupted run has left."""
        path = self._releases / f".{name}.partial"
        path.mkdir(exist_ok=True)
        return path

    def finish(self, partial: Path, name: str) -> Path:
        """Give a release that is whole its name; another of that name is damaged and stays."""
        path = self._releases / name
        if path.exists():
            path = path.with_name(f"{name}.{atomic.random_hex()}")
        atomic.sync(partial)
        partial.rename(path)
        atomic.sync(self._releases)
        return path

    def install(self, folder: Path) -> None:
        """Have `current` lead to a release, and `previous` to the one that it led to."""
        before = self.current
        # The same release again, repaired: it is not the one before.
        if before is not None and parsed(before) != parsed(folder):
            self._lead(self._previous, before)
        if before != folder:
            self._lead(self._current, folder)

    def go_back(self) -> None:
        """Have `current` lead to where `previous` does."""
        assert self.previous is not None  # noqa: S101 - the caller verified it
        self._lead(self._current, self.previous)

    def tidy(self) -> None:
        """Remove releases that no link leads to, and what interrupted runs left of others."""
        kept = (self.current, self.previous)
        for path in self._releases.iterdir():
            name = path.name.removeprefix(".").removesuffix(".partial")
            if path not in kept and _NAME.fullmatch(name):
                discard(path)

    def _led_to(self, link: Path) -> Path | None:
        try:
            target = link.readlink()
        except FileNotFoundError:
            return None
        except OSError:  # it is no link
            target = Path()
        if target.parent != Path(_RELEASES) or not _NAME.fullmatch(target.name):
            raise EngineryError(
                f"{link} was not made by enginery; move it away, or install elsewhere"
            )
        return self._releases / target.name

    def _lead(self, link: Path, folder: Path) -> None:
        with atomic.staged(link) as temporary:
            temporary.symlink_to(Path(_RELEASES, folder.name))
            temporary.replace(link)
        atomic.sync(self.root)


def discard(path: Path) -> None:
    """Remove a file or a folder, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
