"""Files of a machine, below a root that a test can give: a Jetson's can be read anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enginery.digest import read_regular
from enginery.errors import IrregularFileError

# The largest file read is dpkg's status: 1 to 10 MB. The rest has a few hundred bytes.
_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True)
class Root:
    """Where the files of a machine lie: "/" for this one."""

    path: Path = Path("/")

    def at(self, name: str) -> Path:
        """Where a file with an absolute name lies below this root."""
        return self.path / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Whether something is there that may be looked at."""
        try:
            return self.at(name).exists()
        except OSError:  # before Python 3.12 a folder that may not be entered raises
            return False

    def read(self, name: str) -> bytes | None:
        """The bytes of a regular file; None where it is not there or cannot be read."""
        try:
            return read_regular(self.at(name), limit=_LIMIT, follow_symlinks=True)
        except (OSError, IrregularFileError):
            return None

    def text(self, name: str) -> str | None:
        """A file's text, with what is no UTF-8 replaced; None where it cannot be read."""
        content = self.read(name)
        return None if content is None else content.decode(errors="replace")


HERE = Root()
"""The machine that we are on."""
