"""The figures of the remote store: a registry on loopback, skopeo doing the same.

    python benchmarks/remote.py [push pull memory]

Nothing is asserted about a time; a ratio above its bar has `over` beside it. Needs the programs
`docker-registry` and `skopeo`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pairs import measure, run, table
from store import kept

from enginery.store.layout import LocalStore

SIZE = 1_000_000_000
LARGE = 2_000_000_000
PAIRS = 7

CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/storage}}}}
http: {{addr: "127.0.0.1:{port}", secret: of-benchmarks}}
"""

# A process of its own each time, as skopeo is one; its peak is VmHWM, see figures.py.
OURS = """\
import sys
from pathlib import Path
from enginery import atomic
from enginery.store.layout import LocalStore
from enginery.store.remote import RemoteStore
what, reference, fingerprint, store, output = sys.argv[1:]
remote = RemoteStore(reference, scratch=Path(store))
if what == "push":
    local = LocalStore(Path(store))
    assert remote.push(local.find(fingerprint), local.open_blob)
else:
    remote.fetch(remote.find(fingerprint), Path(output))
    atomic.sync(Path(output))
status = open("/proc/self/status").read()
print("peak", status.partition("VmHWM:")[2].split()[0])
"""


class Fleet:
    """A registry, and an engine in a local store."""

    def __init__(self, work: Path, size: int) -> None:
        work.mkdir(parents=True)
        self.work = work
        self.store = LocalStore(work / "store")
        engine = work / "large.engine"
        with engine.open("wb") as stream:
            for start in range(0, size, 1 << 24):
                stream.write(os.urandom(min(1 << 24, size - start)))
        self.fingerprint = kept(self.store, engine)
        engine.unlink()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
        (work / "config.yml").write_text(CONFIG.format(folder=work, port=self.port))

    @property
    def reference(self) -> str:
        """The repository."""
        return f"127.0.0.1:{self.port}/engines"

    @property
    def source(self) -> str:
        """The engine in the registry, as skopeo calls it."""
        return f"docker://{self.reference}:{self.fingerprint}"

    @contextmanager
    def registry(self) -> Iterator[None]:
        """Run the registry on what it has."""
        command = ["docker-registry", "serve", str(self.work / "config.yml")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", self.port)).close()
                    break
                except OSError:
                    assert process.poll() is None
                    time.sleep(0.02)
            yield
        finally:
            process.kill()
            process.wait()

    def empty(self) -> None:
        """Forget all that was pushed or pulled, on the disk too."""
        for made in ("storage", "copied"):
            shutil.rmtree(self.work / made, ignore_errors=True)
        (self.work / "pulled").unlink(missing_ok=True)
        os.sync()

    def ours(self, what: str) -> list[str]:
        """The command that pushes or pulls with enginery."""
        return [sys.executable, "-c", OURS, what, self.reference, self.fingerprint,
                str(self.store.root), str(self.work / "pulled")]  # fmt: skip


def push(work: Path) -> Iterator[str]:
    """An engine to a registry that is empty."""
    fleet = Fleet(work, SIZE)
    source = f"oci:{fleet.store.root}:{fleet.fingerprint}"
    skopeo = ["skopeo", "copy", "--dest-tls-verify=false", source, fleet.source]

    def timed(command: list[str]) -> float:
        fleet.empty()
        with fleet.registry():
            return run(command, fleet.work)

    yield measure(
        f"push of an engine of {SIZE // 10**6} MB, against `skopeo copy`",
        lambda: timed(fleet.ours("push")),
        lambda: timed(skopeo),
        pairs=PAIRS,
        bar=1.2,
    ).row()


def pull(work: Path) -> Iterator[str]:
    """An engine from a registry to a file that is synced; skopeo syncs what it writes too."""
    fleet = Fleet(work, SIZE)
    copied = f"oci:{fleet.work / 'copied'}:{fleet.fingerprint}"
    skopeo = ["skopeo", "copy", "--src-tls-verify=false", fleet.source, copied]
    with fleet.registry():
        run(fleet.ours("push"), fleet.work)

        def timed(command: list[str]) -> float:
            shutil.rmtree(fleet.work / "copied", ignore_errors=True)
            (fleet.work / "pulled").unlink(missing_ok=True)
            os.sync()
            return run(command, fleet.work)

        yield measure(
            f"pull of an engine of {SIZE // 10**6} MB, against `skopeo copy`",
            lambda: timed(fleet.ours("pull")),
            lambda: timed(skopeo),
            pairs=PAIRS,
            bar=1.2,
        ).row()


def memory(work: Path) -> Iterator[str]:
    """Peak memory of the process that pushes or pulls."""
    fleet = Fleet(work, LARGE)
    with fleet.registry():
        for what in ("push", "pull"):
            done = subprocess.run(fleet.ours(what), capture_output=True, text=True, check=True)
            peak = int(done.stdout.rpartition("peak ")[2]) * 1024 / 1e6
            over = " over" if peak > 100 else ""
            yield (
                f"| peak memory of the {what} of an engine of {LARGE // 10**6} MB "
                f"| {peak:.0f} MB{over} | | | 100 MB |"
            )


FIGURES = {f.__name__: f for f in (push, pull, memory)}


if __name__ == "__main__":
    table(__doc__, FIGURES)
