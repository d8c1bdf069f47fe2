"""The live view: what is running, in the last rows of the terminal, and finished lines above.

The cursor is never hidden, and rests on an empty row below all output: whatever ends the run,
kill -9 among it, the terminal is as it should be.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..figures import duration
from .estimates import against
from .tally import Running, Tally
from .watch import terminal_size

_WIDEST = 140
_WIDE = 72
_GAP = 2

_PAUSE_S = 0.1
_MOST_LINES = 500

_LINE_ENDS = re.compile("[\n\x85\u2028\u2029]")
# Colours (as long as they are no attack on int), then all other sequences and control characters.
_CONTROLS = re.compile(
    r"(\x1b\[[0-9;]{0,60}m)"
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\x9d]*(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)


class LiveView:
    """Shows a tally. Whoever calls it holds the one lock of the run."""

    def __init__(self, stream: TextIO, tally: Tally) -> None:
        self._stream = stream
        self._console = _VisibleCursor(
            file=stream, highlight=False, markup=False, emoji=False, force_terminal=True
        )
        self._tally = tally
        self._live: Live | None = None
        self._partial: dict[str, str] = {}
        self._lines: list[str] = []
        self._printed = 0.0

    def start(self) -> None:
        """Show the rows."""
        if self._live is None:
            # A new one each time: it remembers where its rows are.
            self._live = Live(
                get_renderable=lambda: _Rows(self._content),
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._measure()
            self._live.start(refresh=True)

    def stop(self) -> None:
        """Take the rows away; the cursor is where they began."""
        if self._live is not None:
            live, self._live = self._live, None
            self._measure()
            live.stop()
        self._print_lines()

    def refresh(self) -> None:
        """Show what is the case now, and the lines that were finished meanwhile."""
        if self._lines:
            self._print_lines()
        elif self._live is not None:
            self._measure()
            self._live.refresh()

    def text(self, origin: str, text: str) -> None:
        """Show text above the rows, line by line; an unfinished line is shown as the first row.

        To draw the rows anew for every line would slow down whoever prints many: those that
        follow another closely are shown together, by the next `refresh` at the latest.
        """
        *lines, rest = _LINE_ENDS.split(self._partial.pop(origin, "") + text)
        self._lines += lines
        if rest:
            # What comes after a carriage return covers what was there.
            covered = rest.rstrip("\r").rfind("\r")
            self._partial[origin] = rest[covered + 1 :]
        is_due = time.monotonic() - self._printed >= _PAUSE_S
        if self._live is None or is_due or len(self._lines) >= _MOST_LINES:
            self._print_lines()

    def flush(self) -> None:
        """Show all lines, unfinished ones as they are."""
        self._lines += self._partial.values()
        self._partial.clear()
        self._print_lines()

    def _print_lines(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            self._measure()
            # The terminal breaks long lines, so that they can be copied in one piece.
            self._console.print(Text("\n").join(map(_line, lines)), soft_wrap=True)
            self._printed = time.monotonic()

    def _measure(self) -> None:
        # By itself the console would believe the environment, whatever the terminal says.
        self._console.size = ConsoleDimensions(*terminal_size(self._stream))

    def _content(self, width: int, height: int) -> Iterator[RenderableType]:
        now = time.monotonic()
        for rest in list(self._partial.values())[: max(height - 3, 0)]:
            height -= 1
            yield _cut(_line(rest))
        running = list(self._tally.running.values())
        room = max(height - 2, 0)
        shown = running if len(running) <= room else running[: max(room - 1, 0)]
        if shown:
            yield _table(shown, width, now)
        if len(shown) < len(running) and room:
            yield _cut(Text(f"and {len(running) - len(shown)} more are running"))
        yield _cut(Text(self._tally.so_far(now), style="bold"))
        yield Text("")


class _VisibleCursor(Console):
    """A console that leaves the cursor alone: nobody could bring it back after kill -9."""

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - as its base has it
        return False


class _Rows:
    """Rows worked out for the size that the terminal has when they are shown."""

    def __init__(self, content: Callable[[int, int], Iterator[RenderableType]]) -> None:
        self._content = content

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        size = console.size
        yield from self._content(min(size.width - 1, _WIDEST), size.height)


def _table(running: list[Running], width: int, now: float) -> Table:
    """A row per task: its name, how long it has taken, and what it is at, cut at the end."""
    times = [_time(one, now, wide=width >= _WIDE) for one in running]
    time_width = max(map(len, times))
    name_width = min(max(len(one.name) for one in running), max(width // 3, 8))
    phase_width = max(width - name_width - time_width - 2 * _GAP, 1)
    table = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
    for column in (name_width, time_width, phase_width):
        table.add_column(width=column, no_wrap=True, overflow="ellipsis")
    for one, time_text in zip(running, times, strict=True):
        phase, step, total = one.now
        steps = f", {step} of {total} steps" if total else ""
        table.add_row(
            Text(_CONTROLS.sub("", one.name), style="cyan"), Text(time_text), Text(phase + steps)
        )
    return table


def _time(one: Running, now: float, *, wide: bool) -> str:
    if one.building_since is not None and wide:
        return against(now - one.building_since, one.expected_s)
    return duration(now - one.began)


def _line(text: str) -> Text:
    """A line with its colours, and nothing else that moves or changes the terminal."""
    visible = text.rstrip("\r").rpartition("\r")[2]
    return Text.from_ansi(_CONTROLS.sub(lambda found: found[1] or "", visible).expandtabs())


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
