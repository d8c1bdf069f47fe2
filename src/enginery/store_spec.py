"""Where a corpus keeps engines besides its engine folder, and what it believes."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from .trust import Policy


class StoreSpec(msgspec.Struct, frozen=True):
    """Where engines are kept besides the engine folder.

    Attributes:
        path: Folder of the local store; None where there is none.
        remote: Registry and repository, such as "registry.example.com/team/engines"; None where
            there is none.
        read_only: Whether nothing is pushed.
        insecure: Whether plain HTTP will do off this machine.
        policy: What is believed.
        sign_with: Private key that builds are signed with; None where they are not.
        rebuild: Folder of notes, a file per fingerprint that is to be built although a store may
            have it.
    """

    path: Path | None = None
    remote: str | None = None
    read_only: bool = False
    insecure: bool = False
    policy: Policy = Policy()
    sign_with: Path | None = None
    rebuild: Path | None = None


def default_store() -> Path | None:
    """The store of this user, `enginery/store` in the platform's cache folder.

    None for a user without a home, as a container may have one.
    """
    # platformdirs takes ten milliseconds to import; this is its answer on Linux.
    root = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(root) if os.path.isabs(root) else Path.home() / ".cache"  # noqa: PTH117
    except RuntimeError:
        return None
    return cache / "enginery" / "store"
