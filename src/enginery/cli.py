"""The command `enginery`: what a device or a script needs, without doit.

Arguments become objects, the library does the work, and what it raises becomes one line and an exit
code: 0 where all is well, 1 where something is wrong with engines, 2 where something else is.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .digest import sha256_bytes
from .errors import EngineIntegrityError, EngineryError
from .trust import Policy
from .version import __version__

if TYPE_CHECKING:
    from .release_source import Source
    from .store.remote import RemoteStore

WELL, ENGINES, OTHER = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    asked = _parser().parse_args(arguments)
    try:
        code: int = asked.run(asked)
        sys.stdout.flush()
    except EngineIntegrityError as error:
        return _fail(error, ENGINES)
    except EngineryError as error:
        return _fail(error, OTHER)
    except BrokenPipeError:
        # Who reads has seen enough; Python would complain of what is left when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WELL
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(error, OTHER)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing is half done", 130)
    return code


def _fail(error: object, code: int) -> int:
    sys.stderr.write(f"ERROR: {' '.join(str(error).split())}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="enginery",
        description="Verify and install TensorRT engines. They are built with doit.",
        epilog="example: enginery install /media/usb --target orin --into /opt/engines",
    )
    parser.add_argument("--version", action="version", version=f"enginery {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verify = commands.add_parser(
        "verify",
        help="check a folder of engines",
        description="Check every engine of a folder: bytes, sidecar, provenance, signature.",
        epilog="example: enginery verify engines --key team.pub.pem",
    )
    verify.add_argument("folder", type=Path, help="the folder")
    verify.add_argument("--quiet", action="store_true", help="show only what is wrong")
    verify.add_argument(
        "--rebuild",
        metavar="NAME",
        action="append",
        default=[],
        help="build this backbone's or engine's file again and compare the bytes",
    )
    verify.add_argument(
        "--corpus", type=Path, default=Path("corpus.toml"), help="the corpus, for --rebuild"
    )
    _add_keys(verify)
    verify.set_defaults(run=_verify)
    install = commands.add_parser(
        "install",
        help="install a release's engines of one target",
        description="Install a release: all of it is verified before anything is swapped.",
        epilog="example: enginery install release.json --from registry.example.com/team/engines "
        "--target orin --into /opt/engines",
    )
    install.add_argument(
        "release",
        type=Path,
        help="release.json, a folder that holds it, or the tag release-… of a registry",
    )
    install.add_argument("--target", required=True, help="name of the target")
    install.add_argument("--into", required=True, type=Path, metavar="DIR", help="the folder")
    install.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="what has the engines: a folder, an OCI image layout, or registry/repository; "
        "by default the release's own folder",
    )
    install.add_argument("--insecure", action="store_true", help="plain HTTP will do")
    _add_keys(install)
    install.set_defaults(run=_install)
    back = commands.add_parser(
        "rollback",
        help="go back to the release before",
        description="Go back to the release that was installed before, verified again.",
        epilog="example: enginery rollback --into /opt/engines",
    )
    back.add_argument("--into", required=True, type=Path, metavar="DIR", help="the folder")
    _add_keys(back)
    back.set_defaults(run=_rollback)
    return parser


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key",
        dest="keys",
        type=Path,
        metavar="PEM",
        action="append",
        default=[],
        help="a public key; given one or more, whatever is not signed by one of them is refused",
    )


def _policy(asked: argparse.Namespace) -> Policy:
    return Policy(keys=tuple(asked.keys), require="all") if asked.keys else Policy()


def _verify(asked: argparse.Namespace) -> int:
    from .folder import verify_folder

    good: set[Path] = set()
    bad: set[Path] = set()
    for finding in verify_folder(asked.folder, _policy(asked)):
        if finding.bad:
            bad.add(finding.path)
        elif finding.statement is not None:
            good.add(finding.path)
        if finding.bad or not asked.quiet:
            _say(f"{finding.condition.value:<10} {finding.path.name}: {finding.words}")
    for name in asked.rebuild:
        from .audit import audit

        for engine, line, same in audit(asked.corpus, asked.folder, name):
            if not same:
                bad.add(engine)
            _say(line)
    _say(f"{len(good - bad)} good, {len(bad)} wrong")
    return ENGINES if bad else WELL


def _say(line: str) -> None:
    """A line, whatever is in the names of files."""
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    sys.stdout.write(f"{printable}\n")


def _install(asked: argparse.Namespace) -> int:
    from . import release
    from .install import install

    remote = _remote(asked)
    if remote is not None and str(asked.release).startswith("release-"):
        document, envelope = remote.release(str(asked.release))
        if str(asked.release) != f"release-{sha256_bytes(document)}":
            raise EngineIntegrityError(f"{asked.source} has another document under {asked.release}")
    else:
        document, envelope = release.read_file(asked.release)
    done = install(
        document,
        envelope,
        target=asked.target,
        into=asked.into,
        source=_source(asked, remote),
        policy=_policy(asked),
    )
    sys.stdout.write(
        f"{len(done.engines)} engines for {done.target} in {asked.into / 'current'}, "
        f"{done.received} of them new, release {done.digest[:12]}\n"
    )
    return WELL


def _remote(asked: argparse.Namespace) -> RemoteStore | None:
    """The registry that the engines come from, if they come from one."""
    if asked.source is None or Path(asked.source).exists():
        return None
    from .store.remote import RemoteStore

    # Nothing else can be done meanwhile: patience is worth more than on a build.
    return RemoteStore(
        asked.source,
        scratch=asked.into / "downloads",
        read_only=True,
        insecure=asked.insecure,
        patience_s=60,
    )


def _source(asked: argparse.Namespace, remote: RemoteStore | None) -> Source:
    from .release_source import StoreSource, source_of

    if remote is not None:
        return StoreSource(remote, asked.source)
    given = Path(asked.source) if asked.source else asked.release
    return source_of(given if given.is_dir() else given.parent)


def _rollback(asked: argparse.Namespace) -> int:
    from .install import rollback

    done = rollback(asked.into, policy=_policy(asked))
    sys.stdout.write(
        f"{len(done.engines)} engines for {done.target} in {asked.into / 'current'}, "
        f"release {done.digest[:12]}\n"
    )
    return WELL
