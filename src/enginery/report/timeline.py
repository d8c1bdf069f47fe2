"""The last run as a timeline: a bar per task, from when it began until it ended.

A run may have thousands of tasks; the longest are drawn, and the table has them all.
"""

from __future__ import annotations

from typing import Any

from .drawing import draw
from .last_run import UNFINISHED, LastRun, TaskRun
from .words import count_text, printable, span_text

WIDTHS = {"wide": 1104, "narrow": 344}
"""Width in pixels, on a desk and on a phone, where it is shown at its own size."""

OUTCOMES = ("built", "restored", "reused", "done", "failed", UNFINISHED)
"""Outcomes that have a colour of their own; another word has that of "done"."""

DRAWN = 200
"""How many tasks are drawn."""

_AXIS = 22
_LETTER = 6.6
_LABEL = 150  # room for "12 min 34 s, unfinished" at the end of a bar
_UNITS = ((3 * 86400, 86400, "d"), (3 * 3600, 3600, "h"), (180, 60, "min"), (0, 1, "s"))
"""From how many seconds on an axis has a unit, the seconds in it, and its name."""

_AT: dict[str, Any] = {"field": "y", "type": "quantitative", "scale": None, "axis": None}


def drawn(run: LastRun) -> tuple[TaskRun, ...]:
    """The tasks of a run that are drawn, in the order in which they began."""
    if len(run.tasks) <= DRAWN:
        return run.tasks
    longest = sorted(run.tasks, key=lambda task: task.duration_s, reverse=True)[:DRAWN]
    return tuple(sorted(longest, key=lambda task: task.begin_s))


def timeline(run: LastRun, size: str, *, name: str) -> str:
    """The timeline of a run in which a task ran, as an `svg` element.

    Args:
        run: The run.
        size: One of `WIDTHS`.
        name: Prefix of its ids, which no other picture of the page has.
    """
    width, stacked = WIDTHS[size], size == "narrow"
    tasks, (unit_s, unit) = drawn(run), _unit(run.duration_s)
    row = 36 if stacked else 22
    gutter = 0 if stacked else _gutter(tasks, width)
    room = 8 if stacked else _LABEL
    height = row * len(tasks)
    across = {
        "type": "quantitative",
        "scale": {"domain": [0, (run.duration_s or 1.0) / unit_s], "range": [gutter, width - room],
                  "nice": False},
        "axis": _axis(unit, 3 if stacked else 8),
    }  # fmt: skip
    rows = [_row(task, place * row, stacked, unit_s) for place, task in enumerate(tasks)]
    return draw(
        {
            "width": width,
            "height": height,
            "data": {"values": rows},
            "layer": [
                _texts("task", 0, (width - 140 if stacked else gutter - 14), "var(--ink)"),
                {
                    # The stroke has what took no time at all seen, too.
                    "mark": {"type": "bar", "height": 10, "strokeWidth": 1.5},
                    "encoding": {
                        "x": {"field": "begin", **across},
                        "x2": {"field": "end"},
                        "y": {**_AT, "field": "bar"},
                        "fill": {"field": "fill", "type": "nominal", "scale": None},
                        "stroke": {"field": "fill", "type": "nominal", "scale": None},
                    },
                },
                _words_at_right(width) if stacked else _words_at_end(across),
            ],
        },
        title="Timeline of the last run",
        description=_description(run, tasks),
        name=f"{name}-{size}",
        css=size,
        above=_AXIS,
    )


def _unit(duration_s: float) -> tuple[int, str]:
    return next((size, unit) for least, size, unit in _UNITS if duration_s >= least)


def _gutter(tasks: tuple[TaskRun, ...], width: int) -> int:
    longest = max(len(task.task) for task in tasks)
    return min(round(longest * _LETTER) + 20, round(width * 0.3))


def _row(task: TaskRun, top: int, stacked: bool, unit_s: int) -> dict[str, Any]:
    outcome = task.outcome if task.outcome in OUTCOMES else "done"
    return {
        "task": printable(task.task),
        "y": top + (12 if stacked else 11),
        "bar": top + (27 if stacked else 11),
        "begin": task.begin_s / unit_s,
        "end": (task.begin_s + task.duration_s) / unit_s,
        "words": printable(f"{span_text(task.duration_s)}, {task.outcome}"),
        "fill": f"var(--{outcome})",
    }


def _axis(unit: str, ticks: int) -> dict[str, Any]:
    """An axis on top, with a faint line at each figure."""
    return {
        "orient": "top", "tickCount": ticks, "title": None, "domain": False,
        "ticks": False, "labelExpr": f"datum.label + ' {unit}'", "labelColor": "var(--muted)",
        "labelFontSize": 11, "labelPadding": 6, "grid": True, "gridColor": "var(--rule)",
        "labelFlush": True,
    }  # fmt: skip


def _texts(field: str, x: int, limit: int, fill: str) -> dict[str, Any]:
    mark = {"type": "text", "align": "left", "baseline": "middle", "fontSize": 12, "x": x,
            "fill": fill, "limit": limit}  # fmt: skip
    return {"mark": mark, "encoding": {"y": _AT, "text": {"field": field, "type": "nominal"}}}


def _words_at_end(across: dict[str, Any]) -> dict[str, Any]:
    mark = {"type": "text", "align": "left", "baseline": "middle", "dx": 8, "fontSize": 12,
            "fill": "var(--muted)"}  # fmt: skip
    return {
        "mark": mark,
        "encoding": {
            "x": {"field": "end", **across},
            "y": {**_AT, "field": "bar"},
            "text": {"field": "words", "type": "nominal"},
        },
    }


def _words_at_right(width: int) -> dict[str, Any]:
    layer = _texts("words", width, 136, "var(--muted)")
    layer["mark"]["align"] = "right"
    return layer


def _description(run: LastRun, tasks: tuple[TaskRun, ...]) -> str:
    longest = max(tasks, key=lambda task: task.duration_s)
    of_all = f" of {len(run.tasks)}, the longest" if len(tasks) < len(run.tasks) else ""
    return (
        f"Bars for {count_text(len(tasks), 'task')}{of_all}, over {span_text(run.duration_s)}. The "
        f"longest is {longest.task} with {span_text(longest.duration_s)}. The table below has all "
        "of them."
    )
