"""corpus.toml, parsed strictly: whatever is not understood is an error that says what to do.

What needs the model's graph is not looked at here, so that listing a corpus stays fast; it is
checked when a build starts. docs/corpus.md describes the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .corpus_backbones import CorpusBackbone, read_backbone
from .corpus_farm import read_farm
from .corpus_store import read_store
from .corpus_tables import beside, check_distinct, mistake, read_table, read_toml
from .corpus_targets import TargetSpec, read_target
from .corpus_types import CorpusFile, CorpusTable
from .errors import CorpusError
from .farm_spec import FarmSpec
from .store_spec import StoreSpec

if TYPE_CHECKING:
    from .probing import DeclaredHost


SCHEMA = 1


class Corpus(msgspec.Struct, frozen=True):
    """A corpus file, read.

    Attributes:
        path: The file, as it was given; its paths are relative to it.
        engines: Folder of the engines.
        targets: Targets by name.
        backbones: Backbones in the order of the file.
        host: What the file declares this machine to be, or None.
        store: Where engines are kept besides the engine folder, and what is believed.
        farm: Who builds what this host cannot, or None.
    """

    path: Path
    engines: Path
    targets: Mapping[str, TargetSpec]
    backbones: tuple[CorpusBackbone, ...]
    host: DeclaredHost | None = None
    store: StoreSpec = StoreSpec()
    farm: FarmSpec | None = None

    def error(self, key: str, fault: str) -> CorpusError:
        """An error about this file, in the one line that users see."""
        return mistake(self.path, key, fault)


def read_corpus(path: Path | str) -> Corpus:
    """Read and check a corpus file.

    Raises:
        CorpusError: The file is missing, is no TOML, or holds a mistake.
    """
    path = Path(path)
    tables = read_table(path, "", read_toml(path), CorpusFile)
    if tables.schema != SCHEMA:
        raise mistake(
            path, "schema", f"version {tables.schema} is unknown; write schema = {SCHEMA}"
        )
    defaults = read_table(path, "corpus", tables.corpus, CorpusTable)
    check_distinct(path, "corpus.precision", defaults.precision or ())
    check_distinct(path, "corpus.targets", defaults.targets or ())
    targets = {name: read_target(path, name, table) for name, table in tables.targets.items()}
    return Corpus(
        path=path,
        engines=beside(path, "corpus.engines", defaults.engines),
        targets=targets,
        backbones=tuple(
            read_backbone(path, name, table, defaults, targets)
            for name, table in tables.backbones.items()
        ),
        host=None if tables.host is None else _host(path, tables.host),
        store=read_store(path, tables.store, tables.trust),
        farm=read_farm(path, tables.farm),
    )


def _host(path: Path, table: dict[str, Any]) -> DeclaredHost:
    from .probing import DeclaredHost  # not where the machine is what it is

    return read_table(path, "host", table, DeclaredHost)
