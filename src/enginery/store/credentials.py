"""Credentials where docker and podman keep them; there is no file of our own for them.

The files are docker's `config.json` and podman's `auth.json`, one format: a user and a password in
base64, an identity token, or the name of a program that keeps the secret. The programs speak the
protocol of docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import Struct

from ..digest import read_regular
from ..errors import IrregularFileError, RemoteError

_LIMIT = 4 << 20

# What a helper calls a user whose secret is an identity token.
_TOKEN_USER = "<token>"  # noqa: S105

_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a registry. The secrets do not show in a representation.

    Attributes:
        username: The user, empty for an identity token.
        password: The password, or whatever stands for it.
        identity_token: An OAuth2 refresh token, or empty.
        source: The file or program that they come from, for messages.
    """

    username: str = field(repr=False)
    password: str = field(repr=False)
    identity_token: str = field(repr=False)
    source: str

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


class _Entry(Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _File(Struct, frozen=True, rename="camel"):
    auths: dict[str, _Entry] = {}
    creds_store: str = ""
    cred_helpers: dict[str, str] = {}


class _Answer(Struct, frozen=True, rename="pascal"):
    username: str = ""
    secret: str = ""


def find(host: str, repository: str, *, timeout: float = 4.0) -> Credentials | None:
    """The credentials for a repository: the first that a file has.

    Args:
        host: The registry, with its port if it has one.
        repository: The repository; podman may have credentials of its own for it.
        timeout: Seconds that a credential helper may take.

    Raises:
        RemoteError: A file is malformed, or a helper that it names cannot be run.
    """
    for path in _paths():
        file = _read(path)
        if file is not None:
            found = _from_helper(file, path, host, timeout) or _from_file(
                file, path, host, repository
            )
            if found is not None:
                return found
    return None


def _paths() -> Iterator[Path]:
    """Files in the order in which they are asked; what a variable names comes first."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
        return
    docker = os.environ.get("DOCKER_CONFIG")
    if docker:
        yield Path(docker) / "config.json"
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"
    home = Path("~").expanduser()
    config = os.environ.get("XDG_CONFIG_HOME")
    yield (Path(config) if config else home / ".config") / "containers" / "auth.json"
    if not docker:
        yield home / ".docker" / "config.json"


def _read(path: Path) -> _File | None:
    try:
        return msgspec.json.decode(
            read_regular(path, limit=_LIMIT, follow_symlinks=True), type=_File
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, IrregularFileError, msgspec.DecodeError, UnicodeError) as error:
        raise RemoteError(f"{path}, which holds credentials, cannot be read: {error}") from error


def _from_helper(file: _File, path: Path, host: str, timeout: float) -> Credentials | None:
    """What a credential helper says; its words are never repeated, they may be the secret."""
    keys = {_normal(key): helper for key, helper in file.cred_helpers.items()}
    helper = keys.get(_normal(host), file.creds_store)
    if not helper:
        return None
    program = f"docker-credential-{helper}"
    found = shutil.which(program) if re.fullmatch(r"[\w.+-]+", helper) else None
    if found is None:
        raise RemoteError(f"{program!r}, which {path} names for {host}, is not installed")
    asked = "https://index.docker.io/v1/" if host in _DOCKER_HUB else host
    try:
        done = subprocess.run([found, "get"], input=asked.encode(), capture_output=True,
                              timeout=max(timeout, 0.1), check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RemoteError(f"{program}, which {path} names for {host}, does not answer") from None
    except OSError as error:
        raise RemoteError(f"{program}, which {path} names, cannot be run: {error}") from error
    if done.returncode:
        return None  # it has nothing for this registry
    try:
        answer = msgspec.json.decode(done.stdout, type=_Answer)
    except (msgspec.DecodeError, UnicodeError):
        raise RemoteError(f"{program}, which {path} names, answers no credentials") from None
    if answer.username == _TOKEN_USER:
        return Credentials("", "", answer.secret, program)
    return Credentials(answer.username, answer.secret, "", program) if answer.secret else None


def _from_file(file: _File, path: Path, host: str, repository: str) -> Credentials | None:
    """The entry whose key says most: the repository, a folder above it, or the registry."""
    entries = {_normal(key): entry for key, entry in file.auths.items()}
    parts = repository.split("/")
    folders = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    for key in (*(f"{_normal(host)}/{folder}" for folder in folders), _normal(host)):
        entry = entries.get(key)
        if entry is not None and (entry.auth or entry.password or entry.identitytoken):
            return _decode(entry, path, key)
    return None


def _decode(entry: _Entry, path: Path, key: str) -> Credentials:
    username, password = entry.username, entry.password
    if entry.auth:
        try:
            text = base64.b64decode(entry.auth, validate=True).decode()
        except (binascii.Error, ValueError):
            raise RemoteError(f"{path}: the credentials for {key} are malformed") from None
        username, _, password = text.partition(":")
        password = password.strip("\x00")
    return Credentials(username, password, entry.identitytoken, str(path))


def _normal(key: str) -> str:
    """A key as podman writes it: no scheme, no `/v1/` as docker has for its own registry."""
    name = re.sub(r"^https?://", "", key)
    name = re.sub(r"/v[12]/?$", "", name).rstrip("/")
    host, slash, rest = name.partition("/")
    return ("docker.io" if host in _DOCKER_HUB else host) + slash + rest
