"""A plan in words: a line per engine, then the workers, then what it comes to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..farm.plan_document import DeviceDocument, courses, totals
from ..farm.planning import Course, Plan, Planned
from ..figures import duration
from .screen import Line, line

STYLES = {
    Course.FRESH: "green",
    Course.STORED: "green",
    Course.HERE: "yellow",
    Course.FARM: "yellow",
    Course.NOBODY: "red",
    Course.LEFT_OUT: "dim",
}

_HEAD = ("task", "plan", "by", "time")
_GAP = "  "
_SHOWN = 12


def plan_lines(plan: Plan) -> Iterator[Line]:
    """The engines of a plan, who builds them, and the totals."""
    rows = [_cells(one) for one in plan.engines]
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    yield line((_joined(_HEAD, widths) + _GAP + "reason", "dim"))
    for one, row in zip(plan.engines, rows, strict=True):
        before, state, after = row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2:]
        reason = _GAP + one.reason if one.reason else ""
        tail = _joined(after, widths[2:]) + reason
        yield line(before + _GAP, (state, STYLES[one.course]), (_GAP + tail).rstrip())
    yield from _worker_lines(plan)
    yield from _summary(plan)


def device_lines(devices: Sequence[DeviceDocument]) -> Iterator[Line]:
    """What each kind of device has."""
    for one in devices:
        backbones = len(one.engines) + len(one.without)
        served = len(one.engines) - len(one.unbuilt)
        counted = [f"{n} {Course(name)}" for name, n in one.courses.items() if n]
        devices_text = f"{one.count} device{'' if one.count == 1 else 's'}"
        yield line(
            (one.kind, "bold"), f": {devices_text}, engines for {served} of {backbones} "
            f"backbones{': ' + ', '.join(counted) if counted else ''}",
        )  # fmt: skip
        if backbones <= _SHOWN:
            for name, tasks in one.engines.items():
                if name not in one.unbuilt:
                    yield line(f"{name}: {', '.join(tasks)}", indent=2)
        if one.without:
            yield line(("no engine for: ", "red"), _list(one.without), indent=2)
        if one.unbuilt:
            yield line(("built by nobody: ", "red"), _list(one.unbuilt), indent=2)


def _cells(one: Planned) -> tuple[str, str, str, str]:
    by = "" if one.assigned is None else one.assigned.worker
    return (one.job.task, str(one.course), by or "-", _time(one))


def _time(one: Planned) -> str:
    chosen = one.chosen
    if chosen is None:
        return "-"
    if chosen.seconds is None:
        return "?"
    return duration(chosen.seconds) + (" *" if chosen.assumed else "")


def _worker_lines(plan: Plan) -> Iterator[Line]:
    """Each worker that has something to build, and those that have not."""
    count: dict[str, int] = {}
    busy: dict[str, float] = {}
    for one in plan.schedule.assigned:
        count[one.worker] = count.get(one.worker, 0) + 1
        busy[one.worker] = max(busy.get(one.worker, 0.0), one.finish)
    idle = []
    for kind in plan.kinds:
        for worker in kind.builders:
            if worker.name in count:
                until = f", done after {duration(busy[worker.name])}" if plan.timed else ""
                yield line(f"{worker.name}: {_builds(count[worker.name])}{until}")
            elif worker.address is not None:
                idle.append(worker.name)
    if idle:
        yield line(("with nothing to build: ", "dim"), _list(idle))


def _summary(plan: Plan) -> Iterator[Line]:
    total, counted = totals(plan), courses(plan.engines)
    kinds = [f"{n} {Course(name)}" for name, n in counted.items() if n]
    engines = len(plan.engines)
    yield line(f"{engines} engine{'' if engines == 1 else 's'}: {', '.join(kinds) or 'none'}")
    if not total.builds:
        return
    if not plan.timed:
        yield line(f"{_builds(total.builds)}; no earlier build to go by, so no time is known")
        return
    yield line(
        f"{_builds(total.builds)}, {duration(total.work_s or 0)} of work; done after about "
        f"{duration(total.makespan_s or 0)}, at best {duration(total.bound_s or 0)}"
    )
    yield line(f"longest path: {total.longest}, {duration(total.longest_s or 0)}")
    if total.assumed:
        yield line(
            f"* not known of {total.assumed} of {_builds(total.builds)}: the median of the others"
        )


def _builds(number: int) -> str:
    return f"{number} build{'' if number == 1 else 's'}"


def _joined(cells: Iterable[str], widths: Iterable[int]) -> str:
    return _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))


def _list(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
