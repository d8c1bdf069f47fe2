"""The command `enginery`: what a device or a script needs, without doit.

Arguments become objects, the library does the work, and what it raises becomes one line and an exit
code: 0 where all is well, 1 where something is wrong with engines, 2 where something else is.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .cli_arguments import completion, parser
from .digest import sha256_bytes
from .errors import EngineIntegrityError, EngineryError
from .trust import Policy

if TYPE_CHECKING:
    from .release_source import Source
    from .store.remote import RemoteStore

WELL, ENGINES, OTHER = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    _open_closed_streams()
    try:
        return _run(given)
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
        said = f"{error.filename}: {error.strerror}" if error.filename else error
        return _fail(said, OTHER)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing is half done", 130)


def _run(given: list[str]) -> int:
    if not given:
        parser().print_help(sys.stderr)
        raise EngineryError("a command is missing; to start a corpus here: enginery init")
    asked = parser().parse_args(given)
    code = _COMMANDS[asked.command](asked)
    _write("", flush=True)
    return code


def _open_closed_streams() -> None:
    """Have what is written to a stream that the caller closed go nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as any stream
            setattr(sys, name, nowhere)


def _write(text: str, *, flush: bool = False) -> None:
    """Write to standard output; an error names it, as that of a file names the file."""
    try:
        sys.stdout.write(text)
        if flush:
            sys.stdout.flush()
    except OSError as error:
        # Python makes it a BrokenPipeError again where it was one.
        raise OSError(error.errno, error.strerror, "standard output") from error


def _fail(error: object, code: int) -> int:
    sys.stderr.write(f"ERROR: {' '.join(str(error).split())}\n")
    return code


def _policy(asked: Namespace) -> Policy:
    return Policy(keys=tuple(asked.keys), require="all") if asked.keys else Policy()


def _verify(asked: Namespace) -> int:
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
    _write(f"{printable}\n")


def _install(asked: Namespace) -> int:
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
    _write(
        f"{len(done.engines)} engines for {done.target} in {asked.into / 'current'}, "
        f"{done.received} of them new, release {done.digest[:12]}\n"
    )
    return WELL


def _remote(asked: Namespace) -> RemoteStore | None:
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


def _source(asked: Namespace, remote: RemoteStore | None) -> Source:
    from .release_source import StoreSource, source_of

    if remote is not None:
        return StoreSource(remote, asked.source)
    given = Path(asked.source) if asked.source else asked.release
    return source_of(given if given.is_dir() else given.parent)


def _rollback(asked: Namespace) -> int:
    from .install import rollback

    done = rollback(asked.into, policy=_policy(asked))
    _write(
        f"{len(done.engines)} engines for {done.target} in {asked.into / 'current'}, "
        f"release {done.digest[:12]}\n"
    )
    return WELL


def _schema(asked: Namespace) -> int:  # noqa: ARG001
    from .corpus_schema import shipped

    _write(shipped().decode())
    return WELL


def _completion(asked: Namespace) -> int:
    _write(completion(asked.shell))
    return WELL


def _init(asked: Namespace) -> int:
    from .start import init
    from .start.told import told

    # A "." says nothing in a message.
    folder = Path.cwd() if asked.folder == Path() else asked.folder
    for line in told(init(folder)):
        _say(line)
    return WELL


def _worker(asked: Namespace) -> int:
    from .farm.command import run

    return run(asked)


_COMMANDS: Mapping[str, Callable[[Namespace], int]] = {
    "init": _init,
    "verify": _verify,
    "install": _install,
    "rollback": _rollback,
    "schema": _schema,
    "completion": _completion,
    "worker": _worker,
}
