"""`doit corpus`: every engine of the corpora as it is now, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from ..engine_job import EngineJob
from ..status import Condition, EngineStatus, Signature
from ..verdict import Fault
from .corpus_command import DONE, FAILED, CorpusCommand
from .screen import Line, Screen, line, write

if TYPE_CHECKING:
    from .corpus_command import Surveyed

JSON: dict[str, Any] = {
    "name": "json",
    "short": "",
    "long": "json",
    "type": bool,
    "default": False,
    "help": "as JSON; docs/inspect.md has the fields",
}

STYLES = {
    Condition.FRESH.value: "green",
    Condition.STALE.value: "yellow",
    Condition.MISSING.value: "yellow",
    Condition.DAMAGED.value: "red",
    Condition.UNSIGNED.value: "red",
    Condition.ELSEWHERE.value: "magenta",
    "left out": "dim",
    "alias": "dim",
}

_HEAD = ("target", "precision", "state", "size", "age", "built in", "signature")
_ROOM_GOES_FIRST = ("signature", "age", "built in", "size")
_RIGHT = ("size", "age")
_GAP = "  "
_ABSENT = "it is not there"


class CorpusTableCommand(CorpusCommand):
    """Shows what is there, builds nothing and changes nothing."""

    name = "corpus"
    doc_purpose = "show the state of every engine of the corpus"
    doc_usage = "[NAME ...]"
    doc_description = (
        "A NAME is a backbone or the task of an engine; without one it is all of them. Nothing is "
        "built. `doit why NAME` explains an engine that is not fresh."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        JSON,
        {
            "name": "check",
            "short": "",
            "long": "check",
            "type": bool,
            "default": False,
            "help": "show only what is not fresh, and exit with 1 if there is any",
        },
    )

    def _execute(self, json: bool, check: bool) -> int:
        return self.reporting(partial(self._show, as_json=json, check=check))

    def _show(self, *, as_json: bool, check: bool) -> int:
        """Show the engines; 1 where they are checked and one is not fresh."""
        surveyed = self.survey(self.selected())
        states = [one for one, _ in surveyed]
        late = [one for one in states if not one.fresh and not one.left_out]
        if as_json:
            self._write_json(surveyed, late if check else states)
        elif check:
            Screen().show([*_brief(late), line(summary(states))])
        else:
            screen = Screen()
            rows = _by_backbone([_row(one) for one in states] + self._alias_rows(states))
            table = _table(rows, screen.width) if screen.width else _plain(rows)
            screen.show([*table, line(summary(states))])
        return FAILED if check and late else DONE

    def _write_json(self, surveyed: list[Surveyed], shown: list[EngineStatus]) -> None:
        from ..status_document import StatusDocument, counts, encoded, engine_document

        states = [one for one, _ in surveyed]
        document = StatusDocument(
            engines=tuple(engine_document(one, known) for one, known in surveyed if one in shown),
            aliases={name: job.task for name, job in self._aliases(states).items()},
            counts=counts(states),
        )
        write(encoded(document) + "\n")

    def _aliases(self, states: list[EngineStatus]) -> dict[str, EngineJob]:
        shown = {one.job.task for one in states}
        return {
            name: job
            for _, jobs in self.corpora()
            for name, job in jobs.aliases.items()
            if job.task in shown
        }

    def _alias_rows(self, states: list[EngineStatus]) -> list[_Row]:
        return [
            _Row(
                task=name,
                backbone=job.name,
                target="host",
                precision=job.request.precision.value,
                state="alias",
                reason=f"the same engine as {job.task}",
                own=f"the same engine as {job.task}",
            )
            for name, job in self._aliases(states).items()
        ]


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """What the table says of one engine, in words.

    Attributes:
        reason: Why it is not fresh, in one line.
        own: The part of it that the state does not say, and that is not of the whole target.
        elsewhere: The part of it that all engines of the target share.
    """

    task: str
    backbone: str
    target: str
    precision: str
    state: str
    reason: str = ""
    own: str = ""
    elsewhere: str = ""
    size: str = ""
    age: str = ""
    built_in: str = ""
    signature: str = ""

    def cell(self, column: str) -> str:
        return str(getattr(self, column.replace(" ", "_")))


def summary(states: list[EngineStatus]) -> str:
    """Engines in one line: how many of each kind, their size, and for how long they were built."""
    from ..figures import duration, megabytes
    from ..status_document import counts

    total = counts(states)
    kinds = [*(condition.value for condition in Condition), "left_out"]
    said = [
        f"{getattr(total, kind)} {kind.replace('_', ' ')}" for kind in kinds if getattr(total, kind)
    ]
    engines = f"{total.engines} engine{'' if total.engines == 1 else 's'}"
    return (
        f"{engines}: {', '.join(said) or 'none'}; {megabytes(total.size)}; "
        f"{duration(total.build_s)} of building"
    )


def state_of(status: EngineStatus) -> str:
    """The state in a word or two."""
    return "left out" if status.left_out else status.condition.value


def _row(status: EngineStatus) -> _Row:
    from ..figures import age, duration, megabytes

    built_on, build_s = status.built_on, status.build_s
    return _Row(
        task=status.job.task,
        backbone=status.job.name,
        target=status.job.target,
        precision=status.precision.value,
        state=state_of(status),
        reason="" if status.fresh else status.reason,
        own=_own_reason(status),
        elsewhere=(status.job.elsewhere or "") if status.condition is Condition.ELSEWHERE else "",
        size="" if status.size is None else megabytes(status.size),
        age="" if built_on is None else age(built_on, datetime.now(timezone.utc)),
        built_in="" if build_s is None else duration(build_s),
        signature="" if status.signature is Signature.NONE else status.signature.value,
    )


def _own_reason(status: EngineStatus) -> str:
    verdict = status.verdict
    if status.fresh or verdict is None or verdict.reason == _ABSENT:
        return ""
    # That engines for other targets are there is no news where this one cannot be built.
    elsewhere = status.condition is Condition.ELSEWHERE and verdict.fault is Fault.ABSENT
    return "" if elsewhere else verdict.reason


def _brief(states: list[EngineStatus]) -> Iterator[Line]:
    for one in states:
        state = state_of(one)
        yield line(f"{one.job.task}: ", (state, STYLES[state]), f": {one.reason}")


def _by_backbone(rows: list[_Row]) -> list[_Row]:
    order = {row.backbone: index for index, row in reversed(list(enumerate(rows)))}
    return sorted(rows, key=lambda row: order[row.backbone])


def _plain(rows: list[_Row]) -> Iterator[Line]:
    """A line per engine for grep and a person: columns under each other, the reason last."""
    head = ("task", *_HEAD)
    table = [(*head, "reason")] + [
        (*(row.cell(column) or "-" for column in head), row.reason) for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for *cells, reason in table:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        yield line(_GAP.join([*padded, reason]).rstrip())


def _table(rows: list[_Row], width: int) -> Iterator[Line]:
    """The engines by backbone, as wide as the terminal, with the reason below each."""
    columns, widths = _fitting(rows, width - len(_GAP))
    yield line((_joined(list(columns), columns, widths), "dim"), indent=2, whole=True)
    for backbone, group in groupby(rows, key=lambda row: row.backbone):
        yield line((backbone, "bold"), whole=True)
        for row in group:
            cells = [_cut(row.cell(column), widths[column]) for column in columns]
            before, after = columns.index("state"), columns.index("state") + 1
            yield line(
                _joined(cells[:before], columns[:before], widths) + _GAP if before else "",
                (row.state.ljust(widths["state"]), STYLES[row.state]),
                _GAP + _joined(cells[after:], columns[after:], widths) if cells[after:] else "",
                indent=2,
                whole=True,
            )
            if row.own:
                yield line((row.own, "dim"), indent=6)
    yield line()
    for target, why in dict.fromkeys((row.target, row.elsewhere) for row in rows):
        if why:
            yield line(f"{target} cannot be built here: ", (why, "dim"))


def _fitting(rows: list[_Row], width: int) -> tuple[tuple[str, ...], dict[str, int]]:
    """The columns that there is room for and something to say in, and how wide each is."""
    widths = {
        column: max(len(column), *(len(row.cell(column)) for row in rows))
        for column in _HEAD
        if any(row.cell(column) for row in rows)
    }
    for column in _ROOM_GOES_FIRST:
        if _sum(widths) > width:
            widths.pop(column, None)
    if _sum(widths) > width:
        widths["target"] = max(widths["target"] - (_sum(widths) - width), 6)
    return tuple(widths), widths


def _sum(widths: dict[str, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _joined(cells: list[str], columns: tuple[str, ...], widths: dict[str, int]) -> str:
    return _GAP.join(
        cell.rjust(widths[column]) if column in _RIGHT else cell.ljust(widths[column])
        for cell, column in zip(cells, columns, strict=True)
    )


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
