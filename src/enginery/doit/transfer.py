"""`doit push` and `doit pull`: engines to and from the remote store."""

from __future__ import annotations

from collections.abc import Iterable

from .. import provenance
from ..digest import read_regular
from ..engine_job import EngineJob
from ..envelope import read_envelope
from ..errors import EngineryError, RemoteError
from ..inputs import InputDigests
from ..store.engines import EngineStore
from ..store.layout import LocalStore, Stored
from .corpus_command import DONE, FAILED, CorpusCommand

_LIMIT = 4 << 20


class PushCommand(CorpusCommand):
    """Pushes what is fresh here."""

    name = "push"
    doc_purpose = "push engines to the remote store of the corpus"

    def _execute(self) -> int:
        return self.reporting(self._push)

    def _push(self) -> int:
        """Push every engine that is fresh; one that the remote store has is not sent again."""
        failed = 0
        for job in self.jobs():
            if job.store.remote is None:
                raise EngineryError(no_remote(job))
        for job in self.fresh_jobs():
            store = EngineStore(job.store, self.warn)
            remote = store.remote
            if remote is None:
                raise EngineryError(no_remote(job))
            try:
                local, stored = kept(job, store)
                sent = remote.push(stored, local.open_blob)
            except EngineryError as error:
                failed += 1
                self.warn(f"{job.task} was not pushed: {error}")
                if isinstance(error, RemoteError):
                    return FAILED
                continue
            self.say(f"{stored.name}: {'pushed' if sent else 'there already'}")
        return FAILED if failed else DONE


class PullCommand(CorpusCommand):
    """Pulls what is not fresh here."""

    name = "pull"
    doc_purpose = "pull engines from the stores, and build none"

    def _execute(self) -> int:
        return self.reporting(self._pull)

    def _pull(self) -> int:
        """Restore every engine that is not fresh; those that no store has are told."""
        from .actions import restored

        missing = 0
        for job in self.jobs():
            try:
                if job.judge_now(InputDigests()).fresh:
                    self.say(f"{job.plan.path.name}: fresh already")
                    continue
                # Who asks for it by name wants it from a store, though it was cleaned here.
                fingerprint = job.plan.recipe(InputDigests()).fingerprint
                EngineStore(job.store, self.warn).allow(fingerprint)
                if not restored(job):
                    missing += 1
                    self.warn(f"{job.task}: no store has it")
            except (EngineryError, OSError) as error:
                missing += 1
                self.warn(f"{job.task}: {error}")
        return FAILED if missing else DONE


def no_remote(job: EngineJob) -> str:
    """What is said where a corpus has no remote store."""
    return (
        f"{job.corpus_path} has no remote store; add, under [store], "
        'remote = "registry.example.com/team/engines"'
    )


def kept(job: EngineJob, store: EngineStore) -> tuple[LocalStore, Stored]:
    """An engine in the local store, added if it is not there with these bytes and this signature.

    Raises:
        EngineryError: There is no local store, or it cannot be written.
    """
    local = store.local
    if local is None:
        raise EngineryError(
            f"{job.corpus_path} has no local store, which a push goes through; remove "
            "local = false under [store]"
        )
    path = job.plan.path
    document = read_regular(provenance.path_for(path), limit=_LIMIT)
    statement = provenance.parse(document, path.name)
    store.add(path, path.name, statement.sha256_hex, document, read_envelope(path))
    stored = local.find(statement.fingerprint)
    if stored is None:
        reason = local.reasons.get(statement.fingerprint, "it was dropped meanwhile")
        raise EngineryError(f"{path.name} is not in the local store: {reason}")
    return local, stored


def fingerprints(jobs: Iterable[EngineJob]) -> set[str]:
    """Fingerprints of engines as they would be made now."""
    inputs = InputDigests()
    return {job.plan.recipe(inputs).fingerprint for job in jobs}
