"""The stores of a corpus: asked for an engine before it is built, given it when it was.

The order is: the local store, then the remote one. What comes out of either is verified on the way
and published as if it had been built here. A store that is of no use costs a line of warning and no
build.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import provenance
from ..atomic import staged
from ..errors import (
    EngineBuildError,
    EngineryError,
    FarmError,
    RemoteError,
    SignatureError,
    StoreError,
)
from ..filename import EngineFilenameSchema
from ..provenance import Statement
from ..publish import publish
from ..recipe import Recipe, input_files
from ..store_spec import StoreSpec, default_store
from ..trust import Origin, check, read_keys
from .layout import LocalStore, Stored
from .remote import RemoteStore

if TYPE_CHECKING:
    from ..farm.asked import Made
    from ..farm.client import Farm

_WARNED: set[str] = set()


class EngineStore:
    """The local and the remote store of a corpus, and what is believed of them.

    Attributes:
        spec: Where they are and what is believed.
    """

    def __init__(self, spec: StoreSpec, warn: Callable[[str], None]) -> None:
        self.spec = spec
        self._warn = warn
        self._told = False

    @cached_property
    def local(self) -> LocalStore | None:
        """The local store, if there is one."""
        return LocalStore(self.spec.path) if self.spec.path else None

    @cached_property
    def remote(self) -> RemoteStore | None:
        """The remote store, if there is one.

        Raises:
            RemoteError: Its reference is none, or a package is missing.
        """
        if self.spec.remote is None:
            return None
        root = self.spec.path or default_store() or Path(tempfile.gettempdir())
        return _remote(
            self.spec.remote, root / "downloads", self.spec.read_only, self.spec.insecure
        )

    def is_to_be_built(self, fingerprint: str) -> bool:
        """Whether someone asked for an engine to be built although a store may have it."""
        return self.spec.rebuild is not None and (self.spec.rebuild / fingerprint).exists()

    def forget(self, fingerprints: Iterable[str]) -> None:
        """Have engines built the next time: drop them here, and do not ask the remote store.

        Raises:
            StoreError: The local store cannot be written.
        """
        for fingerprint in fingerprints:
            if self.spec.rebuild is not None and self.spec.remote is not None:
                self.spec.rebuild.mkdir(parents=True, exist_ok=True)
                (self.spec.rebuild / fingerprint).touch()
            if self.local is not None:
                self.local.remove(fingerprint)

    def allow(self, fingerprint: str) -> None:
        """Take back what `forget` noted: a store may be asked again."""
        if self.spec.rebuild is not None:
            (self.spec.rebuild / fingerprint).unlink(missing_ok=True)

    def restore(self, path: Path, recipe: Recipe, names: Mapping[str, str]) -> str | None:
        """Publish an engine from a store; which one it was, or None where none has it.

        Args:
            path: Where the engine is to be.
            recipe: What it is to be made from.
            names: Role to file name, for inputs that are not external data.
        """
        if self.is_to_be_built(recipe.fingerprint):
            return None
        for origin, store in self._asked():
            try:
                stored = store.find(recipe.fingerprint)
                if stored is not None:
                    self._take(origin, store, stored, path, recipe, names)
                    return "the local store" if origin == "local" else str(self.spec.remote)
                self._explain(store, recipe.fingerprint)
            except (StoreError, RemoteError, SignatureError) as error:
                self._warn(f"{path.name} is not taken from a store: {error}")
        return None

    def has(self, fingerprint: str) -> bool:
        """Whether a store has an engine, as far as can be told now; fetches nothing."""
        if self.is_to_be_built(fingerprint):
            return False
        for _, store in self._asked():
            with suppress(StoreError, RemoteError):
                if store.find(fingerprint) is not None:
                    return True
        return False

    def check_trust(self) -> None:
        """Raise before anything is asked for that could not be believed, whoever signs it.

        Raises:
            EngineryError: A key of the policy cannot be used.
        """
        if self.spec.policy.demands("remote"):
            read_keys(self.spec.policy)

    def take_from_farm(
        self,
        farm: Farm,
        build: Callable[[], Stored],
        path: Path,
        recipe: Recipe,
        names: Mapping[str, str],
    ) -> Made:
        """Have an engine built elsewhere and publish it; who made it.

        It is believed as what comes from a remote store is. A worker that sends anything else is
        left out, and another one is asked.

        Args:
            farm: Who is asked.
            build: Asks it, and waits.
            path: Where the engine is to be.
            recipe: What it is to be made from.
            names: Role to file name, for inputs that are not external data.

        Raises:
            EngineryError: Nobody builds it, or nobody whose engine is believed.
            OSError: The engine cannot be written.
        """
        while True:
            stored = build()
            made = farm.made(stored)
            try:
                self._take("remote", farm, stored, path, recipe, names)
            except (StoreError, SignatureError, FarmError) as error:
                farm.refuse(stored, error)
                continue
            self.allow(recipe.fingerprint)
            return made

    def keep(self, engine: Path, path: Path, sha256_hex: str, document: bytes) -> bytes | None:
        """Keep an engine that was just built, before it is published; its signature, if any.

        Args:
            engine: Its bytes, in a file that is complete.
            path: Where it is going to be published.
            sha256_hex: Digest of its bytes.
            document: Its provenance.

        Raises:
            EngineryError: It is to be signed and cannot be.
        """
        envelope = self.sign(document)
        self.add(engine, path.name, sha256_hex, document, envelope)
        self.allow(provenance.parse(document, path.name).fingerprint)
        return envelope

    def check_signing(self) -> None:
        """Raise before anything is built for what could not be signed, or believed, afterwards.

        Raises:
            EngineBuildError: The policy would refuse what is built here.
            EngineryError: The key cannot be used.
        """
        if self.spec.sign_with is None and not self.spec.policy.demands("local"):
            return
        from ..signing import SigningKey  # not where nothing is signed

        if self.spec.sign_with is None:
            raise EngineBuildError(
                'what is built here would not be believed: require = "all", and there is no key to '
                "sign with; add sign_with under [trust], or take engines from a store"
            )
        key = SigningKey.read(self.spec.sign_with, warn=self._warn)
        if self.spec.policy.demands("local"):
            trusted = {one.key_id for one in read_keys(self.spec.policy)}
            if key.key_id not in trusted:
                raise EngineBuildError(
                    f"what is built here would not be believed: {self.spec.sign_with} is the "
                    "private half of none of the trusted keys; add its public half to keys"
                )

    def sign(self, document: bytes) -> bytes | None:
        """The signature of a provenance, or None where no key is given.

        Raises:
            EngineryError: The key cannot be used.
        """
        if self.spec.sign_with is None:
            return None
        from ..signing import sign  # not where nothing is signed

        return sign(document, self.spec.sign_with)

    def add(
        self, engine: Path, name: str, sha256_hex: str, document: bytes, envelope: bytes | None
    ) -> None:
        """Add an engine to the local store; where that fails, a warning is all."""
        if self.local is None:
            return
        try:
            self.local.add(
                engine,
                sha256_hex=sha256_hex,
                document=document,
                envelope=envelope,
                name=name,
                annotations=described(name, document),
            )
        except StoreError as error:
            # What is wrong with the store as a whole was told when it was asked.
            if not self._told:
                self._warn_once(f"{self.spec.path}: {error.__cause__}", str(error))

    def _asked(self) -> Iterator[tuple[Origin, Any]]:
        if self.local is not None:
            yield "local", self.local
        try:
            remote = self.remote
        except RemoteError as error:
            self._warn(str(error))
            return
        # One that is of no use was warned of once, and is not asked again in this process.
        if remote is not None and not remote.given_up:
            yield "remote", remote

    def _explain(self, store: Any, fingerprint: str) -> None:
        reason = getattr(store, "reasons", {}).get(fingerprint)
        if reason:
            self._told = True
            self._warn_once(reason, f"what the store has is not believed: {reason}")

    def _warn_once(self, fault: str, text: str) -> None:
        """Warn of a fault that many engines may meet, once in this process."""
        if fault not in _WARNED:
            _WARNED.add(fault)
            self._warn(text)

    def _take(
        self,
        origin: Origin,
        store: Any,
        stored: Stored,
        path: Path,
        recipe: Recipe,
        names: Mapping[str, str],
    ) -> None:
        check(
            self.spec.policy,
            document=stored.document,
            envelope=stored.envelope,
            engine_sha256=stored.engine.sha256_hex,
            engine_name=stored.name,
            origin=origin,
        )
        document, envelope = stored.document, stored.envelope
        statement = provenance.parse(document, stored.name)
        if statement.recipe != recipe:
            raise StoreError(f"{stored.name} was made from something else than is asked for")
        if stored.name != path.name:
            document, envelope = self._renamed(stored, statement, path, names)
        with staged(path) as temporary:
            digest = store.fetch(stored, temporary)
            if origin == "remote":
                self.add(temporary, path.name, digest, document, envelope)
            publish(temporary, path, digest, document, envelope)

    def _renamed(
        self, stored: Stored, statement: Statement, path: Path, names: Mapping[str, str]
    ) -> tuple[bytes, bytes | None]:
        """Documents for an engine of the same recipe under another backbone's name."""
        document = provenance.renamed(
            statement,
            path,
            stored.engine.sha256_hex,
            dependencies=input_files(statement.recipe.inputs, names),
        )
        envelope = self.sign(document)
        check(
            self.spec.policy,
            document=document,
            envelope=envelope,
            engine_sha256=stored.engine.sha256_hex,
            engine_name=path.name,
            origin="local",
        )
        return document, envelope


@cache
def _remote(reference: str, scratch: Path, read_only: bool, insecure: bool) -> RemoteStore:
    """The registry, which remembers from engine to engine whether it is of use."""
    return RemoteStore(reference, scratch=scratch, read_only=read_only, insecure=insecure)


def described(name: str, document: bytes) -> dict[str, str]:
    """What a person looks for in a store, from an engine's name and provenance."""
    try:
        tag = EngineFilenameSchema.parse(name)
        runtime = provenance.parse(document, name).recipe.toolchain.get("runtime", "")
    except (ValueError, EngineryError):
        return {}
    sms = tag.sm if isinstance(tag.sm, tuple) else (tag.sm,)
    found = {
        "model": tag.model_name,
        "sm": "-".join(map(str, sms)),
        "cpu": tag.cpu or "",
        "jetpack": tag.jetpack or "",
        "tensorrt": tag.trt,
        "precision": tag.precision.value,
        "runtime": runtime,
    }
    return {f"enginery.{key}": value for key, value in found.items() if value}
