"""What the command `enginery` can be asked: its words, their help, and a mistake in one line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .farm import command as farm
from .version import __version__

SHELLS = ("bash", "zsh", "tcsh")

_DESCRIPTION = "Start a corpus of TensorRT engines, verify engines, and install them on devices."
_EPILOG = """\
example: enginery init
         doit                  (builds the engines)
         doit help             (what else doit can do)

`enginery COMMAND --help` has an example of each."""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help whose names of commands stand beside what they do."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)
        # Otherwise the indentation of commands is not counted.
        self._action_max_length = 14


class Arguments(argparse.ArgumentParser):
    """A parser that names the nearest neighbour of what is misspelt, in one line."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", _Help)
        super().__init__(**settings)
        self.commands: dict[str, Arguments] = {}

    def command(self, name: str, *, summary: str, description: str, example: str) -> Arguments:
        """A subcommand."""
        added: Arguments = self._subcommands.add_parser(
            name, help=summary, description=description, epilog=f"example: {example}"
        )
        self.commands[name] = added
        return added

    def take_commands(self) -> None:
        """Have subcommands."""
        self._subcommands = self.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """See `argparse.ArgumentParser`; what is misspelt is said before what is missing for it."""
        given = sys.argv[1:] if args is None else list(args)
        self._check_spelling(given)
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where help is."""
        said = " ".join(message.split())
        self.exit(2, f"ERROR: {self.prog}: {said}; see {self.prog} --help\n")

    def _check_spelling(self, given: list[str]) -> None:
        known = list(self._option_string_actions)
        for word in given:
            if word == "--":
                return
            if _is_option(word):
                name = word.partition("=")[0]
                # A beginning of a long option will do, and a value may follow a short one.
                if not any(one.startswith(name) for one in known) and word[:2] not in known:
                    self.error(f"there is no option {name!r}{_guess(name, known)}")
            elif self.commands:
                if word not in self.commands:
                    self.error(f"there is no command {word!r}{_guess(word, self.commands)}")
                return  # the rest is the command's


def _is_option(word: str) -> bool:
    """Whether argparse takes a word for an option, known or not."""
    return word[:1] == "-" and word != "-" and " " not in word and not re.match(r"-\.?\d", word)


def _guess(word: str, known: Iterable[str]) -> str:
    from .corpus_tables import nearest  # only where something is wrong

    known = list(known)
    return f"; {nearest(word, known) or 'known are ' + ', '.join(known)}"


def _shell(word: str) -> str:
    if word not in SHELLS:
        raise argparse.ArgumentTypeError(f"there is no shell {word!r}{_guess(word, SHELLS)}")
    return word


def parser() -> Arguments:
    """The command's parser; what it finds has `command`, the subcommand's name."""
    whole = Arguments(prog="enginery", description=_DESCRIPTION, epilog=_EPILOG)
    whole.add_argument("--version", action="version", version=f"enginery {__version__}")
    whole.take_commands()
    _add_init(whole)
    _add_verify(whole)
    _add_install(whole)
    _add_rollback(whole)
    whole.command(
        "schema",
        summary="print the JSON Schema of corpus.toml",
        description="Print the JSON Schema of corpus.toml, by which editors complete and check it.",
        example="enginery schema > corpus.schema.json",
    )
    farm.add_to(whole)
    completion = whole.command(
        "completion",
        summary="print what completes this command in a shell",
        description="Print what completes this command in a shell, for bash to read as below,\n"
        "for zsh to find as _enginery in its fpath, for tcsh to source.",
        example='eval "$(enginery completion bash)"',
    )
    completion.add_argument(
        "shell", type=_shell, choices=SHELLS, metavar="{bash,zsh,tcsh}", help="the shell"
    )
    return whole


def _add_init(whole: Arguments) -> None:
    init = whole.command(
        "init",
        summary="start a corpus of the ONNX models below a folder",
        description="Look for ONNX models below a folder and write corpus.toml, its schema and\n"
        "dodo.py there. Overwrites nothing.",
        example="enginery init models",
    )
    init.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="DIR",
        help="the folder; by default this one",
    )


def _add_verify(whole: Arguments) -> None:
    verify = whole.command(
        "verify",
        summary="check a folder of engines",
        description="Check every engine of a folder: bytes, sidecar, provenance, signature.",
        example="enginery verify engines --key team.pub.pem",
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


def _add_install(whole: Arguments) -> None:
    install = whole.command(
        "install",
        summary="install a release's engines of one target",
        description="Install a release: all of it is verified before anything is swapped.",
        example="enginery install release.json --from registry.example.com/team/engines "
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


def _add_rollback(whole: Arguments) -> None:
    back = whole.command(
        "rollback",
        summary="go back to the release before",
        description="Go back to the release that was installed before, verified again.",
        example="enginery rollback --into /opt/engines",
    )
    back.add_argument("--into", required=True, type=Path, metavar="DIR", help="the folder")
    _add_keys(back)


def _add_keys(one: Arguments) -> None:
    one.add_argument(
        "--key",
        dest="keys",
        type=Path,
        metavar="PEM",
        action="append",
        default=[],
        help="a public key; given one or more, whatever is not signed by one of them is refused",
    )


def completion(shell: str) -> str:
    """What a shell reads to complete the command."""
    import shtab  # only where it is printed

    whole = parser()
    for one in whole.commands.values():
        for action in one._actions:
            if action.type is Path or action.dest == "source":
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    said: str = shtab.complete(whole, shell=shell)
    return said
