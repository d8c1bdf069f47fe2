"""Engines that are pushed and pulled in tests."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from registry_server import Proxy, Server, login_file, proxy_to, serve
from stores import keep, recipe_of

from enginery.store.layout import LocalStore
from enginery.store.manifest import Stored
from enginery.store.remote import RemoteStore


def engine_bytes(number: int, size: int = 3_000_000) -> bytes:
    """Bytes of an engine, none of them like the other."""
    return random.Random(number).randbytes(size)  # noqa: S311


class Fleet:
    """A registry, a proxy before it, and a machine with a local store."""

    def __init__(self, server: Server, proxy: Proxy, folder: Path) -> None:
        self.server = server
        self.proxy = proxy
        self.folder = folder
        self.local = LocalStore(folder / "store")

    def remote(self, *, direct: bool = True, **settings: object) -> RemoteStore:
        """A client that is new to the registry; through the proxy unless it is direct."""
        reference = (self.server if direct else self.proxy).reference
        return RemoteStore(reference, scratch=self.folder / "scratch", **settings)  # type: ignore[arg-type]

    def built(
        self, number: int, data: bytes | None = None, envelope: bytes | None = None
    ) -> Stored:
        """An engine in the local store."""
        data = engine_bytes(number) if data is None else data
        stored = self.local.find(keep(self.local, recipe_of(number), data, envelope=envelope))
        assert stored is not None
        return stored

    def pushed(self, number: int, **settings: bytes) -> Stored:
        """An engine in the registry."""
        stored = self.built(number, **settings)
        assert self.remote().push(stored, self.local.open_blob)
        return stored

    def pulled(self, remote: RemoteStore, fingerprint: str) -> bytes | None:
        """What a machine gets: an engine's bytes, verified by whoever asked."""
        found = remote.find(fingerprint)
        if found is None:
            return None
        output = self.folder / "pulled"
        output.unlink(missing_ok=True)
        digest = remote.fetch(found, output)
        data = output.read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest
        return data


@contextmanager
def fleet_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    for variable in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(folder / "home"))
    with serve(folder / "registry") as server, proxy_to(server.port) as proxy:
        login_file(folder / "docker", server.host, proxy.host)
        monkeypatch.setenv("DOCKER_CONFIG", str(folder / "docker"))
        yield Fleet(server, proxy, folder)
