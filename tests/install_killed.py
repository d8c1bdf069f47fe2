"""Installs a release and is killed at every change of the file system in turn.

test_install.py runs it as a program: a folder to work in, with `old` and `new`, two releases, and
`device`, where the old one is installed after an older one. After each kill what is installed must
be the old release or the new, whole; a second run must install the new one, and a rollback must
bring back the old. It prints how many kills there were.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from enginery import release
from enginery.install import install, installed, rollback
from enginery.release_source import source_of

CHANGES = {"open", "os.rename", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"}


def install_from(folder: Path, device: Path) -> int:
    document, envelope = release.read_file(folder)
    return install(
        document, envelope, target="orin", into=device, source=source_of(folder)
    ).received


def killed_at(number: int, folder: Path, device: Path) -> bool:
    """Install in a child that is killed at its change of this number; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = number

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in CHANGES and str(device) in str(arguments):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        install_from(folder, device)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert status == 0
    return False


def main(work: Path) -> None:
    digests = {
        name: release.read(release.read_file(work / name)[0]).digest for name in ("old", "new")
    }
    device, seen, number = work / "copy", set(), 0
    while True:
        number += 1
        shutil.rmtree(device, ignore_errors=True)
        shutil.copytree(work / "device", device, symlinks=True)
        killed = killed_at(number, work / "new", device)
        found = installed(device).digest
        assert found in digests.values(), "neither the old release nor the new"
        seen.add(found)
        received = install_from(work / "new", device)
        assert installed(device).digest == digests["new"]
        assert received == 0 or found == digests["old"]
        assert rollback(device).digest == digests["old"]
        assert len(list((device / "releases").iterdir())) == 2
        if not killed:
            break
    assert seen == set(digests.values())
    sys.stdout.write(str(number - 1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
