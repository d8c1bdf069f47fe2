"""`[store]` and `[trust]` of corpus.toml: where engines are kept, and what is believed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .corpus_backbones import STATE
from .corpus_tables import beside, mistake, read_table
from .store_spec import StoreSpec, default_store
from .trust import Policy

PLACE = "ENGINERY_STORE"
"""The environment variable that says where the local store is; "off" is none."""

KEY = "ENGINERY_SIGNING_KEY"
"""The environment variable that names the private key of builds."""

_Text = Annotated[str, Meta(min_length=1)]


class StoreTable(msgspec.Struct, forbid_unknown_fields=True):
    """`[store]`: the local store and the remote one.

    Attributes:
        local: Whether engines are looked for and kept in the local store.
        path: Its folder; one in the user's cache folder where left out.
        remote: Registry and repository, such as "registry.example.com/team/engines".
        read_only: Whether nothing is pushed.
        insecure: Whether plain HTTP will do off this machine.
    """

    local: bool = True
    path: _Text | None = None
    remote: _Text | None = None
    read_only: bool = False
    insecure: bool = False


class TrustTable(msgspec.Struct, forbid_unknown_fields=True):
    """`[trust]`: whose signatures count, what must be signed, and with what builds are signed.

    Attributes:
        keys: PEM files of public keys.
        require: What must be signed by one of them to be believed.
        sign_with: PEM file of the private key that builds are signed with.
    """

    keys: list[_Text] = []
    require: Literal["none", "remote", "all"] = "none"
    sign_with: _Text | None = None


def read_store(path: Path, store: dict[str, Any], trust: dict[str, Any]) -> StoreSpec:
    """What the two tables of a corpus file say.

    Raises:
        CorpusError: One of them holds a mistake.
    """
    places = read_table(path, "store", store, StoreTable)
    believed = read_table(path, "trust", trust, TrustTable)
    keys = tuple(_file(path, "trust.keys", key) for key in believed.keys)
    if believed.require != "none" and not keys:
        raise mistake(
            path, "trust.keys",
            f'require = "{believed.require}" needs keys to check with; write '
            'keys = ["team.pub.pem"]',
        )  # fmt: skip
    key = os.environ.get(KEY) or believed.sign_with
    return StoreSpec(
        path=_local(path, places),
        remote=places.remote,
        read_only=places.read_only,
        insecure=places.insecure,
        policy=Policy(keys=keys, require=believed.require),
        sign_with=None if key is None else _file(path, "trust.sign_with", key),
        rebuild=path.parent / STATE / "rebuild",
    )


def _local(path: Path, places: StoreTable) -> Path | None:
    named = os.environ.get(PLACE)
    if named == "off" or not (named or places.local):
        return None
    if named:
        return Path(named).absolute()
    if places.path:
        return _file(path, "store.path", places.path)
    return default_store()


def _file(path: Path, key: str, named: str) -> Path:
    """A path of the file, which is relative to it or begins with a home folder."""
    return beside(path, key, os.path.expanduser(named))  # noqa: PTH111
