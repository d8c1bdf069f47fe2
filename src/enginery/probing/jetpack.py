"""Which JetPack a release of Jetson Linux (L4T) belongs to."""

from __future__ import annotations

# NVIDIA's list is the JetPack Archive (developer.nvidia.com/embedded/jetpack-archive); docs/host.md
# names where each line was read. Missing on purpose: 36.2, the preview of 6.0, which is not 6.0,
# and 36.4.2, which is 6.1 to some and 6.1.1 to others. A release that is not here has no JetPack
# that we know of, however near its number is.
_JETPACK = {
    "34.1.0": "5.0",
    "34.1.1": "5.0.1",
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "35.6.4": "5.1.6",
    "35.6.5": "5.1.7",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "36.5.2": "6.2.3",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}


def jetpack_of(l4t: str) -> str | None:
    """The JetPack version of a release such as "36.4.3", or None where it is not known."""
    major, minor, patch = (*l4t.split("."), "0", "0")[:3]
    return _JETPACK.get(f"{major}.{minor}.{patch}")
