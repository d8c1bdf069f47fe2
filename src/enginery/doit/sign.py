"""`doit sign`: signatures for engines that are there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from .. import atomic, provenance
from ..digest import read_regular
from ..errors import EngineryError
from ..locks import locked
from ..signing import SigningKey, envelope_path
from ..store.engines import EngineStore
from .corpus_command import DONE, CorpusCommand

_LIMIT = 4 << 20


class SignCommand(CorpusCommand):
    """Signs what is fresh."""

    name = "sign"
    doc_purpose = "sign engines that are fresh"
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "key",
            "short": "",
            "long": "key",
            "type": str,
            "default": "",
            "help": "private key, a PEM file [default: sign_with of the corpus]",
        },
    )

    def _execute(self, key: str) -> int:
        return self.reporting(partial(self._sign, key))

    def _sign(self, key: str) -> int:
        """Sign every engine that is fresh, in the folder and in the local store."""
        for job in self.fresh_jobs(unsigned=True):
            file = Path(key) if key else job.store.sign_with
            if file is None:
                raise EngineryError(
                    f'no key is given; write sign_with = "team.key.pem" under [trust] of '
                    f"{job.corpus_path}, or give --key"
                )
            path = job.plan.path
            with locked(path):
                document = read_regular(provenance.path_for(path), limit=_LIMIT)
                statement = provenance.parse(document, path.name)
                envelope = SigningKey.read(file, warn=self.warn).sign(document)
                atomic.write_atomically(envelope_path(path), envelope)
            store = EngineStore(job.store, self.warn)
            store.add(path, path.name, statement.sha256_hex, document, envelope)
            self.say(f"{path.name}: signed")
        return DONE
