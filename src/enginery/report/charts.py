"""Bars: one per engine, those of a backbone together, each with its figure at its end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec

from .drawing import draw
from .words import count_text, printable

WIDTHS = {"wide": 528, "narrow": 344}
"""Width of a chart in pixels, on a desk and on a phone, where it is shown at its own size."""

_ROW, _HEAD, _GAP, _BAR = 20, 22, 14, 12
_FIGURE = 116  # room for "812.4 MB, damaged" at the end of a bar
_LETTER = 6.6


class Bar(msgspec.Struct, frozen=True):
    """A bar.

    Attributes:
        group: What it belongs to, shown above the bars of the group.
        label: What it is.
        value: Its length.
        text: Its figure, in words.
        faint: Whether it is drawn faint, since it is not to be relied on.
    """

    group: str
    label: str
    value: float
    text: str
    faint: bool = False


def bar_chart(bars: Sequence[Bar], size: str, *, title: str, name: str) -> str:
    """A chart, as an `svg` element.

    Args:
        bars: The bars; those of a group follow each other.
        size: One of `WIDTHS`.
        title: What it is, for screen readers.
        name: Prefix of its ids, which no other picture of the page has.
    """
    width = WIDTHS[size]
    rows, heads, height = _placed(bars)
    gutter = min(round(max(len(bar.label) for bar in bars) * _LETTER) + 12, round(width * 0.42))
    across = {
        "field": "value",
        "type": "quantitative",
        "axis": None,
        "scale": {
            "domain": [0, max(bar.value for bar in bars) or 1.0],
            "range": [gutter, width - _FIGURE],
            "nice": False,
        },
    }
    return draw(
        {
            "width": width,
            "height": height,
            "layer": [
                _head_layer(heads, width),
                _label_layer(rows, gutter - 10),
                {
                    "data": {"values": rows},
                    "mark": {"type": "bar", "height": _BAR},
                    "encoding": {
                        "x": across,
                        "x2": {"datum": 0},
                        "y": _AT,
                        "fill": {"field": "fill", "type": "nominal", "scale": None},
                    },
                },
                {
                    "data": {"values": rows},
                    "mark": {"type": "text", "align": "left", "baseline": "middle", "dx": 7,
                             "fontSize": 12, "fill": "var(--ink)"},
                    "encoding": {"x": across, "y": _AT,
                                 "text": {"field": "text", "type": "nominal"}},
                },
            ],
        },
        title=title,
        description=_description(bars),
        name=f"{name}-{size}",
        css=size,
    )  # fmt: skip


_AT: dict[str, Any] = {"field": "y", "type": "quantitative", "scale": None, "axis": None}


def _placed(bars: Sequence[Bar]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    rows: list[dict[str, Any]] = []
    heads: list[dict[str, Any]] = []
    y = 0
    for group, members in groupby(bars, key=lambda bar: bar.group):
        y += _GAP if heads else 0
        heads.append({"y": y + _HEAD // 2 - 2, "group": printable(group)})
        y += _HEAD
        for bar in members:
            rows.append(
                {
                    "y": y + _ROW / 2,
                    "label": printable(bar.label),
                    "value": bar.value,
                    "text": printable(bar.text),
                    "fill": "var(--bar-faint)" if bar.faint else "var(--bar)",
                }
            )
            y += _ROW
    return rows, heads, y


def _head_layer(heads: list[dict[str, Any]], width: int) -> dict[str, Any]:
    mark = {"type": "text", "align": "left", "baseline": "middle", "fontSize": 13, "x": 0,
            "fontWeight": 600, "fill": "var(--ink)", "limit": width}  # fmt: skip
    return {
        "data": {"values": heads},
        "mark": mark,
        "encoding": {"y": _AT, "text": {"field": "group", "type": "nominal"}},
    }


def _label_layer(rows: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    mark = {"type": "text", "align": "left", "baseline": "middle", "fontSize": 12, "x": 0,
            "fill": "var(--muted)", "limit": limit}  # fmt: skip
    return {
        "data": {"values": rows},
        "mark": mark,
        "encoding": {"y": _AT, "text": {"field": "label", "type": "nominal"}},
    }


def _description(bars: Sequence[Bar]) -> str:
    largest = max(bars, key=lambda bar: bar.value)
    return (
        f"Bars for {count_text(len(bars), 'engine')}. The longest is {largest.group} "
        f"{largest.label} with {largest.text}. The table below has all figures."
    )
