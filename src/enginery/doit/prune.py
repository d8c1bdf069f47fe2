"""`doit prune`: keeps the local store under a size and an age."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from .. import release as releases
from ..errors import EngineryError
from ..store.layout import LocalStore
from .corpus_command import DONE, CorpusCommand

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DAYS = {"": 1.0, "d": 1.0, "h": 1 / 24, "w": 7.0}


class PruneCommand(CorpusCommand):
    """Drops what was not used for long."""

    name = "prune"
    doc_purpose = "drop engines from the local store, least recently used first"
    doc_usage = ""
    doc_description = "What a release names (--keep, and release.json beside the corpus) stays."
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "size",
            "short": "",
            "long": "max-size",
            "type": str,
            "default": "",
            "help": "what all engines may take together, such as 20G",
        },
        {
            "name": "age",
            "short": "",
            "long": "max-age",
            "type": str,
            "default": "",
            "help": "for how long an engine may lie unused, such as 30d or 12h",
        },
        {
            "name": "keep",
            "short": "",
            "long": "keep",
            "type": list,
            "default": [],
            "help": "a release whose engines stay; may be given several times",
        },
        {
            "name": "dry_run",
            "short": "n",
            "long": "dry-run",
            "type": bool,
            "default": False,
            "help": "only say what would go",
        },
    )

    def _execute(self, size: str, age: str, keep: list[str], dry_run: bool) -> int:
        return self.reporting(partial(self._prune, size, age, keep, dry_run=dry_run))

    def _prune(self, size: str, age: str, keep: list[str], *, dry_run: bool) -> int:
        """Prune the local store of every corpus."""
        if not self.sel_default_tasks:
            raise EngineryError("doit prune takes no tasks; it prunes the store as a whole")
        max_bytes = None if not size else int(_number(size, _UNITS, "--max-size", "20G"))
        max_age = None if not age else _number(age, _DAYS, "--max-age", "30d") * 86400
        kept = set().union(*(_named(Path(release)) for release in keep))
        roots = {}
        for corpus, _ in self.corpora():
            beside = corpus.path.parent / releases.FILE_NAME
            if beside.exists():
                kept |= _named(beside)
            if corpus.store.path is not None:
                roots[corpus.store.path] = LocalStore(corpus.store.path)
        for root, store in roots.items():
            gone = store.prune(max_bytes=max_bytes, max_age_s=max_age, keep=kept, dry_run=dry_run)
            for entry in gone:
                self.say(f"{entry.name or entry.fingerprint[:12]}: {entry.reason}")
            total = sum(entry.size for entry in gone)
            verb = "would go" if dry_run else "went"
            self.say(f"{root}: {len(gone)} engines, {total / 1e6:.1f} MB {verb}")
        return DONE


def _named(release: Path) -> set[str]:
    document, _ = releases.read_file(release)
    return {engine.fingerprint for engine in releases.read(document, str(release)).engines}


def _number(text: str, units: dict[str, Any], option: str, example: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]?)", text)
    if match is None or match[2] not in units:
        raise EngineryError(f"{option} {text!r} is none; write for example {example}")
    return float(match[1]) * float(units[match[2]])
