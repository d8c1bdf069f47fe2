"""The page: contents, pictures and template become one HTML file that loads nothing."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any

from ..engine_job import UnknownEngine
from ..errors import RuntimeUnavailableError
from ..figures import duration, megabytes
from ..recipe import role_in_words
from ..status import EngineStatus
from . import charts, timeline
from .charts import Bar, bar_chart
from .contents import STATES, Section, by_state, reasons, state
from .measures import measures
from .words import clipped, count_text, figure_text, lacking, moment_text, printable, span_text


def render(sections: Sequence[Section], *, version: str, now: datetime) -> bytes:
    """The report as an HTML document; all that it says is said in it, and its pictures are inline.

    Args:
        sections: The corpora.
        version: This package's version.
        now: The date that it bears.

    Raises:
        RuntimeUnavailableError: The extra `report` is not installed.
    """
    try:
        import vl_convert  # noqa: F401
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except (ImportError, OSError) as error:
        raise RuntimeUnavailableError(
            f"the report needs {lacking(error)}; install it with: pip install 'enginery[report]'"
        ) from error
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(_FILTERS)
    environment.globals.update(_GLOBALS)
    style, script = _part("page.css"), _part("page.js")
    page = environment.from_string(_part("page.html.j2")).render(
        sections=sections,
        engines=[one for section in sections for one in section.engines],
        pictures=[
            {name: Markup(svg) for name, svg in _pictures(section, f"c{place}").items()}  # noqa: S704
            for place, section in enumerate(sections, start=1)
        ],
        version=version,
        now=now,
        style=Markup(style),  # noqa: S704 - our own
        script=Markup(script),  # noqa: S704 - our own
        policy=_policy(style, script),
    )
    return page.encode("utf-8", "replace")


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8").strip()


def _policy(style: str, script: str) -> str:
    """What a browser may do with the page: show it, with this style and this script."""
    style_hash, script_hash = (
        f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in (style, script)
    )
    return (
        f"default-src 'none'; style-src {style_hash}; script-src {script_hash}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _pictures(section: Section, name: str) -> dict[str, str]:
    """The pictures of a corpus, each for a desk and for a phone, side by side."""
    found = {}
    there = [one for one in section.engines if one.size is not None]
    if there:
        sizes = [_bar(section, one, one.size or 0, megabytes(one.size or 0)) for one in there]
        found["sizes"] = "".join(
            bar_chart(sizes, size, title="Sizes of engines", name=f"{name}-sizes")
            for size in charts.WIDTHS
        )
    built = [(one, one.build_s) for one in there if one.build_s is not None]
    if built:
        times = [_bar(section, one, seconds, span_text(seconds)) for one, seconds in built]
        found["times"] = "".join(
            bar_chart(times, size, title="Build times of engines", name=f"{name}-times")
            for size in charts.WIDTHS
        )
    if section.last_run is not None and section.last_run.tasks:
        run = section.last_run
        found["timeline"] = "".join(
            timeline.timeline(run, size, name=f"{name}-run") for size in timeline.WIDTHS
        )
    return found


def _bar(section: Section, one: EngineStatus, value: float, text: str) -> Bar:
    targets = {engine.job.target for engine in section.engines}
    label = f"{one.job.target} {one.precision}" if len(targets) > 1 else str(one.precision)
    words = text if one.fresh else f"{text}, {state(one)}"
    return Bar(one.job.name, label, value, words, faint=not one.fresh)


def _option(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _columns(section: Section) -> list[tuple[str, list[str]]]:
    """Targets of a corpus, each with the precisions in which something is built for it."""
    found: dict[str, dict[str, None]] = {}
    for one in section.engines:
        found.setdefault(one.job.target, {})[str(one.precision)] = None
    return [(target, list(precisions)) for target, precisions in found.items()]


def _matrix(section: Section) -> dict[str, dict[tuple[str, str], tuple[int, EngineStatus]]]:
    """Backbone to its engines by target and precision, each with its place in the section."""
    found: dict[str, dict[tuple[str, str], tuple[int, EngineStatus]]] = {}
    for place, one in enumerate(section.engines, start=1):
        key = one.job.target, str(one.precision)
        found.setdefault(one.job.name, {})[key] = (place, one)
    return found


_FILTERS: dict[str, Callable[..., object]] = {
    "size": megabytes,
    "duration": duration,
    "span": span_text,
    "moment": moment_text,
    "figure": figure_text,
    "count": count_text,
    "role": role_in_words,
    "option": _option,
    "printable": printable,
    "clipped": clipped,
}

_GLOBALS: dict[str, Any] = {
    "STATES": STATES,
    "columns": _columns,
    "drawn": timeline.drawn,
    "by_state": by_state,
    "matrix": _matrix,
    "measures": measures,
    "reasons": reasons,
    "state": state,
    "is_unknown": lambda job: isinstance(job, UnknownEngine),
}
