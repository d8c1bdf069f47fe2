"""Lines on a screen: styled and wrapped on a terminal, plain and unwrapped anywhere else."""

from __future__ import annotations

import os
import sys

import msgspec

PLAIN_WIDTH = 0
"""The width where nobody wraps: a pipe, a file."""

Part = str | tuple[str, str]


class Line(msgspec.Struct, frozen=True):
    """A line: parts of text, some with a style of rich's, and how far it is indented.

    Attributes:
        parts: Texts, or pairs of a text and a style.
        indent: Columns before it, and before what is wrapped of it.
        whole: Whether it is cut and not wrapped where the terminal is too narrow.
    """

    parts: tuple[Part, ...] = ()
    indent: int = 0
    whole: bool = False

    def __str__(self) -> str:
        """The text without styles."""
        text = "".join(part if isinstance(part, str) else part[0] for part in self.parts)
        return " " * self.indent + text if text else ""


def line(*parts: Part, indent: int = 0, whole: bool = False) -> Line:
    """A line of parts."""
    return Line(parts, indent, whole)


class Screen:
    """Standard output as it is.

    Attributes:
        width: Columns of the terminal; `PLAIN_WIDTH` where there is none.
    """

    def __init__(self) -> None:
        self._console = None
        self.width = PLAIN_WIDTH
        if sys.stdout is not None and sys.stdout.isatty():
            from rich.console import Console  # not for a pipe, and not with every doit

            dumb = os.environ.get("TERM", "") in ("", "dumb") or os.environ.get("NO_COLOR")
            self._console = Console(
                file=sys.stdout,
                width=_columns(),
                highlight=False,
                color_system=None if dumb else "auto",
            )
            self.width = self._console.width

    def show(self, lines: list[Line]) -> None:
        """Write lines.

        Raises:
            OSError: Standard output cannot be written.
        """
        if self._console is None:
            write("".join(f"{escaped(str(one)).rstrip()}\n" for one in lines))
            return
        from rich.text import Text

        with self._console.capture() as captured:
            for one in lines:
                text = Text(end="")
                for part in one.parts:
                    said, style = (part, "") if isinstance(part, str) else part
                    text.append(escaped(said), style)
                room = max(self.width - one.indent, 8)
                if one.whole:
                    text.rstrip()
                    text.truncate(room, overflow="ellipsis")
                for piece in text.wrap(self._console, room, overflow="fold") if text else [text]:
                    piece.rstrip()
                    padded = Text(" " * one.indent if piece else "") + piece
                    self._console.print(padded, soft_wrap=True)
        write(captured.get())


def write(text: str) -> None:
    """Write to standard output now, in whatever encoding it has; a reader that left is fine.

    Where doit was started without a standard output, the text goes nowhere.

    Raises:
        OSError: It cannot be written.
    """
    if sys.stdout is None:
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up_output()  # whoever reads has enough
    except OSError as error:
        _give_up_output()
        raise OSError(error.errno, error.strerror, "standard output") from error


def write_line(text: str) -> None:
    """Write a line of its own, without control characters; see `write`."""
    write(f"{escaped(text)}\n")


def _columns() -> int | None:
    """Columns of the terminal, which knows better than a COLUMNS that someone exported."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except OSError:
        return None


def escaped(text: str) -> str:
    """Text without control characters: names and words of files may hold anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _give_up_output() -> None:
    """Let what is left go nowhere: Python would write it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
