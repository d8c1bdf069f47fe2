"""The sidecar: `<engine>.sha256`, one line as `sha256sum` writes it.

    1a2b...64 hex digits...  resnet50_sm86_nojp_trt1.7.1.116_fp16.engine

`sha256sum -c` checks it. A bare digest is read too. Anything else is refused: a sidecar that
needs interpretation is no proof.
"""

from __future__ import annotations

from pathlib import Path

from .atomic import write_atomically
from .digest import is_sha256, read_regular, sha256_file
from .errors import IrregularFileError, Sha256SidecarError

SUFFIX = ".sha256"

_LIMIT = 1024


def path_for(path: Path) -> Path:
    """Where the sidecar of a file is."""
    return Path(f"{path}{SUFFIX}")


def line(name: str, sha256_hex: str) -> bytes:
    """The sidecar's content for a file of this name."""
    return f"{sha256_hex}  {name}\n".encode()


class Sha256Sidecar:
    """Reads, writes and checks sidecars. Every path is the path of the engine, not the sidecar."""

    @staticmethod
    def read(path: Path) -> str:
        """The digest that the sidecar of `path` names, 64 lower-case hex digits.

        Raises:
            Sha256SidecarError: The sidecar is missing, malformed or names another file.
        """
        try:
            data = read_regular(path_for(path), limit=_LIMIT)
        except FileNotFoundError as error:
            raise Sha256SidecarError(f"the sidecar of {path.name} is missing") from error
        except (OSError, IrregularFileError) as error:
            raise Sha256SidecarError(f"the sidecar cannot be used: {error}") from error
        text = data.decode("utf-8", "backslashreplace").removesuffix("\n")
        digest, separator, name = text[:64], text[64:66], text[66:]
        if not is_sha256(digest) or "\n" in name or separator not in ("", "  ", " *"):
            raise Sha256SidecarError(
                f"{path.name}{SUFFIX} is malformed: expected one line, "
                "64 lower-case hex digits, two spaces and the engine's name"
            )
        if separator and name != path.name:
            raise Sha256SidecarError(f"{path.name}{SUFFIX} is for another file, {name!r}")
        return digest

    @staticmethod
    def write(path: Path, sha256_hex: str | None = None) -> str:
        """Write the sidecar of `path` and return the digest that it names.

        Args:
            path: The engine.
            sha256_hex: Its digest; None hashes the file.

        Raises:
            OSError: The engine cannot be read or the sidecar not written.
        """
        digest = sha256_file(path) if sha256_hex is None else sha256_hex
        write_atomically(path_for(path), line(path.name, digest))
        return digest

    @staticmethod
    def verify(path: Path) -> bool:
        """Whether the bytes of `path`, hashed now, have the digest that its sidecar names.

        Raises:
            Sha256SidecarError: The sidecar is missing or malformed, or the engine is missing.
        """
        expected = Sha256Sidecar.read(path)
        try:
            return sha256_file(path) == expected
        except (OSError, IrregularFileError) as error:
            raise Sha256SidecarError(
                f"{path.name} has a sidecar but cannot be read: {error}"
            ) from (error)
