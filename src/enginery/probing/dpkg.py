"""Versions of installed Debian packages, from dpkg's own file: no process, no lock."""

from __future__ import annotations

from .root import Root

# dpkg(1), "FILES": a stanza per package, parted by empty lines, fields as in deb-control(5).
_STATUS = "/var/lib/dpkg/status"


def installed(root: Root, prefix: str) -> dict[str, str]:
    """Upstream version of every installed package whose name begins with a prefix.

    The epoch and the Debian revision are cut off: 10.3.0.30 of 10.3.0.30-1+cuda12.5.
    """
    content = b"\n" + (root.read(_STATUS) or b"")
    start = b"\nPackage: " + prefix.encode()
    found: dict[str, str] = {}
    at = content.find(start)
    while at >= 0:
        end = content.find(b"\n\n", at)
        stanza = content[at + 1 : end if end >= 0 else None]
        fields = _fields(stanza.decode(errors="replace"))
        if fields.get("Status", "").endswith(" ok installed"):
            found[fields["Package"]] = _upstream(fields.get("Version", ""))
        at = content.find(start, at + len(start))
    return found


def _fields(stanza: str) -> dict[str, str]:
    lines = (line.partition(":") for line in stanza.splitlines() if not line.startswith(" "))
    return {name: value.strip() for name, _, value in lines}


def _upstream(version: str) -> str:
    without_epoch = version.rpartition(":")[2]
    return without_epoch.rpartition("-")[0] or without_epoch
