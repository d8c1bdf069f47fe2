"""What the machine that we are on is: declared, or found out without disturbing it.

In this order: the environment variable ENGINERY_HOST, the `[host]` table of corpus.toml, the
machine itself. Nothing here raises for what a machine lacks: that is a remark of the `Host`.
docs/host.md says what is found how.
"""

from __future__ import annotations

import os
from functools import cache

from ..host import Host
from .declared import ENVIRONMENT, DeclaredHost, declared_in_environment, host_of

__all__ = ["ENVIRONMENT", "DeclaredHost", "probe", "this_machine"]


def probe(declared: DeclaredHost | None = None) -> Host:
    """The host that engines are built for here; the machine is looked at once per process.

    Args:
        declared: What the `[host]` table of corpus.toml says, if there is one.

    Raises:
        HostError: ENGINERY_HOST cannot be understood.
    """
    text = os.environ.get(ENVIRONMENT, "").strip()
    if text:
        return host_of(declared_in_environment(text), source=ENVIRONMENT)
    if declared is not None:
        return host_of(declared, source="[host]")
    return this_machine()


@cache
def this_machine() -> Host:
    """The machine itself, whatever it is declared to be: for what has to run on it."""
    from .machine import probed  # not where a host is declared

    return probed()
