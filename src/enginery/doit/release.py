"""`doit release`: one document that names every engine of a corpus."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from .. import atomic
from .. import release as releases
from ..corpus_tables import nearest
from ..engine_job import EngineJob
from ..errors import EngineryError
from ..inputs import InputDigests
from ..signing import SigningKey, envelope_path
from ..store.engines import EngineStore
from ..store.release_index import pack_release
from .corpus_command import DONE, CorpusCommand
from .transfer import kept, no_remote


class ReleaseCommand(CorpusCommand):
    """Writes, signs and pushes a release."""

    name = "release"
    doc_purpose = "write a release of the corpus: release.json, signed if there is a key"
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "output",
            "short": "o",
            "long": "output",
            "type": str,
            "default": "release.json",
            "help": "the file [default: %(default)s]",
        },
        {
            "name": "target",
            "short": "t",
            "long": "target",
            "type": list,
            "default": [],
            "help": "only this target; may be given several times [default: all]",
        },
        {
            "name": "push",
            "short": "",
            "long": "push",
            "type": bool,
            "default": False,
            "help": "push its engines and an index of them to the remote store",
        },
    )

    def _execute(self, output: str, target: list[str], push: bool) -> int:
        return self.reporting(partial(self._release, Path(output), target, push=push))

    def _release(self, output: Path, targets: list[str], *, push: bool) -> int:
        """Write the release; every engine of it has to be fresh."""
        jobs = [job for job in self.jobs() if not targets or job.target in targets]
        known = sorted({job.target for job in self.jobs()})
        for name in targets:
            if name not in known:
                hint = nearest(name, known) or f"known are {', '.join(known)}"
                raise EngineryError(f"there is no target {name!r}; {hint}")
        inputs = InputDigests()
        for job in jobs:
            verdict = job.judge_now(inputs)
            if not verdict.fresh:
                raise EngineryError(
                    f"{job.task} is not fresh: {verdict.reason}; a release names every engine, so "
                    "build it first, or name the targets to release with --target"
                )
        release = releases.make(releases.describe(job.target, job.plan.path) for job in jobs)
        document = release.document()
        envelope = None
        key = next((job.store.sign_with for job in jobs if job.store.sign_with), None)
        if key is not None:
            envelope = SigningKey.read(key, warn=self.warn).sign(document, releases.MEDIA_TYPE)
        # The old envelope is about another release.
        envelope_path(output).unlink(missing_ok=True)
        atomic.write_atomically(output, document)
        if envelope is not None:
            atomic.write_atomically(envelope_path(output), envelope)
        signed = "signed" if envelope else "not signed"
        self.say(f"{output}: {len(jobs)} engines, release {release.digest[:12]}, {signed}")
        if push:
            self._push(jobs, document, envelope)
        return DONE

    def _push(self, jobs: list[EngineJob], document: bytes, envelope: bytes | None) -> None:
        store = EngineStore(jobs[0].store, self.warn)
        remote = store.remote
        if remote is None:
            raise EngineryError(no_remote(jobs[0]))
        stored = []
        for job in jobs:
            if job.store.remote != store.spec.remote:
                raise EngineryError(
                    f"{job.corpus_path} and {jobs[0].corpus_path} have different remote stores; "
                    "release the engines of one corpus at a time"
                )
        for job in jobs:
            local, one = kept(job, EngineStore(job.store, self.warn))
            remote.push(one, local.open_blob)
            stored.append(one)
        packed = pack_release(document, envelope, stored)
        remote.push_release(packed)
        self.say(f"pushed to {jobs[0].store.remote}, tag {packed.tag}")
